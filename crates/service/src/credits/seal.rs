//! Seals for accounts from before rows had one.
//!
//! A migration cannot hash, so it leaves the seals empty; this runs after it, before anything else.

use super::model::Account;
use super::rows::account_columns;
use crate::db::{Db, DbError};
use kernel::UserRowId;

/// How many accounts are sealed at once.
const AT_ONCE: i64 = 1_000;

const SEAL: &str = "UPDATE credit_accounts SET seal = $1 WHERE user_id = $2 AND version = $3";

/// Seals every account that has no seal.
///
/// # Errors
/// [`DbError`].
pub async fn accounts(db: &Db) -> Result<(), DbError> {
    let mut after = UserRowId(i64::MIN);
    loop {
        let sql = concat!(
            "SELECT ",
            account_columns!(),
            " FROM credit_accounts WHERE user_id > $1 AND length(seal) = 0 ORDER BY user_id LIMIT $2"
        );
        let unsealed = db.query::<Account>(sql, vec![after.0.into(), AT_ONCE.into()]).await?;
        let Some(last) = unsealed.last() else { return Ok(()) };
        after = last.user;
        write(db, unsealed).await?;
    }
}

async fn write(db: &Db, accounts: Vec<Account>) -> Result<(), DbError> {
    let seals = accounts.iter().map(|account| (account.seal(), account.user.0, account.version));
    match db {
        Db::Sqlite(sqlite) => {
            let mut connection = sqlite.writing_connection()?;
            let transaction = connection.transaction()?;
            for (seal, user, version) in seals {
                transaction.execute(&SEAL.replace('$', "?"), rusqlite::params![seal, user, version])?;
            }
            transaction.commit()?;
        }
        Db::Postgres(postgres) => {
            let connection = postgres.connection().await?;
            for (seal, user, version) in seals {
                connection.execute(SEAL, &[&seal.as_slice(), &user, &version]).await?;
            }
        }
    }
    Ok(())
}
