//! The books: what the service has stored against what it has acknowledged.

use crate::Fallible;
use crate::api::Api;
use crate::bodies::CONSUME_MICROS;
use crate::cases::Books;
use crate::users::User;
use serde::Serialize;

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
        let moved = total(api, users, self.books).await? - self.total;
        let unit = match self.books {
            Books::None => 1,
            Books::Credits => -CONSUME_MICROS,
            Books::Usage(records) => records as i128,
        };
        let stored = moved / unit;
        let surplus = stored - i128::from(acknowledged);
        let balanced = moved % unit == 0 && (0..=in_flight as i128).contains(&surplus);
        Ok(Closing { acknowledged, stored, balanced })
    }
}

async fn total(api: &Api, users: &[User], books: Books) -> Fallible<i128> {
    match books {
        Books::None => Ok(0),
        Books::Credits => Ok(api.balances(users).await?.iter().sum()),
        Books::Usage(_) => api.records(users).await,
    }
}
