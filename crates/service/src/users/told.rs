//! What others were told of a user that is erased: it goes with the rest, but for the last words.
//!
//! That the user is deleted, and that its plan is over, is heard first: until then those two events stay, with nothing in them
//! that names a person but its id, and so long the erasure is not done. An endpoint that cannot be told holds them for
//! [`TOLD_WITHIN`] at most. Endpoints that name the user among those whom they are told of forget it then.

use super::scrub;
use crate::app::App;
use crate::db::{Db, DbError, FromRow, Row};
use crate::webhooks::delivery::retention;
use crate::writer::{Command, Edit, Statement, WriteError};
use kernel::{Timestamp, UserRowId};
use serde_json::{Value, json};
use std::time::Duration;

/// How long the last words wait for endpoints, from when the erasure was asked for.
pub const TOLD_WITHIN: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How many events are looked through at once.
const EVENTS_AT_ONCE: i64 = 5_000;
/// Of how many events what became of them is removed in one commit.
const REMOVED_AT_ONCE: usize = 100;
/// What the last words name of a person beside its id.
const NAMES: [&str; 2] = ["email", "name"];

/// One of the last events of a user, which were told when it was deleted.
struct LastWord {
    id: i64,
    auth0_id: String,
    body: String,
}

impl FromRow for LastWord {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let auth0_id = row.optional_text(1)?.unwrap_or_default();
        Ok(Self { id: row.int(0)?, auth0_id, body: row.text(2)? })
    }
}

/// The last words on a user. Their time is that of its deletion, and by time there is an index.
async fn last_words(db: &Db, user: UserRowId) -> Result<Vec<LastWord>, DbError> {
    let sql = "SELECT e.id, e.auth0_id, e.body FROM users u JOIN webhook_events e ON e.created_at = u.deleted_at \
        WHERE u.id = $1 AND e.user_id = $1 AND e.event_type IN ('user.deleted', 'subscription.ended') ORDER BY e.id";
    db.query(sql, vec![user.0.into()]).await
}

/// The text that finds an endpoint which is to be told of a last word and has not heard it.
macro_rules! awaited {
    ($position:literal) => {
        concat!(
            "SELECT w.id FROM users u JOIN webhook_events e ON e.created_at = u.deleted_at \
             JOIN webhook_subscriptions s ON s.event_type = e.event_type JOIN webhook_endpoints w ON w.id = s.endpoint \
             WHERE u.id = $1 AND e.user_id = $1 AND e.event_type IN ('user.deleted', 'subscription.ended') \
             AND w.status = 'enabled' AND (w.user_ids = '[]' OR REPLACE(w.user_ids, '\"' || e.auth0_id || '\"', '') <> w.user_ids) \
             AND (w.position < ",
            $position,
            " OR EXISTS (SELECT 1 FROM webhook_deliveries d WHERE d.endpoint = w.id AND d.event_id = e.id \
             AND d.status = 'pending')) LIMIT 1"
        )
    };
}

/// Whether an endpoint has not heard the last words yet.
async fn is_awaited(db: &Db, user: UserRowId) -> Result<bool, DbError> {
    let sql = match db {
        Db::Sqlite(_) => awaited!("e.id"),
        // One without a place is heard by nobody.
        Db::Postgres(_) => awaited!("COALESCE(e.position, 9223372036854775807)"),
    };
    Ok(db.find::<i64>(sql, &[user.0.into()]).await?.is_some())
}

/// Removes what others were told or are to be told of the user, but for the last words, which lose what they name. Whose an
/// event is has no index, so they are looked through, on a reader, from the first that is kept.
///
/// # Errors
/// [`WriteError`]; it can be done again.
pub async fn forget(app: &App, user: UserRowId) -> Result<(), WriteError> {
    // Endpoints that are gone leave deliveries, in which what they answered may name the user.
    retention::sweep(app).await?;
    let kept = last_words(&app.db, user).await?;
    let first = "SELECT id FROM webhook_events ORDER BY id LIMIT 1";
    let last = "SELECT id FROM webhook_events ORDER BY id DESC LIMIT 1";
    let Some(first) = app.db.find::<i64>(first, &[]).await? else { return Ok(()) };
    let last = app.db.find::<i64>(last, &[]).await?.unwrap_or(first);
    let mut after = first - 1;
    while after < last {
        let to = after.saturating_add(EVENTS_AT_ONCE);
        let sql = "SELECT id FROM webhook_events WHERE id > $1 AND id <= $2 AND user_id = $3 ORDER BY id";
        let mut found = app.db.query::<i64>(sql, vec![after.into(), to.into(), user.0.into()]).await?;
        found.retain(|id| kept.iter().all(|word| word.id != *id));
        remove(app, user, &found).await?;
        after = to;
    }
    for word in kept {
        let quiet = "UPDATE webhook_events SET body = $2 WHERE id = $1";
        let deliveries = "UPDATE webhook_deliveries SET log = '[]' WHERE event_id = $1 \
            AND endpoint IN (SELECT id FROM webhook_endpoints)";
        let statements = vec![
            Statement::any(quiet, vec![word.id.into(), without_names(&word.body).as_str().into()]),
            Statement::any(deliveries, vec![word.id.into()]),
        ];
        app.writer.execute(Command::Edit(Edit::new(user, statements))).await?;
    }
    Ok(())
}

fn without_names(body: &str) -> String {
    let mut body: Value = serde_json::from_str(body).unwrap_or_default();
    for name in NAMES {
        if let Some(member) = body.get_mut("data").and_then(|data| data.get_mut(name)) {
            *member = Value::Null;
        }
    }
    body.to_string()
}

/// Removes events with what became of them. What is under way of them is written under the lock of its endpoint, so behind
/// that lock it is either there already and removed, or finds no event any more.
async fn remove(app: &App, user: UserRowId, events: &[i64]) -> Result<(), WriteError> {
    let lock = match app.db {
        // There is one writer.
        Db::Sqlite(_) => None,
        Db::Postgres(_) => Some(
            "UPDATE webhook_endpoints SET leased_until = leased_until \
             WHERE id IN (SELECT id FROM webhook_endpoints ORDER BY id FOR UPDATE)",
        ),
    };
    for some in events.chunks(REMOVED_AT_ONCE) {
        let deliveries = "DELETE FROM webhook_deliveries WHERE event_id = $1 \
            AND endpoint IN (SELECT id FROM webhook_endpoints)";
        let event = "DELETE FROM webhook_events WHERE id = $1";
        let removed = some.iter().flat_map(|id| [deliveries, event].map(|sql| (sql, *id)));
        let removed = removed.map(|(sql, id)| Statement::any(sql, vec![id.into()]));
        let statements = lock.into_iter().map(|sql| Statement::any(sql, Vec::new())).chain(removed).collect();
        app.writer.execute(Command::Edit(Edit::new(user, statements))).await?;
    }
    Ok(())
}

/// Removes the last words once they are heard, or waited for too long; says whether they are gone.
///
/// # Errors
/// [`WriteError`]; it can be done again.
pub async fn end(app: &App, user: UserRowId, requested_at: Timestamp) -> Result<bool, WriteError> {
    let kept = last_words(&app.db, user).await?;
    if kept.is_empty() {
        return Ok(true);
    }
    if app.clock.now() < requested_at.plus(TOLD_WITHIN) && is_awaited(&app.db, user).await? {
        return Ok(false);
    }
    // The events say by which id endpoints know the user, so they go last.
    let names: Vec<String> = kept.iter().map(|word| word.auth0_id.clone()).collect();
    let statements = unlisted(app, user, &names).await?;
    match app.writer.execute(Command::Edit(Edit::new(user, statements))).await {
        Ok(_) => {}
        // An endpoint was changed in between.
        Err(WriteError::Refused(_)) => return Ok(false),
        Err(error) => return Err(error),
    }
    let ids: Vec<i64> = kept.iter().map(|word| word.id).collect();
    remove(app, user, &ids).await?;
    scrub::run(&app.db).await?;
    Ok(true)
}

/// The statements that take a user's ids from the lists of endpoints when it loses its names, so far as no last word has to find
/// an endpoint by them; refused where an endpoint was changed meanwhile.
///
/// # Errors
/// [`DbError`].
pub async fn leave(app: &App, user: UserRowId, auth0_id: &str) -> Result<Vec<Statement>, DbError> {
    let sql = "SELECT auth0_id FROM user_identities WHERE user_id = $1";
    let mut names: Vec<String> = app.db.query(sql, vec![user.0.into()]).await?;
    names.push(auth0_id.to_owned());
    let kept = last_words(&app.db, user).await?;
    names.retain(|name| kept.iter().all(|word| word.auth0_id != *name));
    unlisted(app, user, &names).await
}

/// The users that an endpoint is told of.
struct Listed(i64, String);

impl FromRow for Listed {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self(row.int(0)?, row.text(1)?))
    }
}

async fn unlisted(app: &App, user: UserRowId, names: &[String]) -> Result<Vec<Statement>, DbError> {
    let sql = "SELECT id, user_ids FROM webhook_endpoints WHERE user_ids <> '[]' ORDER BY id";
    let endpoints: Vec<Listed> = app.db.query(sql, vec![]).await?;
    let mut statements = Vec::new();
    for Listed(endpoint, user_ids) in endpoints {
        let Some((rest, is_nobody)) = without(&user_ids, names, user) else { continue };
        if is_nobody {
            tracing::warn!(endpoint, "an endpoint was disabled: the only user that it was told of is erased");
        }
        let sql = "UPDATE webhook_endpoints SET user_ids = $3, revision = revision + 1, updated_at = $5, \
            disabled_reason = CASE WHEN CAST($4 AS BIGINT) = 1 AND status = 'enabled' THEN 'by_request' ELSE disabled_reason END, \
            disabled_at = CASE WHEN CAST($4 AS BIGINT) = 1 AND status = 'enabled' THEN CAST($5 AS BIGINT) ELSE disabled_at END, \
            status = CASE WHEN CAST($4 AS BIGINT) = 1 THEN 'disabled' ELSE status END WHERE id = $1 AND user_ids = $2";
        let values = vec![
            endpoint.into(),
            user_ids.as_str().into(),
            rest.as_str().into(),
            i64::from(is_nobody).into(),
            app.clock.now().micros().into(),
        ];
        statements.push(Statement::one(sql, values));
    }
    Ok(statements)
}

/// A list of users without those names, where it has one, and whether it names nobody any more. An empty list would mean
/// everybody, so a name that is nobody's stays in it.
fn without(user_ids: &str, names: &[String], user: UserRowId) -> Option<(String, bool)> {
    let mut users: Vec<String> = serde_json::from_str(user_ids).ok()?;
    let before = users.len();
    users.retain(|user| !names.contains(user));
    if users.len() == before {
        return None;
    }
    let is_nobody = users.is_empty();
    if is_nobody {
        users.push(format!("erased:{}", user.0));
    }
    Some((json!(users).to_string(), is_nobody))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_loses_its_only_user_is_never_everybody() {
        let (alice, user) = (["auth0|alice".to_owned()], UserRowId(7));
        assert_eq!(without("[]", &alice, user), None);
        assert_eq!(without(r#"["auth0|alice2"]"#, &alice, user), None);
        let some = Some((r#"["auth0|bob"]"#.to_owned(), false));
        assert_eq!(without(r#"["auth0|alice","auth0|bob"]"#, &alice, user), some);
        assert_eq!(without(r#"["auth0|alice"]"#, &alice, user), Some((r#"["erased:7"]"#.to_owned(), true)));
    }

    #[test]
    fn last_words_keep_the_id_and_no_name() {
        let body =
            r#"{"data":{"user_id":"auth0|alice","email":"a@example.com","name":"Alice","plan":"free"}}"#;
        let quiet: Value = serde_json::from_str(&without_names(body)).expect("JSON");
        assert_eq!(
            quiet,
            json!({"data": {"user_id": "auth0|alice", "email": null, "name": null, "plan": "free"}})
        );
    }
}
