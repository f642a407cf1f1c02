//! Erasing a user: its personal data goes for good, its ledger stays under a pseudonym.
//!
//! The erasure is written down first, then done step by step: the account is closed, kept answers go,
//! the row loses its names, files go with their bytes, sessions with messages, memories and search words,
//! usage keeps numbers only, payments and events of Stripe lose what names a person, the ledger is sealed anew without texts
//! ([`crate::credits::reseal`]), and what others were told of it goes, at last that it is deleted ([`told`]). Each step can be done again, so whatever breaks
//! off, by a crash or a store that is away, is finished by the job. What stays, and what a backup means,
//! is in `docs/privacy.md`.

use super::{Delete, Rejection, edits, identities, scrub, told};
use crate::app::App;
use crate::credits::reseal;
use crate::db::{Db, DbError, FromRow, Row, Value};
use crate::files;
use crate::http::facts::fresh_id;
use crate::measure;
use crate::sessions;
use crate::subscriptions;
use crate::writer::{Command, Edit, Statement, WriteError};
use kernel::{ExternalId, Timestamp, UserRowId};
use serde_json::json;

/// How many kept answers, sessions or files go in one commit.
const AT_ONCE: i64 = 100;
/// How many users are erased in one go because they were deleted long ago.
const DUE_AT_ONCE: i64 = 20;
/// How many events of Stripe are looked through at once.
const EVENTS_AT_ONCE: i64 = 5_000;
/// How many kept answers to many users, which may be large, are emptied in one commit.
const ANSWERS_AT_ONCE: i64 = 10;
/// How many usage records or buckets lose their texts in one commit.
const USAGE_AT_ONCE: i64 = 500;

/// Writes down that a user is to be erased, and who wants it; from then on the job finishes it. Refused (2) while the
/// user is being merged, or suspended and wants it itself, or came back before its days were over.
///
/// # Errors
/// [`WriteError`].
pub async fn begin(app: &App, user: UserRowId, by: &str) -> Result<(), WriteError> {
    // A merge locks both of its users as well, so that each sees what the other has written.
    let lock = "UPDATE users SET updated_at = updated_at WHERE id = $1";
    let sql = "INSERT INTO erasures (user_id, requested_at, requested_by, status, holds, entries) \
        SELECT id, $2, $3, 'pending', 0, 0 FROM users WHERE id = $1 AND (is_active OR $3 <> 'self') \
        AND (deleted_at IS NOT NULL OR $3 <> 'retention') \
        AND NOT EXISTS (SELECT 1 FROM user_merges m WHERE m.status <> 'done' AND (m.from_user = $1 OR m.into_user = $1)) \
        ON CONFLICT DO NOTHING";
    let values = vec![user.0.into(), app.clock.now().micros().into(), by.into()];
    let written = "UPDATE erasures SET requested_by = requested_by WHERE user_id = $1";
    let statements = vec![
        Statement::one(lock, vec![user.0.into()]),
        Statement::any(sql, values),
        Statement::one(written, vec![user.0.into()]),
    ];
    execute(app, user, statements).await
}

/// Begins the erasures of users that were deleted so long ago as `RETENTION_DELETED_USERS_DAYS` says.
async fn begin_due(app: &App) -> Result<(), WriteError> {
    let Some(kept_for) = app.config.retention.deleted_users else { return Ok(()) };
    let kept_for = i64::try_from(kept_for.as_micros()).unwrap_or(i64::MAX);
    let before = app.clock.now().micros().saturating_sub(kept_for);
    let sql = "SELECT id FROM users WHERE deleted_at < $1 AND deleted_at IS NOT NULL \
        AND substr(auth0_id, 1, 7) NOT IN ('erased:', 'merged:') ORDER BY deleted_at LIMIT $2";
    for user in app.db.query::<i64>(sql, vec![before.into(), DUE_AT_ONCE.into()]).await? {
        match begin(app, UserRowId(user), "retention").await {
            // It is being merged: the next go.
            Ok(()) | Err(WriteError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Finishes what is not finished.
///
/// # Errors
/// The first of what went wrong; the rest was done all the same.
pub async fn sweep(app: &App) -> Result<(), WriteError> {
    begin_due(app).await?;
    let sql = "SELECT user_id FROM erasures WHERE status <> 'done' ORDER BY user_id";
    let mut first = Ok(());
    for user in app.db.query::<i64>(sql, vec![]).await? {
        let done = finish(app, UserRowId(user)).await;
        first = first.and(done);
    }
    first
}

/// Does every step of an erasure that was begun.
///
/// # Errors
/// [`WriteError`]; the job comes back.
pub async fn finish(app: &App, user: UserRowId) -> Result<(), WriteError> {
    let sql = "SELECT from_user FROM user_merges WHERE into_user = $1 AND from_user <> $1";
    for merged in app.db.query::<i64>(sql, vec![user.0.into()]).await? {
        // The ledger of an identity that became part of it is the same person's.
        begin(app, UserRowId(merged), "merge").await?;
        Box::pin(finish(app, UserRowId(merged))).await?;
    }
    let sql = "SELECT requested_at, finished_at FROM erasures WHERE user_id = $1 AND status = 'resealed'";
    if let Some(Resealed { requested_at, finished_at: Some(_) }) = app.db.find(sql, &[user.0.into()]).await? {
        return end(app, user, requested_at).await;
    }
    close(app, user).await?;
    remove_files(app, user).await?;
    remove_sessions(app, user).await?;
    strip_usage(app, user).await?;
    strip_events(app, user).await?;
    execute(app, user, of_payments(user, app.clock.now())).await?;
    remove_answers(app, user).await?;
    reseal::run(app, user).await?;
    told::forget(app, user).await?;
    scrub::run(&app.db).await?;
    let left = "UPDATE erasures SET finished_at = $2 WHERE user_id = $1 AND status = 'resealed'";
    let now = vec![user.0.into(), app.clock.now().micros().into()];
    execute(app, user, vec![Statement::any(left, now)]).await?;
    match app.db.find(sql, &[user.0.into()]).await? {
        Some(Resealed { requested_at, .. }) => end(app, user, requested_at).await,
        None => Ok(()),
    }
}

/// An erasure of which nothing is left to do, or only that others hear of it.
struct Resealed {
    requested_at: Timestamp,
    /// When all else was done.
    finished_at: Option<i64>,
}

impl FromRow for Resealed {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self { requested_at: Timestamp::from_micros(row.int(0)?), finished_at: row.optional_int(1)? })
    }
}

/// Notes that it is done, once others have heard of it.
async fn end(app: &App, user: UserRowId, requested_at: Timestamp) -> Result<(), WriteError> {
    if !told::end(app, user, requested_at).await? {
        return Ok(());
    }
    let sql =
        "UPDATE erasures SET status = 'done', finished_at = $2 WHERE user_id = $1 AND status = 'resealed'";
    let done = vec![user.0.into(), app.clock.now().micros().into()];
    execute(app, user, vec![Statement::any(sql, done)]).await?;
    measure::erased();
    Ok(())
}

async fn execute(app: &App, user: UserRowId, statements: Vec<Statement>) -> Result<(), WriteError> {
    app.writer.execute(Command::Edit(Edit::new(user, statements))).await.map(drop)
}

/// A user's id, and when it was deleted.
struct Named(ExternalId, Option<i64>);

impl FromRow for Named {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let id = row.text(0)?.parse().map_err(|e| DbError::Internal(format!("users.auth0_id: {e}")))?;
        Ok(Self(id, row.optional_int(1)?))
    }
}

/// Closes the account and takes the names out of the user's row: from then on its identity is a stranger.
async fn close(app: &App, user: UserRowId) -> Result<(), WriteError> {
    loop {
        let sql = "SELECT auth0_id, deleted_at FROM users WHERE id = $1";
        let Some(Named(auth0_id, deleted)) = app.db.find(sql, &[user.0.into()]).await? else { return Ok(()) };
        let Some(deleted_at) = deleted else {
            match app.writer.execute(Command::Delete(Delete { auth0_id })).await {
                Ok(_) | Err(WriteError::Users(Rejection::NotFound(_))) => continue,
                Err(error) => return Err(error),
            }
        };
        if ["erased:", "merged:"].iter().any(|nameless| auth0_id.as_str().starts_with(nameless)) {
            return Ok(());
        }
        // The plan is over with the account, and others are told so under the name that they know.
        subscriptions::change::end_now(app, user, Timestamp::from_micros(deleted_at)).await?;
        let caller = format!("user:{auth0_id}");
        let some = "SELECT created_at FROM idempotency_keys WHERE caller = $1 LIMIT 1";
        while app.db.find::<i64>(some, &[caller.as_str().into()]).await?.is_some() {
            let sql = "DELETE FROM idempotency_keys WHERE caller = $1 AND key IN \
                (SELECT key FROM idempotency_keys WHERE caller = $1 ORDER BY key LIMIT $2)";
            let values = vec![caller.as_str().into(), AT_ONCE.into()];
            execute(app, user, vec![Statement::any(sql, values)]).await?;
        }
        blank_answers(app, user, &auth0_id).await?;
        // Who was an admin before it was a user stands there, apart from the log.
        let actor = "DELETE FROM audit_actors WHERE subject = $1";
        execute(app, user, vec![Statement::any(actor, vec![auth0_id.as_str().into()])]).await?;
        let pseudonym = format!("erased:{}", fresh_id());
        let mut statements = edits::without_names(user, &pseudonym, app.clock.now());
        statements.extend(told::leave(app, user, auth0_id.as_str()).await?);
        match execute(app, user, statements).await {
            Ok(()) => identities::refresh(app).await,
            // It came back in between, or an endpoint that is told of it was changed.
            Err(WriteError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    }
}

/// A kept answer to many users at once.
struct Kept {
    caller: String,
    key: String,
    body: Vec<u8>,
}

impl FromRow for Kept {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self { caller: row.text(0)?, key: row.text(1)?, body: row.bytes(2)? })
    }
}

/// Takes the user out of kept answers that name it among others. The keys stay, or what they did could be done twice.
async fn blank_answers(app: &App, user: UserRowId, auth0_id: &ExternalId) -> Result<(), WriteError> {
    let find = match app.db {
        Db::Sqlite(_) => {
            "SELECT caller, key, body FROM idempotency_keys WHERE user_id IS NULL AND instr(body, $1) > 0 LIMIT $2"
        }
        Db::Postgres(_) => {
            "SELECT caller, key, body FROM idempotency_keys WHERE user_id IS NULL \
             AND position(CAST($1 AS BYTEA) IN body) > 0 LIMIT $2"
        }
    };
    let name = format!("\"{auth0_id}\"");
    loop {
        let values = vec![Value::Bytes(name.clone().into_bytes()), ANSWERS_AT_ONCE.into()];
        let found: Vec<Kept> = app.db.query(find, values).await?;
        if found.is_empty() {
            return Ok(());
        }
        let statements = found.into_iter().map(|kept| {
            let sql = "UPDATE idempotency_keys SET body = $3 WHERE caller = $1 AND key = $2";
            let body = Value::Bytes(without(&kept.body, &name));
            Statement::any(sql, vec![kept.caller.as_str().into(), kept.key.as_str().into(), body])
        });
        execute(app, user, statements.collect()).await?;
    }
}

/// An answer without what it says of a user: of its results there remain the place and what became of it.
fn without(body: &[u8], name: &str) -> Vec<u8> {
    let mut answer: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let results = answer["data"]["results"].as_array_mut().map(Vec::as_mut_slice).unwrap_or_default();
    for result in results.iter_mut().filter(|result| result.to_string().contains(name)) {
        *result = json!({"index": result["index"], "status": result["status"]});
    }
    let text = answer.to_string();
    // Whatever names the user elsewhere goes whole.
    if text.contains(name) { b"{}".to_vec() } else { text.into_bytes() }
}

/// Removes the kept answers that may hold the user's data.
async fn remove_answers(app: &App, user: UserRowId) -> Result<(), WriteError> {
    let some = "SELECT created_at FROM idempotency_keys WHERE user_id = $1 LIMIT 1";
    while app.db.find::<i64>(some, &[user.0.into()]).await?.is_some() {
        let sql = "DELETE FROM idempotency_keys WHERE (caller, key) IN \
            (SELECT caller, key FROM idempotency_keys WHERE user_id = $1 LIMIT $2)";
        execute(app, user, vec![Statement::any(sql, vec![user.0.into(), AT_ONCE.into()])]).await?;
    }
    Ok(())
}

/// Removes the files. A row stays, without names, as long as a client may still write to its staging key;
/// the sweeper of files removes what arrives there, and then the row.
async fn remove_files(app: &App, user: UserRowId) -> Result<(), WriteError> {
    let mut after = 0;
    loop {
        let found = files::store::of_user(&app.db, user, after, AT_ONCE).await?;
        let Some(last) = found.last() else { return Ok(()) };
        after = last.id;
        for file in &found {
            files::sweeper::erase(app, file).await?;
        }
    }
}

/// Removes the sessions with all that hangs on them.
async fn remove_sessions(app: &App, user: UserRowId) -> Result<(), WriteError> {
    let some = "SELECT id FROM sessions WHERE user_id = $1 AND deleted_at IS NULL LIMIT 1";
    while app.db.find::<i64>(some, &[user.0.into()]).await?.is_some() {
        let sql = "UPDATE sessions SET deleted_at = $2, title = NULL, session_summary = NULL, conversation_data = '{}', \
            metadata = '{}' WHERE id IN (SELECT id FROM sessions WHERE user_id = $1 AND deleted_at IS NULL \
            ORDER BY created_at, id LIMIT $3)";
        let values = vec![user.0.into(), app.clock.now().micros().into(), AT_ONCE.into()];
        execute(app, user, vec![Statement::any(sql, values)]).await?;
    }
    sessions::sweeper::sweep(app).await
}

/// A place in a list.
struct Place(i64, i64);

impl FromRow for Place {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self(row.int(0)?, row.int(1)?))
    }
}

/// Takes the texts out of usage: what is counted stays, under no name.
async fn strip_usage(app: &App, user: UserRowId) -> Result<(), WriteError> {
    let (mut at, mut id) = (i64::MIN, i64::MIN);
    while let Some(Place(to_at, to_id)) = records_end(&app.db, user, (at, id)).await? {
        let sql = "UPDATE usage_records SET event_type = '', endpoint = '', session_id = NULL, trace_id = NULL, \
            calculation_method = '', model_name = NULL, provider = NULL, tool_name = NULL, operation_name = NULL, \
            billing_metadata = '{}', request_data = '{}', response_data = '{}', event_id = NULL, pools = NULL, \
            charge_status = CASE WHEN charge_status IN ('unpriced', 'fallback') THEN NULL ELSE charge_status END \
            WHERE user_id = $1 AND (created_at, id) > ($2, $3) AND (created_at, id) <= ($4, $5)";
        let values: [i64; 5] = [user.0, at, id, to_at, to_id];
        let values = values.into_iter().map(Value::from).collect();
        execute(app, user, vec![Statement::any(sql, values)]).await?;
        (at, id) = (to_at, to_id);
    }
    for period in ["hour", "day", "month"] {
        let mut from = i64::MIN;
        while let Some(to) = buckets_end(&app.db, user, period, from).await? {
            let bounds: Vec<Value> = vec![user.0.into(), period.into(), from.into(), to.into()];
            let sum = "INSERT INTO usage_rollups (user_id, period, bucket, event_type, model_name, provider, records, \
                credits_hi, credits_lo, cost_hi, cost_lo, tokens) SELECT user_id, period, bucket, '', '', '', \
                CAST(sum(records) AS BIGINT), CAST(sum(credits_hi) AS BIGINT), CAST(sum(credits_lo) AS BIGINT), \
                CAST(sum(cost_hi) AS BIGINT), CAST(sum(cost_lo) AS BIGINT), CAST(sum(tokens) AS BIGINT) \
                FROM usage_rollups WHERE user_id = $1 AND period = $2 AND bucket > $3 AND bucket <= $4 \
                AND event_type <> '' GROUP BY user_id, period, bucket";
            let rest = "DELETE FROM usage_rollups WHERE user_id = $1 AND period = $2 AND bucket > $3 AND bucket <= $4 \
                AND event_type <> ''";
            let statements = vec![Statement::any(sum, bounds.clone()), Statement::any(rest, bounds)];
            execute(app, user, statements).await?;
            from = to;
        }
    }
    Ok(())
}

/// The last of the next records behind a place.
async fn records_end(db: &Db, user: UserRowId, (at, id): (i64, i64)) -> Result<Option<Place>, DbError> {
    let sql = "SELECT created_at, id FROM (SELECT created_at, id FROM usage_records WHERE user_id = $1 \
        AND (created_at, id) > ($2, $3) ORDER BY created_at, id LIMIT $4) n \
        ORDER BY created_at DESC, id DESC LIMIT 1";
    let values = vec![user.0.into(), at.into(), id.into(), USAGE_AT_ONCE.into()];
    Ok(db.query(sql, values).await?.pop())
}

/// The last of the next buckets behind one.
async fn buckets_end(db: &Db, user: UserRowId, period: &str, from: i64) -> Result<Option<i64>, DbError> {
    let sql = "SELECT bucket FROM (SELECT DISTINCT bucket FROM usage_rollups WHERE user_id = $1 AND period = $2 \
        AND bucket > $3 ORDER BY bucket LIMIT $4) n ORDER BY bucket DESC LIMIT 1";
    let values = vec![user.0.into(), period.into(), from.into(), USAGE_AT_ONCE.into()];
    Ok(db.query(sql, values).await?.pop())
}

/// Empties events of Stripe that name no customer and are about a payment of the user all the same, such as
/// the charge of an intent: only what they say names it, so they are looked through, on a reader.
async fn strip_events(app: &App, user: UserRowId) -> Result<(), WriteError> {
    let last = "SELECT seq FROM stripe_events ORDER BY seq DESC LIMIT 1";
    let last = app.db.find::<i64>(last, &[]).await?.unwrap_or(0);
    let mut after = 0;
    while after < last {
        let to = after.saturating_add(EVENTS_AT_ONCE);
        let sql = "SELECT e.seq FROM stripe_events e WHERE e.seq > $1 AND e.seq <= $2 AND e.customer IS NULL \
            AND e.payload <> '{}' AND EXISTS (SELECT 1 FROM payments p WHERE p.user_id = $3 \
            AND (e.payload LIKE '%' || p.payment_intent || '%' OR e.payload LIKE '%' || p.invoice || '%'))";
        let found = app.db.query::<i64>(sql, vec![after.into(), to.into(), user.0.into()]).await?;
        for some in found.chunks(100) {
            let sql = "UPDATE stripe_events SET payload = '{}', error = NULL, \
                status = CASE WHEN status IN ('received', 'waiting') THEN 'unhandled' ELSE status END WHERE seq = $1";
            let emptied = some.iter().map(|seq| Statement::any(sql, vec![(*seq).into()])).collect();
            execute(app, user, emptied).await?;
        }
        after = to;
    }
    Ok(())
}

/// What of subscriptions, payments and limits names a person, or what it did.
fn of_payments(user: UserRowId, now: Timestamp) -> Vec<Statement> {
    let row = || vec![Value::from(user.0)];
    let ended = "UPDATE subscriptions SET status = 'canceled', canceled_at = COALESCE(canceled_at, $2), canceled_by = NULL, \
        cause = NULL, next_plan_version = NULL, updated_at = $2 WHERE user_id = $1";
    let payments = "UPDATE payments SET cause = 'erased:' || CAST(id AS TEXT), checkout = NULL, failure = NULL \
        WHERE user_id = $1";
    // What an event says is of no use any more; one that waits would give nothing to a closed account.
    let by_customer = "UPDATE stripe_events SET payload = '{}', error = NULL, \
        status = CASE WHEN status IN ('received', 'waiting') THEN 'unhandled' ELSE status END \
        WHERE customer IN (SELECT customer FROM stripe_customers WHERE user_id = $1)";
    let by_object = "UPDATE stripe_events SET payload = '{}', error = NULL, \
        status = CASE WHEN status IN ('received', 'waiting') THEN 'unhandled' ELSE status END \
        WHERE object_id IN (SELECT payment_intent FROM payments WHERE user_id = $1 AND payment_intent IS NOT NULL \
        UNION ALL SELECT invoice FROM payments WHERE user_id = $1 AND invoice IS NOT NULL \
        UNION ALL SELECT checkout FROM payments WHERE user_id = $1 AND checkout IS NOT NULL \
        UNION ALL SELECT id FROM stripe_subscriptions WHERE user_id = $1 \
        UNION ALL SELECT customer FROM stripe_customers WHERE user_id = $1)";
    vec![
        Statement::any(ended, vec![user.0.into(), now.micros().into()]),
        Statement::any(by_customer, row()),
        Statement::any(by_object, row()),
        Statement::any(payments, row()),
        Statement::any("UPDATE stripe_subscriptions SET customer = NULL WHERE user_id = $1", row()),
        Statement::any("DELETE FROM stripe_customers WHERE user_id = $1", row()),
        Statement::any("UPDATE user_merges SET reason = NULL WHERE from_user = $1 OR into_user = $1", row()),
        Statement::any("DELETE FROM auto_top_ups WHERE user_id = $1", row()),
        Statement::any("DELETE FROM spending_counters WHERE user_id = $1", row()),
    ]
}
