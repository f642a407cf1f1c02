//! Whether the stored rows say what the entries make of them.

use super::replay::Replay;
use super::snapshot::{Numbered, Snapshot};
use super::{Halt, fault};
use crate::credits::model::Grant;
use crate::credits::rows::grant_columns;
use crate::db::{DbError, FromRow, Row};
use kernel::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// A grant with the texts that are read into values.
struct StoredGrant {
    grant: Grant,
    scope: Option<String>,
    rollover: Option<String>,
}

impl FromRow for StoredGrant {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let (scope, rollover) = (row.optional_text(7)?, row.optional_text(8)?);
        Ok(Self { grant: Grant::from_row(row)?, scope, rollover })
    }
}

const GRANTS: Numbered = Numbered {
    table: "credit_grants",
    prefix: "grt",
    rows: concat!("SELECT ", grant_columns!(), " FROM credit_grants WHERE user_id = $1 ORDER BY seq"),
    keys: "SELECT seq FROM credit_grants WHERE user_id = $1 ORDER BY seq",
    one: concat!("SELECT ", grant_columns!(), " FROM credit_grants WHERE user_id = $1 AND seq = $2"),
};

pub(super) async fn compare_grants(snapshot: &mut Snapshot, replay: &Replay) -> Result<(), Halt> {
    let stored = snapshot.numbered::<StoredGrant>(&GRANTS, &[replay.user.0]).await?;
    for StoredGrant { grant, scope, rollover } in &stored {
        let row = format!("grt_{}_{}", replay.user, grant.seq);
        if (scope, rollover) != (&grant.scope_text(), &grant.rollover_text()) {
            return fault("credit_grants", row, "scope or rollover is not written as it was issued");
        }
        match replay.grants.get(&grant.seq) {
            None => return fault("credit_grants", row, "no entry issued it"),
            Some(replayed) if replayed != grant => {
                return fault("credit_grants", row, "is not what the entries make of it");
            }
            Some(_) => {}
        }
    }
    // Each stored one was replayed and both are sorted, so the first that differs is the missing one.
    let mut there = stored.iter().map(|stored| stored.grant.seq);
    match replay.grants.keys().find(|seq| there.next() != Some(**seq)) {
        Some(seq) => fault("credit_grants", format!("grt_{}_{seq}", replay.user), "is missing"),
        None => Ok(()),
    }
}

/// The list by which the sweeper finds what ended. What is spent may stand in it or not.
pub(super) async fn compare_expiries(
    snapshot: &mut Snapshot,
    replay: &Replay,
    held: &BTreeMap<i64, i64>,
) -> Result<(), Halt> {
    struct Expiry(i64, Timestamp);
    impl FromRow for Expiry {
        fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
            Ok(Self(row.int(0)?, Timestamp::from_micros(row.int(1)?)))
        }
    }
    let bad = |seq: i64, rule: &str| fault("credit_expiries", format!("grt_{}_{seq}", replay.user), rule);
    let sql = "SELECT seq, expires_at FROM credit_expiries WHERE user_id = $1 ORDER BY seq";
    let mut listed = BTreeSet::new();
    for Expiry(seq, end) in
        snapshot.query::<Expiry>("credit_expiries", whose(replay), sql, &[replay.user.0]).await?
    {
        if replay.grants.get(&seq).and_then(|grant| grant.expires_at) != Some(end) {
            return bad(seq, "is not the end of a grant");
        }
        listed.insert(seq);
    }
    // What is left of a grant and held ends with its hold, which has a list of its own.
    let free = |grant: &Grant| grant.remaining.micro() > held.get(&grant.seq).copied().unwrap_or(0);
    let ending = |grant: &&Grant| grant.expires_at.is_some() && free(grant);
    match replay.grants.values().filter(ending).find(|grant| !listed.contains(&grant.seq)) {
        Some(grant) => bad(grant.seq, "is missing"),
        None => Ok(()),
    }
}

/// The lists by which references and refunds are found again.
pub(super) async fn compare_lists(snapshot: &mut Snapshot, replay: &Replay) -> Result<(), Halt> {
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
    let sql = "SELECT reference_id, seq FROM credit_references WHERE user_id = $1 ORDER BY seq";
    let stored =
        snapshot.query::<Reference>("credit_references", whose(replay), sql, &[replay.user.0]).await?;
    if !stored.iter().map(|row| (&row.0, row.1)).eq(replay.references.iter().map(|row| (&row.0, row.1))) {
        return fault("credit_references", whose(replay), "are not the references of the entries");
    }
    let sql = "SELECT original_seq, refund_seq FROM credit_refunds WHERE user_id = $1 ORDER BY refund_seq";
    let stored = snapshot.query::<Refund>("credit_refunds", whose(replay), sql, &[replay.user.0]).await?;
    if !stored.iter().map(|row| (row.0, row.1)).eq(replay.refunds.iter().copied()) {
        return fault("credit_refunds", whose(replay), "are not the refunds of the entries");
    }
    Ok(())
}

fn whose(replay: &Replay) -> String {
    format!("of user {}", replay.user)
}
