//! Merging two identities of one person: afterwards both name the user that survives.
//!
//! It is written down first, then done step by step, each of which can be done again; the job finishes
//! what broke off. First what is left of each grant is taken back from the one and, by a reference that
//! applies once for ever, given to the other on the same terms: never twice, and never lost, because
//! what was taken stands in the ledger until it was given. What could break off half-way is refused before
//! anything changes. Then the account is closed, and in one
//! transaction usage, sessions, files and the identity itself change their owner ([`super::merge_rows`]).
//! The ledger of the one stays as it is, closed; its payments stay with it.

use super::{Delete, Ensure, Rejection, identities, merge_rows};
use crate::app::App;
use crate::credits::ledger::{Issue, LedgerCommand, Note, Void};
use crate::credits::model::Origin;
use crate::credits::rows::{entry_columns, grant_columns};
use crate::credits::{self, Entry, EntryKind, Grant};
use crate::db::{DbError, FromRow, Row};
use crate::writer::{Command, Edit, Statement, WriteError};
use kernel::{Credits, ExternalId, JsonObject, Timestamp, UserRowId};

/// What the ledger says of credits that moved.
const DESCRIPTION: &str = "Moved to another identity of the same person";
/// How often the account is opened again because something was given to it in the last moment.
const ATTEMPTS: usize = 5;

/// What stands in the way of a merge of `$1` into `$2`: another one, an erasure or a suspension of either, and of the one that ends
/// whatever could not be taken whole or would be told to it later: holds, debts, payments, prices that are to come,
/// files on their way.
macro_rules! obstacles {
    () => {
        "EXISTS (SELECT 1 FROM user_merges m WHERE m.from_user IN ($1, $2) \
         OR (m.status <> 'done' AND m.into_user IN ($1, $2))) \
         OR EXISTS (SELECT 1 FROM erasures e WHERE e.user_id IN ($1, $2)) \
         OR EXISTS (SELECT 1 FROM users s WHERE s.id IN ($1, $2) AND NOT s.is_active) \
         OR EXISTS (SELECT 1 FROM credit_accounts a WHERE a.user_id = $1 AND (a.held <> 0 OR a.balance < 0)) \
         OR EXISTS (SELECT 1 FROM payments p WHERE p.user_id = $1) \
         OR EXISTS (SELECT 1 FROM stripe_customers s WHERE s.user_id = $1) \
         OR EXISTS (SELECT 1 FROM auto_top_ups t WHERE t.user_id = $1) \
         OR EXISTS (SELECT 1 FROM usage_records r WHERE r.user_id = $1 AND r.charge_status IN ('unpriced', 'fallback')) \
         OR EXISTS (SELECT 1 FROM files f WHERE f.user_id = $1 AND f.status <> 'stored')"
    };
}

/// Which user becomes part of which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merge {
    /// The one that ends.
    pub from: UserRowId,
    /// The one that survives.
    pub into: UserRowId,
}

struct Stored(Merge, String);

impl FromRow for Stored {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self(Merge { from: UserRowId(row.int(0)?), into: UserRowId(row.int(1)?) }, row.text(2)?))
    }
}

/// Writes a merge down; from then on the job finishes it. Both users are locked first, the older one before the younger,
/// so that what is asked of them stays true until it is written: what `obstacles!` says refuses it (2), and a user
/// that is deleted (0, 1).
///
/// # Errors
/// [`WriteError`].
pub async fn begin(app: &App, merge: Merge, by: &str, reason: Option<String>) -> Result<(), WriteError> {
    let lock = |user: UserRowId| {
        let sql = "UPDATE users SET updated_at = updated_at WHERE id = $1 AND deleted_at IS NULL";
        Statement::one(sql, vec![user.0.into()])
    };
    let insert = concat!(
        "INSERT INTO user_merges (from_user, into_user, requested_by, reason, status, created_at) \
         SELECT u.id, CAST($2 AS BIGINT), $3, CAST($4 AS TEXT), 'pending', CAST($5 AS BIGINT) FROM users u WHERE u.id = $1 AND NOT (",
        obstacles!(),
        ") ON CONFLICT DO NOTHING"
    );
    let values = vec![
        merge.from.0.into(),
        merge.into.0.into(),
        by.into(),
        reason.into(),
        app.clock.now().micros().into(),
    ];
    let (first, second) = (merge.from.min(merge.into), merge.from.max(merge.into));
    let statements = vec![lock(first), lock(second), Statement::one(insert, values)];
    app.writer.execute(Command::Edit(Edit::new(merge.from, statements))).await.map(drop)
}

/// Whether a merge that is not over names a user.
///
/// # Errors
/// [`DbError`].
pub async fn is_under_way(app: &App, user: UserRowId) -> Result<bool, DbError> {
    let sql =
        "SELECT count(*) FROM user_merges WHERE status <> 'done' AND (from_user = $1 OR into_user = $1)";
    Ok(app.db.find::<i64>(sql, &[user.0.into()]).await? != Some(0))
}

/// Finishes what is not finished.
///
/// # Errors
/// The first of what went wrong; the rest was done all the same.
pub async fn sweep(app: &App) -> Result<(), WriteError> {
    let sql =
        "SELECT from_user, into_user, status FROM user_merges WHERE status <> 'done' ORDER BY from_user";
    let mut first = Ok(());
    for Stored(merge, _) in app.db.query(sql, vec![]).await? {
        let done = finish(app, merge).await;
        first = first.and(done);
    }
    first
}

/// Does every step of a merge that was begun.
///
/// # Errors
/// [`WriteError`]; the job comes back.
pub async fn finish(app: &App, merge: Merge) -> Result<(), WriteError> {
    let sql = "SELECT from_user, into_user, status FROM user_merges WHERE from_user = $1";
    let Some(Stored(merge, status)) = app.db.find(sql, &[merge.from.0.into()]).await? else { return Ok(()) };
    if status == "pending" {
        let auth0_id = take(app, merge).await?;
        give(app, merge).await?;
        let files = merge_rows::copy_files(app, merge).await?;
        merge_rows::move_messages(app, merge).await?;
        merge_rows::end_plan(app, merge).await?;
        merge_rows::move_rest(app, merge, &auth0_id, files).await?;
    }
    identities::refresh(app).await;
    if status != "done" {
        merge_rows::remove_files(app, merge).await?;
        let sql = "UPDATE user_merges SET status = 'done', finished_at = $2 WHERE from_user = $1";
        let values = vec![merge.from.0.into(), app.clock.now().micros().into()];
        app.writer.execute(Command::Edit(Edit::new(merge.from, vec![Statement::any(sql, values)]))).await?;
    }
    Ok(())
}

/// The user's id, whether it is deleted, and what is in its account.
struct Standing(ExternalId, bool, Credits);

impl FromRow for Standing {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let id = row.text(0)?.parse().map_err(|e| DbError::Internal(format!("users.auth0_id: {e}")))?;
        Ok(Self(id, row.optional_int(1)?.is_some(), Credits::from_micro(row.int(2)?)))
    }
}

async fn standing(app: &App, user: UserRowId) -> Result<Standing, WriteError> {
    let sql = "SELECT u.auth0_id, u.deleted_at, a.balance FROM users u JOIN credit_accounts a ON a.user_id = u.id WHERE u.id = $1";
    let found = app.db.find(sql, &[user.0.into()]).await?;
    found.ok_or_else(|| WriteError::Internal("a user that is merged has no account".to_owned()))
}

/// Takes back what is left of every grant, and closes the account when nothing is left; gives its user's id.
async fn take(app: &App, merge: Merge) -> Result<ExternalId, WriteError> {
    for _ in 0..ATTEMPTS {
        let Standing(auth0_id, deleted, balance) = standing(app, merge.from).await?;
        if deleted && balance == Credits::ZERO {
            return Ok(auth0_id);
        }
        if deleted {
            // Something was given to it, or taken on credit, before it was closed.
            let ensure = Ensure { auth0_id, email: None, name: None };
            app.writer.execute(Command::Ensure(ensure)).await?;
            continue;
        }
        app.writer.execute(Command::Ledger(merge.from, LedgerCommand::Settle)).await?;
        let sql = concat!(
            "SELECT ",
            grant_columns!(),
            " FROM credit_grants WHERE user_id = $1 AND remaining > 0 ORDER BY seq"
        );
        let mut first = Ok(());
        for grant in app.db.query::<Grant>(sql, vec![merge.from.0.into()]).await? {
            let void = Void { grant: grant.seq, note: note("merged_into", &merge.into.to_string()) };
            match app.writer.execute(Command::Ledger(merge.from, LedgerCommand::Void(void))).await {
                // It ended, or another process was here first.
                Ok(_) | Err(WriteError::Credits(credits::Rejection::NothingToVoid)) => {}
                Err(error) => first = first.and(Err(error)),
            }
        }
        // What was taken is given at once, also where the rest cannot be taken yet.
        give(app, merge).await?;
        first?;
        if standing(app, merge.from).await?.2 != Credits::ZERO {
            return Err(WriteError::Unavailable(
                "the account has credits that cannot be taken back yet, or owes some".to_owned(),
            ));
        }
        match app.writer.execute(Command::Delete(Delete { auth0_id })).await {
            Ok(_) | Err(WriteError::Users(Rejection::NotFound(_))) => {}
            Err(error) => return Err(error),
        }
    }
    Err(WriteError::Unavailable("the account was given credits again and again".to_owned()))
}

fn note(name: &str, text: &str) -> Note {
    Note {
        description: Some(DESCRIPTION.to_owned()),
        metadata: JsonObject::default().with_member(name, text),
        origin: Origin { actor: "system".to_owned(), ..Origin::default() },
    }
}

/// Gives to the one what was taken from the other, each part once for ever and on its own terms.
async fn give(app: &App, merge: Merge) -> Result<(), WriteError> {
    for taken in moved(app, merge.from).await? {
        let sql = concat!("SELECT ", grant_columns!(), " FROM credit_grants WHERE user_id = $1 AND seq = $2");
        let key = [merge.from.0.into(), taken.cause.reverses.unwrap_or(0).into()];
        let Some(grant) = app.db.find::<Grant>(sql, &key).await? else { continue };
        if grant.expired(app.clock.now()) {
            // It would have ended where it was, too.
            continue;
        }
        let issue = Issue {
            kind: EntryKind::Grant,
            amount: taken.amount.abs(),
            source: grant.source,
            priority: grant.priority,
            effective_at: later(grant.effective_at, app.clock.now()),
            expires_at: grant.expires_at,
            scope: grant.scope.as_deref().cloned(),
            rollover: grant.rollover,
            reference_id: Some(format!("merge:{}", taken.transaction_id())),
            note: note("merged_from", &taken.transaction_id().to_string()),
        };
        app.writer.execute(Command::Ledger(merge.into, LedgerCommand::Issue(issue))).await?;
    }
    Ok(())
}

fn later(at: Timestamp, now: Timestamp) -> Option<Timestamp> {
    Some(at).filter(|at| *at > now)
}

/// The entries that took back what moved to another identity.
///
/// # Errors
/// [`DbError`].
pub async fn moved(app: &App, from: UserRowId) -> Result<Vec<Entry>, DbError> {
    let sql = concat!(
        "SELECT ",
        entry_columns!(),
        " FROM credit_entries WHERE user_id = $1 AND transaction_type = 'reversal' AND transaction_type <> 'consume' \
         AND actor = 'system' AND description = $2 ORDER BY seq"
    );
    app.db.query::<Entry>(sql, vec![from.0.into(), DESCRIPTION.into()]).await
}
