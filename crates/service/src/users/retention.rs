//! Deleted users are erased with time; until then each may come back to its account.

use crate::app::App;
use crate::measure;
use crate::retention::Span;
use crate::writer::{Command, Edit, Statement, WriteError};
use kernel::{Timestamp, UserRowId};

/// How many users are written down at once.
const AT_ONCE: i64 = 50;

/// Whom it is about: deleted before `$3`, not on its way already, and no identity that became part of another,
/// whose ledger is that person's.
macro_rules! gone {
    () => {
        "deleted_at < $3 AND NOT EXISTS (SELECT 1 FROM erasures e WHERE e.user_id = users.id) \
         AND NOT EXISTS (SELECT 1 FROM user_merges m WHERE m.from_user = users.id)"
    };
}

/// Writes down some of the users that were deleted before an instant as to be erased, which the job of erasures
/// does; 0 once there are none.
///
/// # Errors
/// [`WriteError`].
pub async fn erase(app: &App, span: Span, before: Timestamp) -> Result<usize, WriteError> {
    let sql =
        concat!("SELECT id FROM users WHERE id > $1 AND id <= $2 AND ", gone!(), " ORDER BY id LIMIT $4");
    let values = [span.after, span.to, before.micros(), AT_ONCE].map(Into::into).to_vec();
    let users: Vec<i64> = app.db.query(sql, values).await?;
    for user in &users {
        let sql = concat!(
            "INSERT INTO erasures (user_id, requested_at, requested_by, status, holds, entries) \
             SELECT id, $2, 'retention', 'pending', 0, 0 FROM users WHERE id = $1 AND ",
            gone!(),
            " ON CONFLICT DO NOTHING"
        );
        let values = vec![(*user).into(), app.clock.now().micros().into(), before.micros().into()];
        let edit = Edit::new(UserRowId(*user), vec![Statement::any(sql, values)]);
        app.writer.execute(Command::Edit(edit)).await?;
        measure::retired("deleted_users", 1);
    }
    Ok(users.len())
}
