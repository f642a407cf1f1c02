//! The way of a flush through the writer.

use super::Shared;
use super::flush::{Flush, GUARD};
use super::sender::End;
use crate::writer::{Command, Edit, WriteError};
use kernel::UserRowId;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The pause before a write that did not succeed is tried again, at first and at most; it doubles in between.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How many times as long as a flush took, and how long at most, the next one of this process waits: a writer that is busy with
/// requests is slow to flush, and so is left to them.
const REST_TIMES: u32 = 3;
const REST_MAX: Duration = Duration::from_millis(250);

/// Writes until it is written.
///
/// # Errors
/// [`End`] when this process does not send to the endpoint any more.
pub async fn write(shared: Arc<Shared>, flush: Flush) -> Result<(), End> {
    let mut pause = PAUSE_MIN;
    loop {
        let turn = shared.writing.acquire().await;
        let began = Instant::now();
        let edit = Edit::new(UserRowId(0), flush.statements(&shared.db));
        match shared.writer.execute(Command::Edit(edit)).await {
            Ok(_) => {
                if !shared.stopping.load(Ordering::Relaxed) {
                    tokio::time::sleep((began.elapsed() * REST_TIMES).min(REST_MAX)).await;
                }
                return Ok(());
            }
            Err(WriteError::Refused(GUARD)) => return Err(End::Lost),
            Err(error) => {
                drop(turn);
                tracing::warn!(endpoint = %flush.endpoint_id, %error, "what came of deliveries was not written; it is tried again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}
