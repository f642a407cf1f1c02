//! Proving the ledger on a live database.
//!
//! Every account is replayed from its first entry, on one snapshot, while the service goes on
//! writing. The replay checks each hash and each sum, builds the grants anew, and compares what
//! comes out with the stored rows; the first row that does not fit is named.
//!
//! Reading order: `replay` and `reversal` (what the entries say), `compare` and `holds` (whether the stored rows say the same),
//! `snapshot` (one state of the database to look at), [`watch`] (the job and the admin's routes).

mod compare;
mod holds;
mod replay;
mod reversal;
mod snapshot;
pub mod watch;

use super::model::Account;
use super::reseal::Seam;
use super::rows::{Sealed, account_columns};
use crate::boot::BootError;
use crate::db::{DbError, FromRow, Location, Row};
use kernel::{Credits, ExternalId};
use replay::replay;
use serde::Serialize;
use snapshot::Snapshot;
use std::collections::BTreeMap;
use std::fmt;
use utoipa::ToSchema;

/// The tables of the ledger.
const TABLES: [&str; 7] = [
    "credit_accounts",
    "credit_entries",
    "credit_grants",
    "credit_references",
    "credit_refunds",
    "credit_holds",
    "credit_expiries",
];

/// How many accounts are listed at once.
const ACCOUNTS_AT_ONCE: i64 = 1_000;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How many accounts were replayed.
    pub accounts: u64,
    /// How many entries.
    pub entries: u64,
    /// The sum of all balances: what users were given less what they spent.
    pub balance: Credits,
    /// How many accounts were sealed anew because their users were erased.
    pub resealed: u64,
    /// The first row that does not fit, if any.
    pub first_bad: Option<Fault>,
}

/// A row that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Fault {
    /// The table.
    #[schema(max_length = 64)]
    pub table: &'static str,
    /// The row's key.
    #[schema(max_length = 300)]
    pub row: String,
    /// What is wrong with it.
    #[schema(max_length = 1000)]
    pub rule: String,
}

impl Report {
    /// Whether everything fits.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.first_bad.is_none()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accounts, entries, balance, resealed, first_bad } = self;
        match first_bad {
            None => write!(
                f,
                "The ledger is sound: {accounts} accounts, {entries} entries, {balance} credits in all{}.",
                match resealed {
                    0 => String::new(),
                    _ => format!("; {resealed} accounts resealed by erasure"),
                }
            ),
            Some(Fault { table, row, rule }) => {
                write!(
                    f,
                    "The ledger is NOT sound: {table} {row}: {rule} (after {accounts} accounts, {entries} entries)."
                )
            }
        }
    }
}

/// Why an account was not passed.
enum Halt {
    Fault(Fault),
    Db(DbError),
}

impl From<DbError> for Halt {
    fn from(error: DbError) -> Self {
        Self::Db(error)
    }
}

fn fault<T>(table: &'static str, row: impl fmt::Display, rule: impl Into<String>) -> Result<T, Halt> {
    Err(Halt::Fault(Fault { table, row: row.to_string(), rule: rule.into() }))
}

/// Replays one user's account, or all.
///
/// # Errors
/// [`BootError`] when the database cannot be read, or the user is unknown.
pub async fn verify(location: &Location, user: Option<&ExternalId>) -> Result<Report, BootError> {
    let mut report = Report::default();
    match run(location, user, &mut report).await {
        Ok(()) => Ok(report),
        Err(Halt::Fault(fault)) => Ok(Report { first_bad: Some(fault), ..report }),
        Err(Halt::Db(error)) => Err(error.into()),
    }
}

async fn run(location: &Location, user: Option<&ExternalId>, report: &mut Report) -> Result<(), Halt> {
    let snapshot = &mut Snapshot::open(location).await?;
    if let Some(user) = user {
        let sql = "SELECT id FROM users WHERE auth0_id = $1";
        let found = snapshot.query_text::<i64>("users", sql, user.as_str()).await?;
        let Some(id) = found.first() else {
            return Err(Halt::Db(DbError::Unavailable(format!("there is no user {user}"))));
        };
        let sql = concat!("SELECT ", account_columns!(), " FROM credit_accounts WHERE user_id = $1");
        return match accounts(snapshot, sql, &[*id]).await?.pop() {
            Some(account) => {
                let seams = seams(snapshot).await?;
                replay(snapshot, account, seams.get(id), report).await
            }
            None => fault("credit_accounts", id, "a user has no account"),
        };
    }
    orphans(snapshot).await?;
    let seams = seams(snapshot).await?;
    let mut after = i64::MIN;
    loop {
        let sql = concat!(
            "SELECT ",
            account_columns!(),
            " FROM credit_accounts WHERE user_id > $1 ORDER BY user_id LIMIT $2"
        );
        let listed = accounts(snapshot, sql, &[after, ACCOUNTS_AT_ONCE]).await?;
        let Some(last) = listed.last() else { break };
        after = last.row.user.0;
        for account in listed {
            let seam = seams.get(&account.row.user.0);
            replay(snapshot, account, seam, report).await?;
        }
    }
    snapshot.check_pages()
}

/// Where the chains of erased users' accounts were sealed anew.
async fn seams(snapshot: &mut Snapshot) -> Result<BTreeMap<i64, Seam>, Halt> {
    struct Stored(i64, Seam);
    impl FromRow for Stored {
        fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
            let seam = Seam { entries: row.int(1)?, old_head: row.hash(2)?, new_head: row.hash(3)? };
            Ok(Self(row.int(0)?, seam))
        }
    }
    let sql = "SELECT user_id, entries, old_head, new_head FROM erasures WHERE entries > 0";
    let stored = snapshot.query::<Stored>("erasures", "seams", sql, &[]).await?;
    Ok(stored.into_iter().map(|Stored(user, seam)| (user, seam)).collect())
}

/// Reads accounts; one that cannot be read is a fault, and named.
async fn accounts(snapshot: &mut Snapshot, sql: &str, values: &[i64]) -> Result<Vec<Sealed<Account>>, Halt> {
    let why = match snapshot.try_query::<Sealed<Account>>(sql, values).await {
        Err(DbError::Internal(why)) => why,
        read => return read.map_err(Halt::Db),
    };
    let sql = "SELECT user_id FROM credit_accounts ORDER BY user_id";
    for user in snapshot.query::<i64>("credit_accounts", "keys", sql, &[]).await? {
        let sql = concat!("SELECT ", account_columns!(), " FROM credit_accounts WHERE user_id = $1");
        if let Err(DbError::Internal(why)) = snapshot.try_query::<Sealed<Account>>(sql, &[user]).await {
            return fault("credit_accounts", format!("of user {user}"), format!("cannot be read: {why}"));
        }
    }
    fault("credit_accounts", "one of them", format!("cannot be read: {why}"))
}

/// Rows that belong to no account, which the replay of accounts would never see.
async fn orphans(snapshot: &mut Snapshot) -> Result<(), Halt> {
    let unowned: [(&'static str, &'static str); 8] = [
        ("users", "SELECT id FROM users WHERE id NOT IN (SELECT user_id FROM credit_accounts) LIMIT 1"),
        (
            "credit_accounts",
            "SELECT user_id FROM credit_accounts WHERE user_id NOT IN (SELECT id FROM users) LIMIT 1",
        ),
        (
            "credit_entries",
            "SELECT DISTINCT user_id FROM credit_entries WHERE user_id NOT IN (SELECT user_id FROM credit_accounts) LIMIT 1",
        ),
        (
            "credit_grants",
            "SELECT user_id FROM credit_grants WHERE user_id NOT IN (SELECT user_id FROM credit_accounts) LIMIT 1",
        ),
        (
            "credit_references",
            "SELECT user_id FROM credit_references WHERE user_id NOT IN (SELECT user_id FROM credit_accounts) LIMIT 1",
        ),
        (
            "credit_refunds",
            "SELECT user_id FROM credit_refunds WHERE user_id NOT IN (SELECT user_id FROM credit_accounts) LIMIT 1",
        ),
        (
            "credit_holds",
            "SELECT user_id FROM credit_holds WHERE user_id NOT IN (SELECT user_id FROM credit_accounts) LIMIT 1",
        ),
        (
            "credit_expiries",
            "SELECT user_id FROM credit_expiries WHERE user_id NOT IN (SELECT user_id FROM credit_accounts) LIMIT 1",
        ),
    ];
    for (table, sql) in unowned {
        if let Some(user) = snapshot.query::<i64>(table, "keys", sql, &[]).await?.first() {
            return fault(table, format!("of user {user}"), "belongs to no account");
        }
    }
    Ok(())
}
