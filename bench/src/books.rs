//! The books: what the service has stored against what it has acknowledged.

use crate::Fallible;
use crate::api::Api;
use crate::cases::Books;
use crate::users::User;
use serde::Serialize;
use std::time::{Duration, Instant};

/// A request's own limit in the service is 30 s.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// The state of the books before a row is driven.
pub struct Opening {
    books: Books,
    total: i128,
}

/// What a row acknowledged, and what it left in the books, in requests.
#[derive(Debug, Clone, Serialize)]
pub struct Closing {
    /// Requests answered with success.
    pub acknowledged: u64,
    /// Requests whose effect is stored.
    pub stored: i128,
    /// Whether every acknowledged one is stored, and no more than were under way at the cut-off beside them.
    pub balanced: bool,
}

/// Reads the books before a row; none when the row changes nothing.
pub async fn open(api: &Api, users: &[User], books: Books) -> Fallible<Option<Opening>> {
    Ok(Some(Opening { books, total: total(api, users, books).await? }).filter(|_| books != Books::None))
}

impl Opening {
    /// Reads the books again. `in_flight` requests may be stored without having been acknowledged: those
    /// that were under way when the load generator hung up.
    pub async fn close(
        self,
        api: &Api,
        users: &[User],
        acknowledged: u64,
        in_flight: usize,
    ) -> Fallible<Closing> {
        let moved = self.settled(api, users).await? - self.total;
        let unit = match self.books {
            Books::None | Books::Messages => 1,
            Books::Credits(micros) => -micros,
            Books::Usage(records) => records as i128,
        };
        let stored = moved / unit;
        let surplus = stored - i128::from(acknowledged);
        let balanced = moved % unit == 0 && (0..=in_flight as i128).contains(&surplus);
        Ok(Closing { acknowledged, stored, balanced })
    }
}

impl Opening {
    /// The total once it stands still: what was under way at the cut-off may still be finishing.
    async fn settled(&self, api: &Api, users: &[User]) -> Fallible<i128> {
        let begun = Instant::now();
        let mut before = total(api, users, self.books).await?;
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = total(api, users, self.books).await?;
            if now == before {
                return Ok(now);
            }
            if begun.elapsed() > SETTLE_LIMIT {
                return Err("the books still move though nobody sends anything".into());
            }
            before = now;
        }
    }
}

async fn total(api: &Api, users: &[User], books: Books) -> Fallible<i128> {
    match books {
        Books::None => Ok(0),
        Books::Credits(_) => Ok(api.balances(users).await?.iter().sum()),
        Books::Usage(_) => api.records(users).await,
        Books::Messages => api.messages(users).await,
    }
}
