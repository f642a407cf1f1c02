//! What of limits is done by and by: buckets go that are of no use any more.
//!
//! A counter that is used removes its own old buckets. What is left is what nobody uses again, such as
//! the count of a session that is over. Nothing depends on it: what has left its window is not counted.

use super::model::{Limit, kept_since};
use crate::app::App;
use crate::db::{DbError, FromRow, Row, Value};
use crate::writer::{Command, Edit, Statement, WriteError};
use kernel::{Timestamp, UserRowId};
use std::collections::BTreeMap;

/// How many buckets are looked at at once.
const AT_ONCE: i64 = 1_000;
/// How many times that is done in one go; the next go continues where this one stopped.
const TIMES: usize = 10;

/// Where a walk along the counters is: the last bucket that it looked at.
#[derive(Debug, Default)]
pub struct Walk(Option<Place>);

#[derive(Debug, Clone)]
struct Place {
    user: UserRowId,
    limit: String,
    value: String,
    bucket: i64,
}

impl FromRow for Place {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self {
            user: UserRowId(row.int(0)?),
            limit: row.text(1)?,
            value: row.text(2)?,
            bucket: row.int(3)?,
        })
    }
}

impl Walk {
    /// Removes what is of no use from the next few thousand buckets; after the last comes the first.
    ///
    /// # Errors
    /// A sentence for the log.
    pub async fn sweep(&mut self, app: &App) -> Result<(), WriteError> {
        for _ in 0..TIMES {
            let found = self.next(app).await.map_err(|error| WriteError::Unavailable(error.to_string()))?;
            for edit in removals(&found, app.clock.now()) {
                app.writer.execute(Command::Edit(edit)).await?;
            }
            self.0 = found.last().cloned();
            if self.0.is_none() {
                break;
            }
        }
        Ok(())
    }

    async fn next(&self, app: &App) -> Result<Vec<Place>, DbError> {
        let sql = "SELECT user_id, limit_key, value, bucket FROM spending_counters \
            WHERE (user_id, limit_key, value, bucket) > ($1, $2, $3, $4) \
            ORDER BY user_id, limit_key, value, bucket LIMIT $5";
        let start =
            Place { user: UserRowId(i64::MIN), limit: String::new(), value: String::new(), bucket: 0 };
        let Place { user, limit, value, bucket } = self.0.clone().unwrap_or(start);
        let values = vec![
            user.0.into(),
            Value::from(limit.as_str()),
            Value::from(value.as_str()),
            bucket.into(),
            AT_ONCE.into(),
        ];
        app.db.query(sql, values).await
    }
}

/// What removes the buckets that are of no use at `now`: an edit per user, a statement per counter.
fn removals(found: &[Place], now: Timestamp) -> Vec<Edit> {
    let sql =
        "DELETE FROM spending_counters WHERE user_id = $1 AND limit_key = $2 AND value = $3 AND bucket < $4";
    let mut users: BTreeMap<UserRowId, BTreeMap<(&str, &str), i64>> = BTreeMap::new();
    for Place { user, limit, value, bucket } in found {
        // A name that is no limit's cannot count for anything.
        let kept = Limit::window_of_key(limit).map_or(i64::MAX, |window| kept_since(window, now));
        if *bucket < kept {
            users.entry(*user).or_default().insert((limit, value), kept);
        }
    }
    let edits = users.into_iter().map(|(user, counters)| {
        let statements = counters.into_iter().map(|((limit, value), kept)| {
            Statement::any(sql, vec![user.0.into(), limit.into(), value.into(), kept.into()])
        });
        Edit::new(user, statements.collect())
    });
    edits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_left_its_window_is_removed() {
        let now: Timestamp = "2025-07-27T12:00:00Z".parse().expect("an instant");
        let place = |user, limit: &str, value: &str, ago: i64| Place {
            user: UserRowId(user),
            limit: limit.to_owned(),
            value: value.to_owned(),
            bucket: now.micros() - ago * 60_000_000,
        };
        let found = [
            place(1, "session.each.tokens.60m.a", "s1", 120),
            place(1, "session.each.tokens.60m.a", "s1", 70),
            place(1, "session.each.tokens.60m.a", "s2", 65),
            place(1, "user.each.tokens.month.b", "", 120),
            place(2, "user.each.tokens.hour.a.b", "", 121),
            place(3, "user.each.tokens.day.a", "", 720),
        ];
        let edits = removals(&found, now);
        let removed: Vec<_> = edits.iter().map(|edit| (edit.user.0, edit.statements.len())).collect();
        assert_eq!(removed, [(1, 1), (2, 1)]);
        let minutes = |ago: i64| Value::from(now.micros() - ago * 60_000_000 + 1);
        let key = ["session.each.tokens.60m.a", "s1"].map(Value::from);
        assert_eq!(edits[0].statements[0].values[1..3], key);
        assert_eq!(edits[0].statements[0].values[3], minutes(66));
    }
}
