//! Reading prices.

use super::book::{Alias, Book};
use super::version::PriceVersion;
use crate::db::{Db, DbError, FromRow, Row};
use kernel::Timestamp;

impl FromRow for PriceVersion {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let tariff = serde_json::from_str(&row.text(4)?);
        Ok(Self {
            model: row.text(0)?.into(),
            version: row.int(1)?,
            effective_at: Timestamp::from_micros(row.int(2)?),
            created_at: Timestamp::from_micros(row.int(3)?),
            tariff: tariff.map_err(|e| DbError::Internal(format!("model_prices.tariff: {e}")))?,
            source: row.text(5)?,
            actor: row.text(6)?,
        })
    }
}

impl FromRow for Alias {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self {
            alias: row.text(0)?,
            effective_at: Timestamp::from_micros(row.int(1)?),
            model: row.text(2)?.into(),
        })
    }
}

/// Which revision of the prices the database holds.
///
/// # Errors
/// [`DbError`].
pub async fn revision(db: &Db) -> Result<i64, DbError> {
    Ok(db.find("SELECT revision FROM price_book WHERE id = 1", &[]).await?.unwrap_or(0))
}

/// Every price. What is written meanwhile may or may not be in it; the revision then moves on once more.
///
/// # Errors
/// [`DbError`].
pub async fn book(db: &Db) -> Result<Book, DbError> {
    let revision = revision(db).await?;
    let aliases = "SELECT alias, effective_at, model FROM model_aliases";
    let aliases = db.query(aliases, Vec::new()).await?;
    let versions = "SELECT model, version, effective_at, created_at, tariff, source, actor FROM model_prices";
    Ok(Book::new(revision, db.query(versions, Vec::new()).await?, aliases))
}
