//! The changes of the price book, each with its statements. Rows are only ever added.

use super::book::Alias;
use super::version::PriceVersion;
use crate::writer::{Edit, Statement};
use kernel::{Timestamp, UserRowId};

/// Prices are nobody's rows; all their changes take one lane.
const NOBODY: UserRowId = UserRowId(0);

/// Adds versions and aliases, all or none. Any refused statement says that somebody else was faster.
#[must_use]
pub fn add(versions: &[PriceVersion], aliases: &[Alias], now: Timestamp) -> Edit {
    // The revision goes first: its row is locked until the commit, so that writers come one after the other.
    let bump = Statement::one("UPDATE price_book SET revision = revision + 1 WHERE id = 1", Vec::new());
    let versions = versions.iter().map(version);
    let aliases = aliases.iter().map(|named| alias(named, now));
    Edit::new(NOBODY, std::iter::once(bump).chain(versions).chain(aliases).collect())
}

/// Adds a version unless its number is not the next one, or it would change what has been in force.
fn version(version: &PriceVersion) -> Statement {
    let sql = "INSERT INTO model_prices (model, version, effective_at, created_at, tariff, source, actor) \
        SELECT $1, $2, $3, $4, $5, $6, $7 \
        WHERE $2 = (SELECT COALESCE(MAX(version), 0) + 1 FROM model_prices WHERE model = $1) \
        AND NOT EXISTS (SELECT 1 FROM model_prices WHERE model = $1 AND effective_at >= $3) ON CONFLICT DO NOTHING";
    let values = vec![
        (&*version.model).into(),
        version.version.into(),
        version.effective_at.micros().into(),
        version.created_at.micros().into(),
        // A tariff is numbers and texts, which always serialise.
        serde_json::to_string(&version.tariff).unwrap_or_default().as_str().into(),
        version.source.as_str().into(),
        version.actor.as_str().into(),
    ];
    Statement::one(sql, values)
}

/// Lets a name mean a model from an instant on, unless it was given a meaning at that instant or later.
fn alias(alias: &Alias, now: Timestamp) -> Statement {
    let sql = "INSERT INTO model_aliases (alias, effective_at, model, created_at) SELECT $1, $2, $3, $4 \
        WHERE NOT EXISTS (SELECT 1 FROM model_aliases WHERE alias = $1 AND effective_at >= $2) ON CONFLICT DO NOTHING";
    let values = vec![
        alias.alias.as_str().into(),
        alias.effective_at.micros().into(),
        (&*alias.model).into(),
        now.micros().into(),
    ];
    Statement::one(sql, values)
}
