//! Sealing a ledger anew without its texts, when its user is erased.
//!
//! Every hash of an account covers the texts that callers gave, so taking those out makes a new chain.
//! It is made piece by piece, so that nothing waits for a long history: holds first, because a hold that
//! is charged when it ends writes its texts into an entry, then entries, and with the last of them the
//! account's own row. The row in `erasures` names the seam: how many entries were sealed anew, and the
//! hash of the last of them before and after. [`super::verify`] holds the chain against it at any moment,
//! and says how many accounts were sealed anew. What is counted never changes: amounts, balances, instants,
//! types, which grants paid.

use super::hold::Hold;
use super::model::{Entry, Hash, Origin};
use super::rows::{Sealed, entry_columns, hold_columns};
use super::{Account, chain};
use crate::app::App;
use crate::db::{Db, DbError, FromRow, Row, Value};
use crate::http::facts::fresh_id;
use crate::writer::{Command, Done, Statement, WriteError};
use kernel::{JsonObject, UserRowId};
use std::sync::Arc;

/// How many holds or entries are sealed anew in one transaction.
const AT_ONCE: i64 = 250;

/// How often in a row a piece may be refused before the job comes back later.
const ATTEMPTS: usize = 20;

/// One piece: what to write, and what becomes of the account as the writer knows it.
#[derive(Debug, Clone)]
pub struct Reseal {
    /// Whose.
    pub user: UserRowId,
    /// The holds that lose their texts.
    holds: Vec<i64>,
    /// The last entry that is sealed anew, with its hash before and after.
    seam: Option<Seam>,
    /// What is written beside the account's row.
    pub statements: Vec<Statement>,
}

/// Where the new chain ends and the old one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seam {
    /// How many entries were sealed anew.
    pub entries: i64,
    /// The hash of the last of them before.
    pub old_head: Hash,
    /// The same after.
    pub new_head: Hash,
}

impl Reseal {
    /// Does to the account what the statements do to its rows; says whether the account is sealed anew wholly.
    pub fn apply(&self, account: &mut Account) -> bool {
        for hold in account.holds.iter_mut().filter(|hold| self.holds.contains(&hold.n)) {
            *hold = blank_hold(hold.clone());
        }
        let (sealed, is_last) = match &self.seam {
            Some(seam) => (seam.entries, seam.entries == account.seq && seam.old_head == account.head),
            None => (0, account.seq == 0 && self.holds.is_empty()),
        };
        account.grants.iter_mut().filter(|grant| grant.seq <= sealed).for_each(|grant| grant.scope = None);
        if is_last {
            account.head = self.seam.map_or(account.head, |seam| seam.new_head);
            account.limits = Arc::new([]);
        }
        is_last
    }
}

/// What `erasures` says of an account that is being sealed anew.
struct Progress {
    status: String,
    holds: i64,
    entries: i64,
    new_head: Option<Hash>,
}

impl FromRow for Progress {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let entries = row.int(2)?;
        let new_head = (entries > 0).then(|| row.hash(3)).transpose()?;
        Ok(Self { status: row.text(0)?, holds: row.int(1)?, entries, new_head })
    }
}

/// Seals a closed account anew; does nothing where that was done. It goes on where it was broken off.
///
/// # Errors
/// [`WriteError`].
pub async fn run(app: &App, user: UserRowId) -> Result<(), WriteError> {
    let mut refused = 0;
    while refused < ATTEMPTS {
        let sql = "SELECT status, holds, entries, new_head FROM erasures WHERE user_id = $1";
        let Some(progress) = app.db.find::<Progress>(sql, &[user.0.into()]).await? else { return Ok(()) };
        if progress.status != "pending" {
            return Ok(());
        }
        let piece = piece(&app.db, user, &progress).await?;
        match app.writer.execute(Command::Reseal(Box::new(piece))).await {
            // A hold ended meanwhile, or another process was here: what is there now is read again.
            Err(WriteError::Refused(_)) => refused += 1,
            Ok(Done::Settled) => refused = 0,
            Ok(_) => return Err(WriteError::Internal("a seal has another answer".to_owned())),
            Err(error) => return Err(error),
        }
    }
    Err(WriteError::Unavailable("the account changes while it is sealed anew".to_owned()))
}

/// The next piece.
async fn piece(db: &Db, user: UserRowId, progress: &Progress) -> Result<Reseal, DbError> {
    let sql = concat!(
        "SELECT ",
        hold_columns!(),
        " FROM credit_holds WHERE user_id = $1 AND n > $2 ORDER BY n LIMIT $3"
    );
    let values = vec![user.0.into(), progress.holds.into(), AT_ONCE.into()];
    let holds = db.query::<Sealed<Hold>>(sql, values).await?;
    if let Some(last) = holds.last() {
        let sql = "UPDATE erasures SET holds = $2 WHERE user_id = $1 AND holds = $3 AND status = 'pending'";
        let values = vec![user.0.into(), last.row.n.into(), progress.holds.into()];
        let mut statements = vec![Statement::one(sql, values)];
        statements.extend(holds.iter().map(|hold| without_texts(user, hold)));
        let holds = holds.iter().map(|hold| hold.row.n).collect();
        return Ok(Reseal { user, holds, seam: None, statements });
    }
    let sql = concat!(
        "SELECT ",
        entry_columns!(),
        " FROM credit_entries WHERE user_id = $1 AND seq > $2 ORDER BY seq LIMIT $3"
    );
    let values = vec![user.0.into(), progress.entries.into(), AT_ONCE.into()];
    let entries = db.query::<Entry>(sql, values).await?;
    let mut statements = Vec::new();
    let (mut seam, mut prev) = (None, progress.new_head.unwrap_or_default());
    let mark = fresh_id();
    for entry in entries {
        let (old, blank) = (entry.clone(), blank_entry(entry, prev, &mark));
        statements.extend(replaced(&old, &blank));
        prev = blank.hash;
        seam = Some(Seam { entries: blank.seq, old_head: old.hash, new_head: blank.hash });
    }
    if let Some(seam) = &seam {
        let sql = "UPDATE erasures SET entries = $2, old_head = $3, new_head = $4 \
            WHERE user_id = $1 AND entries = $5 AND status = 'pending'";
        let (old_head, new_head) = (seam.old_head.to_vec(), seam.new_head.to_vec());
        let values = vec![
            user.0.into(),
            seam.entries.into(),
            Value::Bytes(old_head),
            Value::Bytes(new_head),
            progress.entries.into(),
        ];
        statements.insert(0, Statement::one(sql, values));
    }
    Ok(Reseal { user, holds: Vec::new(), seam, statements })
}

/// The statement that ends it, in the transaction of the account's own row.
#[must_use]
pub fn finished(user: UserRowId) -> Statement {
    let sql = "UPDATE erasures SET status = 'resealed' WHERE user_id = $1 AND status = 'pending'";
    Statement::one(sql, vec![user.0.into()])
}

/// Who asked, without the user's name in it.
fn blank_origin(origin: &Origin) -> Origin {
    let of_user = origin.actor.starts_with("user:");
    let actor = if of_user { "user:erased".to_owned() } else { origin.actor.clone() };
    Origin { actor, ..Origin::default() }
}

/// The entry without its texts, sealed behind `prev`. A reference stays one, under a name that nobody else has.
fn blank_entry(entry: Entry, prev: Hash, mark: &str) -> Entry {
    let mut blank = Entry {
        description: None,
        metadata: JsonObject::default(),
        basis: None,
        origin: blank_origin(&entry.origin),
        prev_hash: prev,
        ..entry
    };
    if blank.cause.reference_id.is_some() {
        blank.cause.reference_id = Some(format!("erased:{mark}:{}", blank.seq));
    }
    if let Some(terms) = &mut blank.grant {
        terms.scope = None;
    }
    blank.hash = chain::hash(&blank);
    blank
}

/// The hold without its texts.
fn blank_hold(hold: Hold) -> Hold {
    let origin = blank_origin(&hold.origin);
    Hold { context: Default::default(), description: None, metadata: JsonObject::default(), origin, ..hold }
}

fn without_texts(user: UserRowId, stored: &Sealed<Hold>) -> Statement {
    let sql = "UPDATE credit_holds SET context = $3, description = NULL, metadata = $4, actor = $5, request_id = NULL, \
        idempotency_key = NULL, seal = $6 WHERE user_id = $1 AND n = $2 AND seal = $7";
    let hold = blank_hold(stored.row.clone());
    let values = vec![
        user.0.into(),
        hold.n.into(),
        hold.context_text().as_str().into(),
        hold.metadata.as_str().into(),
        hold.origin.actor.as_str().into(),
        Value::Bytes(hold.seal(user).to_vec()),
        Value::Bytes(stored.seal.clone()),
    ];
    Statement::one(sql, values)
}

/// The statements that put the blank entry into the place of the old one, in every list that names it.
fn replaced(old: &Entry, blank: &Entry) -> Vec<Statement> {
    let key: [Value; 2] = [blank.user.0.into(), blank.seq.into()];
    let sql = "UPDATE credit_entries SET reference_id = $3, description = NULL, metadata = $4, grant_terms = $5, basis = NULL, \
        actor = $6, request_id = NULL, idempotency_key = NULL, prev_hash = $7, hash = $8 \
        WHERE user_id = $1 AND seq = $2 AND hash = $9";
    let mut values = key.to_vec();
    values.extend([
        blank.cause.reference_id.clone().into(),
        blank.metadata.as_str().into(),
        chain::grant_terms_text(blank).into(),
        blank.origin.actor.as_str().into(),
        Value::Bytes(blank.prev_hash.to_vec()),
        Value::Bytes(blank.hash.to_vec()),
        Value::Bytes(old.hash.to_vec()),
    ]);
    let mut statements = vec![Statement::one(sql, values)];
    if let Some(reference) = &blank.cause.reference_id {
        let sql = "UPDATE credit_references SET reference_id = $3 WHERE user_id = $1 AND seq = $2 AND reference_id = $4";
        let mut values = key.to_vec();
        values.extend([reference.as_str().into(), old.cause.reference_id.clone().into()]);
        statements.push(Statement::one(sql, values));
    }
    if old.grant.as_ref().is_some_and(|terms| terms.scope.is_some()) {
        let sql = "UPDATE credit_grants SET scope = NULL WHERE user_id = $1 AND seq = $2";
        statements.push(Statement::one(sql, key.to_vec()));
    }
    statements
}
