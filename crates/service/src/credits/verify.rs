//! Proving the ledger on a live database.
//!
//! Every account is replayed from its first entry, on one snapshot, while the service goes on
//! writing. The replay checks each hash and each sum, builds the grants anew, and compares what
//! comes out with the stored rows; the first row that does not fit is named.

use super::chain;
use super::model::{Account, Entry, EntryKind, Grant};
use super::store::{account_columns, entry_columns, grant_columns};
use crate::boot::BootError;
use crate::db::{Db, DbError, FromRow, Location, Row};
use kernel::{Credits, ExternalId, Timestamp, UserRowId};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// How many entries are read at once.
const ENTRIES_AT_ONCE: i64 = 5_000;
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
    /// The first row that does not fit, if any.
    pub first_bad: Option<Fault>,
}

/// A row that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The table.
    pub table: &'static str,
    /// The row's key.
    pub row: String,
    /// What is wrong with it.
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
        let Self { accounts, entries, balance, first_bad } = self;
        match first_bad {
            None => write!(
                f,
                "The ledger is sound: {accounts} accounts, {entries} entries, {balance} credits in all."
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
    let mut snapshot = Snapshot::open(location).await?;
    let mut report = Report::default();
    match run(&mut snapshot, user, &mut report).await {
        Ok(()) => Ok(report),
        Err(Halt::Fault(fault)) => Ok(Report { first_bad: Some(fault), ..report }),
        Err(Halt::Db(error)) => Err(error.into()),
    }
}

async fn run(snapshot: &mut Snapshot, user: Option<&ExternalId>, report: &mut Report) -> Result<(), Halt> {
    if let Some(user) = user {
        let sql = "SELECT id FROM users WHERE auth0_id = $1";
        let found = snapshot.query_text::<i64>(sql, user.as_str()).await?;
        let Some(id) = found.first() else {
            return Err(Halt::Db(DbError::Unavailable(format!("there is no user {user}"))));
        };
        let sql = concat!("SELECT ", account_columns!(), " FROM credit_accounts WHERE user_id = $1");
        return match accounts(snapshot, sql, &[*id]).await?.pop() {
            Some(account) => replay(snapshot, account, report).await,
            None => fault("credit_accounts", id, "a user has no account"),
        };
    }
    orphans(snapshot).await?;
    let mut after = i64::MIN;
    loop {
        let sql = concat!(
            "SELECT ",
            account_columns!(),
            " FROM credit_accounts WHERE user_id > $1 ORDER BY user_id LIMIT $2"
        );
        let listed = accounts(snapshot, sql, &[after, ACCOUNTS_AT_ONCE]).await?;
        let Some(last) = listed.last() else { return Ok(()) };
        after = last.user.0;
        for account in listed {
            replay(snapshot, account, report).await?;
        }
    }
}

/// Reads accounts; one that cannot be read is a fault, and named.
async fn accounts(snapshot: &mut Snapshot, sql: &str, values: &[i64]) -> Result<Vec<Account>, Halt> {
    let why = match snapshot.try_query::<Account>(sql, values).await {
        Err(DbError::Internal(why)) => why,
        read => return read.map_err(Halt::Db),
    };
    for user in snapshot.query::<i64>("SELECT user_id FROM credit_accounts ORDER BY user_id", &[]).await? {
        let sql = concat!("SELECT ", account_columns!(), " FROM credit_accounts WHERE user_id = $1");
        if snapshot.try_query::<Account>(sql, &[user]).await.is_err() {
            return fault("credit_accounts", format!("of user {user}"), format!("cannot be read: {why}"));
        }
    }
    Err(Halt::Db(DbError::Internal(why)))
}

/// Rows that belong to no account, which the replay of accounts would never see.
async fn orphans(snapshot: &mut Snapshot) -> Result<(), Halt> {
    let unowned: [(&'static str, &'static str); 7] = [
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
            "credit_expiries",
            "SELECT user_id FROM credit_expiries WHERE user_id NOT IN (SELECT user_id FROM credit_accounts) LIMIT 1",
        ),
    ];
    for (table, sql) in unowned {
        if let Some(user) = snapshot.query::<i64>(sql, &[]).await?.first() {
            return fault(table, format!("of user {user}"), "belongs to no account");
        }
    }
    Ok(())
}

/// What the entries say so far.
struct Replay {
    user: UserRowId,
    seq: i64,
    balance: Credits,
    credits_total: Credits,
    head: [u8; 32],
    at: Timestamp,
    grants: BTreeMap<i64, Grant>,
    references: Vec<(String, i64)>,
    /// What was spent by each entry that can be refunded, less its refunds.
    refundable: BTreeMap<i64, i64>,
    refunds: Vec<(i64, i64)>,
}

async fn replay(snapshot: &mut Snapshot, account: Account, report: &mut Report) -> Result<(), Halt> {
    let mut replay = Replay {
        user: account.user,
        seq: 0,
        balance: Credits::ZERO,
        credits_total: Credits::ZERO,
        head: [0; 32],
        at: Timestamp::default(),
        grants: BTreeMap::new(),
        references: Vec::new(),
        refundable: BTreeMap::new(),
        refunds: Vec::new(),
    };
    loop {
        let sql = concat!(
            "SELECT ",
            entry_columns!(),
            ", counter_account FROM credit_entries WHERE user_id = $1 AND seq > $2 ORDER BY seq LIMIT $3"
        );
        let rows =
            snapshot.try_query::<StoredEntry>(sql, &[account.user.0, replay.seq, ENTRIES_AT_ONCE]).await;
        let rows = match rows {
            Ok(rows) => rows,
            Err(DbError::Internal(why)) => return unreadable(snapshot, account.user, replay.seq, &why).await,
            Err(error) => return Err(error.into()),
        };
        if rows.is_empty() {
            break;
        }
        for stored in rows {
            replay.entry(&stored)?;
            report.entries += 1;
        }
    }
    replay.compare(&account)?;
    compare_grants(snapshot, &replay).await?;
    compare_expiries(snapshot, &replay).await?;
    compare_lists(snapshot, &replay).await?;
    report.accounts += 1;
    report.balance = report.balance.checked_add(account.balance).unwrap_or(report.balance);
    Ok(())
}

/// Finds which entry cannot be read at all.
async fn unreadable(snapshot: &mut Snapshot, user: UserRowId, after: i64, why: &str) -> Result<(), Halt> {
    let sql = "SELECT seq FROM credit_entries WHERE user_id = $1 AND seq > $2 ORDER BY seq LIMIT $3";
    for seq in snapshot.query::<i64>(sql, &[user.0, after, ENTRIES_AT_ONCE]).await? {
        let sql = concat!(
            "SELECT ",
            entry_columns!(),
            ", counter_account FROM credit_entries WHERE user_id = $1 AND seq = $2"
        );
        if snapshot.try_query::<StoredEntry>(sql, &[user.0, seq]).await.is_err() {
            return fault("credit_entries", format!("txn_{user}_{seq}"), format!("cannot be read: {why}"));
        }
    }
    fault("credit_entries", format!("of user {user} after {after}"), format!("cannot be read: {why}"))
}

/// An entry with the texts as they are stored: the column that its type already says, and those
/// that are read into values, of which the hash covers only the values.
struct StoredEntry {
    entry: Entry,
    counter_account: String,
    funded_by: String,
    grant_terms: Option<String>,
}

impl FromRow for StoredEntry {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self {
            entry: Entry::from_row(row)?,
            counter_account: row.text(21)?,
            funded_by: row.text(13)?,
            grant_terms: row.optional_text(14)?,
        })
    }
}

impl Replay {
    fn entry(&mut self, stored: &StoredEntry) -> Result<(), Halt> {
        let entry = &stored.entry;
        let bad = |rule: &str| fault("credit_entries", entry.transaction_id(), rule);
        if entry.seq != self.seq + 1 {
            return bad("the entry before it is missing");
        }
        if entry.prev_hash != self.head {
            return bad("prev_hash is not the hash of the entry before it");
        }
        if entry.hash != chain::hash(entry) {
            return bad("hash is not the hash of the row");
        }
        if entry.kind.counter_account() != stored.counter_account {
            return bad("counter_account is not that of its type");
        }
        if chain::funded_by_text(&entry.funded_by) != stored.funded_by
            || chain::grant_terms_text(entry) != stored.grant_terms
        {
            return bad("funded_by or grant_terms is not written as it was hashed");
        }
        if entry.balance_before != self.balance {
            return bad("balance_before is not the balance_after of the entry before it");
        }
        if entry.balance_before.checked_add(entry.amount) != Some(entry.balance_after) {
            return bad("balance_after is not balance_before and amount together");
        }
        if entry.balance_after < Credits::ZERO {
            return bad("the balance is below zero");
        }
        if entry.created_at < self.at {
            return bad("it happened before the entry before it");
        }
        self.move_grants(entry)?;
        self.seq = entry.seq;
        self.balance = entry.balance_after;
        self.head = entry.hash;
        self.at = entry.created_at;
        self.references.extend(entry.cause.reference_id.clone().map(|reference| (reference, entry.seq)));
        Ok(())
    }

    /// Does to the grants what the entry says that it did.
    fn move_grants(&mut self, entry: &Entry) -> Result<(), Halt> {
        let bad = |rule: &str| fault("credit_entries", entry.transaction_id(), rule);
        let parts: i64 = entry.funded_by.iter().map(|(_, part)| part.micro()).sum();
        let issued = entry.grant.as_ref().map_or(0, |terms| terms.amount);
        let amount = entry.amount.micro();
        let fits = match entry.kind {
            EntryKind::Recharge | EntryKind::Grant => amount > 0 && issued == amount && parts == 0,
            EntryKind::Consume | EntryKind::Capture | EntryKind::Expire => {
                amount < 0 && parts == -amount && entry.grant.is_none()
            }
            EntryKind::Refund => amount > 0 && parts + issued == amount,
            EntryKind::Reversal | EntryKind::Adjust => return bad("a type that is not written yet"),
        };
        if !fits {
            return bad("funded_by and the issued grant do not sum to amount");
        }
        let sign = if amount < 0 { -1 } else { 1 };
        for (seq, part) in &entry.funded_by {
            let Some(grant) = self.grants.get_mut(seq) else {
                return bad("funded_by names a grant that was never issued");
            };
            let expires = entry.kind == EntryKind::Expire;
            if expires != grant.expired(entry.created_at) {
                return bad(if expires {
                    "it ends a grant before its time"
                } else {
                    "it uses a grant that has ended"
                });
            }
            let remaining = grant.remaining.micro() + sign * part.micro();
            if part.micro() <= 0 || remaining < 0 || remaining > grant.amount.micro() {
                return bad("a grant would have less than nothing or more than was given");
            }
            grant.remaining = Credits::from_micro(remaining);
        }
        match entry.kind {
            EntryKind::Consume | EntryKind::Capture => {
                self.refundable.insert(entry.seq, -amount);
            }
            EntryKind::Refund => {
                let original = entry.cause.reverses.unwrap_or(0);
                let Some(left) = self.refundable.get_mut(&original).filter(|left| **left >= amount) else {
                    return bad("it refunds more than was spent");
                };
                *left -= amount;
                self.refunds.push((original, entry.seq));
            }
            EntryKind::Recharge | EntryKind::Grant => {
                let total = self.credits_total.checked_add(entry.amount);
                self.credits_total = total.unwrap_or(self.credits_total);
            }
            _ => {}
        }
        if let Some(terms) = &entry.grant {
            let amount = Credits::from_micro(terms.amount);
            self.grants.insert(
                entry.seq,
                Grant {
                    seq: entry.seq,
                    source: terms.source,
                    amount,
                    remaining: amount,
                    priority: terms.priority,
                    effective_at: Timestamp::from_micros(terms.effective_at),
                    expires_at: terms.expires_at.map(Timestamp::from_micros),
                },
            );
        }
        Ok(())
    }

    fn compare(&self, account: &Account) -> Result<(), Halt> {
        let bad = |rule: &str| fault("credit_accounts", format!("of user {}", account.user), rule);
        let left: i64 = self.grants.values().map(|grant| grant.remaining.micro()).sum();
        if account.seq != self.seq {
            return bad("seq is not the number of its entries");
        }
        if account.balance != self.balance {
            return bad("balance is not the sum of its entries");
        }
        if left != self.balance.micro() {
            return bad("the grants' remaining credits do not sum to the balance");
        }
        if account.head != self.head {
            return bad("head_hash is not the hash of its last entry");
        }
        if account.credits_total != self.credits_total {
            return bad("credits_total is not the sum of what was given");
        }
        if account.held != Credits::ZERO {
            return bad("held credits without a hold");
        }
        Ok(())
    }
}

async fn compare_grants(snapshot: &mut Snapshot, replay: &Replay) -> Result<(), Halt> {
    let sql = concat!("SELECT ", grant_columns!(), " FROM credit_grants WHERE user_id = $1 ORDER BY seq");
    let stored = match snapshot.try_query::<Grant>(sql, &[replay.user.0]).await {
        Ok(stored) => stored,
        Err(DbError::Internal(why)) => {
            return fault(
                "credit_grants",
                format!("of user {}", replay.user),
                format!("cannot be read: {why}"),
            );
        }
        Err(error) => return Err(error.into()),
    };
    for grant in &stored {
        let row = format!("grt_{}_{}", replay.user, grant.seq);
        match replay.grants.get(&grant.seq) {
            None => return fault("credit_grants", row, "no entry issued it"),
            Some(replayed) if replayed != grant => {
                return fault("credit_grants", row, "is not what the entries make of it");
            }
            Some(_) => {}
        }
    }
    // Each stored one was replayed and both are sorted, so the first that differs is the missing one.
    let mut there = stored.iter().map(|grant| grant.seq);
    match replay.grants.keys().find(|seq| there.next() != Some(**seq)) {
        Some(seq) => fault("credit_grants", format!("grt_{}_{seq}", replay.user), "is missing"),
        None => Ok(()),
    }
}

/// The list by which the sweeper finds what ended. What is spent may stand in it or not.
async fn compare_expiries(snapshot: &mut Snapshot, replay: &Replay) -> Result<(), Halt> {
    struct Expiry(i64, Timestamp);
    impl FromRow for Expiry {
        fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
            Ok(Self(row.int(0)?, Timestamp::from_micros(row.int(1)?)))
        }
    }
    let bad = |seq: i64, rule: &str| fault("credit_expiries", format!("grt_{}_{seq}", replay.user), rule);
    let sql = "SELECT seq, expires_at FROM credit_expiries WHERE user_id = $1 ORDER BY seq";
    let mut listed = BTreeSet::new();
    for Expiry(seq, end) in snapshot.query::<Expiry>(sql, &[replay.user.0]).await? {
        if replay.grants.get(&seq).and_then(|grant| grant.expires_at) != Some(end) {
            return bad(seq, "is not the end of a grant");
        }
        listed.insert(seq);
    }
    let ending = |grant: &&Grant| grant.expires_at.is_some() && grant.remaining > Credits::ZERO;
    match replay.grants.values().filter(ending).find(|grant| !listed.contains(&grant.seq)) {
        Some(grant) => bad(grant.seq, "is missing"),
        None => Ok(()),
    }
}

/// The lists by which references and refunds are found again.
async fn compare_lists(snapshot: &mut Snapshot, replay: &Replay) -> Result<(), Halt> {
    struct Reference(String, i64);
    impl FromRow for Reference {
        fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
            Ok(Self(row.text(0)?, row.int(1)?))
        }
    }
    struct Refund(i64, i64);
    impl FromRow for Refund {
        fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
            Ok(Self(row.int(0)?, row.int(1)?))
        }
    }
    let owner = || format!("of user {}", replay.user);
    let sql = "SELECT reference_id, seq FROM credit_references WHERE user_id = $1 ORDER BY seq";
    let stored = snapshot.query::<Reference>(sql, &[replay.user.0]).await?;
    if !stored.iter().map(|row| (&row.0, row.1)).eq(replay.references.iter().map(|row| (&row.0, row.1))) {
        return fault("credit_references", owner(), "are not the references of the entries");
    }
    let sql = "SELECT original_seq, refund_seq FROM credit_refunds WHERE user_id = $1 ORDER BY refund_seq";
    let stored = snapshot.query::<Refund>(sql, &[replay.user.0]).await?;
    if !stored.iter().map(|row| (row.0, row.1)).eq(replay.refunds.iter().copied()) {
        return fault("credit_refunds", owner(), "are not the refunds of the entries");
    }
    Ok(())
}

/// One state of the database, however long the looking takes.
enum Snapshot {
    Sqlite(rusqlite::Connection),
    Postgres(deadpool_postgres::Object),
}

impl Snapshot {
    async fn open(location: &Location) -> Result<Self, DbError> {
        if let Location::Sqlite(path) = location
            && !path.exists()
        {
            return Err(DbError::Unavailable(format!("there is no database at {}", path.display())));
        }
        match Db::open(location).await? {
            Db::Sqlite(db) => {
                let connection = db.reading_connection()?;
                connection.execute_batch("BEGIN")?;
                Ok(Self::Sqlite(connection))
            }
            Db::Postgres(db) => {
                let connection = db.connection().await?;
                connection
                    .batch_execute(
                        "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
                         BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
                    )
                    .await?;
                Ok(Self::Postgres(connection))
            }
        }
    }

    async fn try_query<T: FromRow>(&mut self, sql: &str, values: &[i64]) -> Result<Vec<T>, DbError> {
        let values: Vec<crate::db::Value> = values.iter().map(|value| (*value).into()).collect();
        self.run(sql, &values).await
    }

    async fn query<T: FromRow>(&mut self, sql: &str, values: &[i64]) -> Result<Vec<T>, Halt> {
        self.try_query(sql, values).await.map_err(Halt::Db)
    }

    async fn query_text<T: FromRow>(&mut self, sql: &str, value: &str) -> Result<Vec<T>, Halt> {
        self.run(sql, &[value.into()]).await.map_err(Halt::Db)
    }

    async fn run<T: FromRow>(&mut self, sql: &str, values: &[crate::db::Value]) -> Result<Vec<T>, DbError> {
        match self {
            Self::Sqlite(connection) => crate::db::sqlite::run(connection, sql, values),
            Self::Postgres(connection) => {
                let statement = connection.prepare_cached(sql).await?;
                let values: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> =
                    values.iter().map(|value| value as _).collect();
                let rows = connection.query(&statement, &values).await?;
                rows.iter().map(|row| T::from_row(&Row::Postgres(row))).collect()
            }
        }
    }
}
