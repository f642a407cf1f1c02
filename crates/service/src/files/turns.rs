//! Turns to receive an upload: so many in all, and so many of one user, so that nobody takes them all.

use crate::http::ApiError;
use kernel::UserRowId;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// How many uploads one process receives at a time.
pub const UPLOADS_MAX: usize = 64;
/// How many of them may be one user's.
pub const OF_USER_MAX: usize = 16;
/// How long an upload waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);

/// The turns of a process.
pub struct Turns {
    all: Semaphore,
    of_users: Mutex<HashMap<UserRowId, Arc<Semaphore>>>,
}

/// A turn; given back when dropped.
pub struct Turn<'a> {
    own: Option<OwnedSemaphorePermit>,
    _place: SemaphorePermit<'a>,
    user: UserRowId,
    turns: &'a Turns,
}

impl Default for Turns {
    fn default() -> Self {
        Self { all: Semaphore::new(UPLOADS_MAX), of_users: Mutex::default() }
    }
}

impl Turns {
    /// Waits for a turn.
    ///
    /// # Errors
    /// 503 when there is none for ten seconds.
    pub async fn take(&self, user: UserRowId) -> Result<Turn<'_>, ApiError> {
        let own = Arc::clone(
            self.of_users.lock().entry(user).or_insert_with(|| Arc::new(Semaphore::new(OF_USER_MAX))),
        );
        let both = async { Some((own.acquire_owned().await.ok()?, self.all.acquire().await.ok()?)) };
        let taken = tokio::time::timeout(TURN_TIMEOUT, both).await.ok().flatten();
        let Some((own, place)) = taken else {
            self.forget(user);
            return Err(ApiError::unavailable(
                "Too many uploads are under way; try again",
                "no turn for the upload",
            ));
        };
        Ok(Turn { own: Some(own), _place: place, user, turns: self })
    }

    /// Keeps nothing of a user who neither has a turn nor waits for one.
    fn forget(&self, user: UserRowId) {
        let mut of_users = self.of_users.lock();
        if of_users.get(&user).is_some_and(|own| Arc::strong_count(own) == 1) {
            of_users.remove(&user);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.own = None;
        self.turns.forget(self.user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_user_cannot_take_them_all() {
        let (turns, greedy, other) = (Turns::default(), UserRowId(1), UserRowId(2));
        let mut held = Vec::new();
        for _ in 0..OF_USER_MAX {
            held.push(turns.take(greedy).await.expect("a turn"));
        }
        assert!(turns.take(greedy).await.is_err(), "after ten seconds");
        assert!(turns.take(other).await.is_ok());
        held.pop();
        assert!(turns.take(greedy).await.is_ok());
        drop(held);
        assert!(turns.of_users.lock().is_empty(), "nothing is kept of who is done");
    }

    #[tokio::test(start_paused = true)]
    async fn all_together_have_so_many() {
        let turns = Turns::default();
        let mut held = Vec::new();
        for n in 0..UPLOADS_MAX {
            held.push(turns.take(UserRowId(n as i64)).await.expect("a turn"));
        }
        assert!(turns.take(UserRowId(1_000)).await.is_err());
        held.pop();
        assert!(turns.take(UserRowId(1_000)).await.is_ok());
    }
}
