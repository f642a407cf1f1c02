//! A session's stream: its messages in their order, then perhaps its end.

use super::store;
use super::stream::{AT_ONCE, Read, Source};
use crate::app::App;
use crate::db::DbError;
use crate::sessions::SessionRef;
use crate::sessions::messages::MessageView;
use crate::sessions::store::{Stretch, messages};
use serde::Serialize;
use std::sync::Arc;

/// The last event of a session that was deleted.
#[derive(Serialize)]
struct Deleted<'a> {
    session_id: &'a str,
}

/// The messages of a session after one of them.
pub struct Messages {
    /// Where to read.
    pub app: Arc<App>,
    /// Of which session.
    pub session: SessionRef,
    /// The cursor: the number of the last message that was sent.
    pub seq: i64,
}

impl Source for Messages {
    async fn read(&mut self) -> Result<Read, DbError> {
        let mut read = Read::default();
        let Some(last) = store::last_message(&self.app.db, self.session.row).await? else {
            read.event("deleted", None, &Deleted { session_id: &self.session.session_id });
            read.end();
            return Ok(read);
        };
        if last <= self.seq {
            return Ok(read);
        }
        let wanted = Stretch { after: Some((self.seq, 0)), offset: 0, limit: AT_ONCE };
        let page = messages(&self.app.db, self.session.row, wanted).await?;
        for message in page.rows {
            self.seq = message.seq;
            read.event("message", Some(&self.seq), &MessageView::of_stored(message, &self.session.auth0_id));
        }
        if page.more {
            read.read_on();
        }
        Ok(read)
    }
}
