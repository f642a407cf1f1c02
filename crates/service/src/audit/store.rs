//! Reading the audit log.

use crate::db::{Db, DbError, FromRow, Row, Rows, Value, Weigh};
use kernel::Timestamp;

/// A row as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// Who that is, where it is an admin who never was a user and is not forgotten.
    pub subject: Option<String>,
    /// Did what.
    pub action: String,
    /// To what.
    pub target: Option<String>,
    /// In which request.
    pub request_id: Option<String>,
    /// From where.
    pub client_ip: Option<String>,
    /// What else there is to say: a JSON object.
    pub details: String,
}

impl FromRow for Entry {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self {
            id: row.int(0)?,
            at: Timestamp::from_micros(row.int(1)?),
            actor: row.text(2)?,
            subject: row.optional_text(3)?,
            action: row.text(4)?,
            target: row.optional_text(5)?,
            request_id: row.optional_text(6)?,
            client_ip: row.optional_text(7)?,
            details: row.text(8)?,
        })
    }
}

impl Weigh for Entry {
    fn weight(&self) -> usize {
        self.details.len() + self.target.as_ref().map_or(0, String::len)
    }
}

/// Which rows are wanted; what is absent is not asked.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this actor.
    pub actor: Option<String>,
    /// Of this action.
    pub action: Option<String>,
    /// About this.
    pub target: Option<String>,
    /// Not before.
    pub start: Option<Timestamp>,
    /// Not after.
    pub end: Option<Timestamp>,
    /// After the row with this time and number.
    pub after: Option<(i64, i64)>,
    /// How many rows to pass over.
    pub offset: i64,
    /// How many rows to give.
    pub limit: i64,
}

/// One text for each index: what is known to be asked stands first, and the rest as it may be.
macro_rules! entries {
    ($known:literal) => {
        concat!(
            "SELECT l.id, l.at, l.actor, a.subject, l.action, l.target, l.request_id, l.client_ip, l.details \
             FROM audit_log l LEFT JOIN audit_actors a ON l.actor = 'admin:' || CAST(a.id AS TEXT) WHERE ",
            $known,
            " l.at >= $1 AND l.at <= $2 AND (l.at < $3 OR (l.at = $3 AND l.id < $4)) \
             AND (CAST($5 AS TEXT) IS NULL OR l.actor = $5) AND (CAST($6 AS TEXT) IS NULL OR l.action = $6) \
             AND (CAST($7 AS TEXT) IS NULL OR l.target = $7) ORDER BY l.at DESC, l.id DESC LIMIT $8 OFFSET $9"
        )
    };
}

/// Rows of the log, newest first.
///
/// # Errors
/// [`DbError`].
pub async fn list(db: &Db, filter: Filter) -> Result<Rows<Entry>, DbError> {
    let sql = match &filter {
        Filter { target: Some(_), .. } => entries!("l.target = $7 AND"),
        Filter { actor: Some(_), action: Some(_), .. } => entries!("l.actor = $5 AND l.action = $6 AND"),
        Filter { actor: Some(_), .. } => entries!("l.actor = $5 AND"),
        Filter { action: Some(_), .. } => entries!("l.action = $6 AND"),
        _ => entries!(""),
    };
    let end = filter.end.map_or(i64::MAX, Timestamp::micros);
    let (at, id) = filter.after.unwrap_or((i64::MAX, i64::MAX));
    let values: Vec<Value> = vec![
        filter.start.map_or(i64::MIN, Timestamp::micros).into(),
        end.into(),
        at.into(),
        id.into(),
        filter.actor.into(),
        filter.action.into(),
        filter.target.into(),
        filter.limit.saturating_add(1).into(),
        filter.offset.into(),
    ];
    db.page(sql, values, filter.limit).await
}
