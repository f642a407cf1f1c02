//! The small changes of users, each with its statements.

use crate::db::Value;
use crate::webhooks::Event;
use crate::webhooks::outbox::keep_one;
use crate::writer::{Edit, Statement};
use kernel::{Timestamp, UserRowId};

/// Tells every process to read again who is suspended and who is somebody else.
#[must_use]
pub fn turn_book() -> Statement {
    Statement::one("UPDATE identity_book SET revision = revision + 1 WHERE id = 1", vec![])
}

/// Suspends a user, or says anew why it is suspended; statement 0 finds it deleted.
#[must_use]
pub fn suspend(user: UserRowId, reason: &str, told: &Event, now: Timestamp) -> Edit {
    let sql = "UPDATE users SET is_active = FALSE, suspended_at = COALESCE(suspended_at, $2), suspension_reason = $3, \
        updated_at = $2 WHERE id = $1 AND deleted_at IS NULL";
    let values: Vec<Value> = vec![user.0.into(), now.micros().into(), reason.into()];
    let keep = keep_one!(
        " AND EXISTS (SELECT 1 FROM users o WHERE o.id = $5 AND o.is_active AND o.deleted_at IS NULL)"
    );
    let told = told.when(keep, [user.0.into()]);
    Edit::new(user, vec![lock(user), told, Statement::one(sql, values), turn_book()])
}

/// Locks a user that is not deleted, so that what is asked of it next stays true until the transaction ends.
fn lock(user: UserRowId) -> Statement {
    let sql = "UPDATE users SET updated_at = updated_at WHERE id = $1 AND deleted_at IS NULL";
    Statement::one(sql, vec![user.0.into()])
}

/// Lets a user in again; statement 0 finds it deleted.
#[must_use]
pub fn reactivate(user: UserRowId, told: &Event, now: Timestamp) -> Edit {
    let sql = "UPDATE users SET is_active = TRUE, suspended_at = NULL, suspension_reason = NULL, updated_at = $2 \
        WHERE id = $1 AND deleted_at IS NULL";
    let keep = keep_one!(
        " AND EXISTS (SELECT 1 FROM users o WHERE o.id = $5 AND NOT o.is_active AND o.deleted_at IS NULL)"
    );
    let told = told.when(keep, [user.0.into()]);
    let change = Statement::one(sql, vec![user.0.into(), now.micros().into()]);
    Edit::new(user, vec![lock(user), told, change, turn_book()])
}

/// Takes the names out of a deleted user's row; the last statement but two finds it not deleted.
#[must_use]
pub fn without_names(user: UserRowId, pseudonym: &str, now: Timestamp) -> Vec<Statement> {
    let answers = "DELETE FROM idempotency_keys WHERE caller = \
        (SELECT 'user:' || auth0_id FROM users WHERE id = $1 AND deleted_at IS NOT NULL)";
    let names = "UPDATE users SET auth0_id = $2, email = NULL, email_folded = NULL, name = NULL, name_folded = NULL, \
        is_active = TRUE, suspended_at = NULL, suspension_reason = NULL, updated_at = $3 \
        WHERE id = $1 AND deleted_at IS NOT NULL";
    vec![
        Statement::any(answers, vec![user.0.into()]),
        Statement::one(names, vec![user.0.into(), pseudonym.into(), now.micros().into()]),
        Statement::any("DELETE FROM user_identities WHERE user_id = $1", vec![user.0.into()]),
        turn_book(),
    ]
}
