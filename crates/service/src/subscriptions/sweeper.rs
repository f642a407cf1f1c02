//! The period job: subscriptions end, or turn to their next period and give its credits.
//!
//! It may run late, twice, or in many processes at once (see [`super::change`]).

use super::{change, store};
use crate::app::App;
use crate::db::DbError;
use crate::writer::WriteError;
use kernel::Timestamp;

/// How many subscriptions are looked at in one go.
const AT_ONCE: i64 = 100;

/// Does what is due; one subscription that cannot be turned does not hold up the others.
///
/// # Errors
/// The last of them, for the log.
pub async fn sweep(app: &App) -> Result<(), WriteError> {
    let unavailable = |error: DbError| WriteError::Unavailable(error.to_string());
    let (mut after, mut failed) = ((Timestamp::default(), 0), None);
    loop {
        let due = store::due(&app.db, app.clock.now(), after, AT_ONCE).await.map_err(unavailable)?;
        let Some(last) = due.last() else { return failed.map_or(Ok(()), Err) };
        after = (last.due_at, last.id);
        for subscription in due {
            let id = subscription.id;
            if let Err(error) = change::turn(app, subscription).await {
                tracing::warn!(subscription = id, %error, "a subscription was not turned; it is tried again");
                failed = Some(error);
            }
        }
    }
}
