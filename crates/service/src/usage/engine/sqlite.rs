//! Usage records and roll-ups on SQLite.

use crate::charges::rerate::Rerated;
use crate::credits::engine::sqlite::entry;
use crate::db::{DbError, FromRow, Row};
use crate::usage::UsageRecord;
use crate::usage::model::usage_columns;
use crate::writer::needs::Needs;
use crate::writer::plan::{Changes, Working};
use crate::writer::sqlite::exactly_one;
use kernel::{Credits, TransactionId, UserRowId};
use rusqlite::{Connection, OptionalExtension, params};

const RERATE: &str = "UPDATE usage_records SET credits_charged = ?2, cost_usd = ?3, calculation_method = ?4, \
    charge_status = ?5, credits_due = ?6 WHERE id = ?1 AND charge_status = ?7";

/// Loads the events that were recorded before, and the owners of usage records.
///
/// # Errors
/// [`DbError`].
pub fn load(connection: &Connection, needs: &Needs, working: &mut Working) -> Result<(), DbError> {
    if !needs.events.is_empty() {
        let mut select = connection.prepare_cached(concat!(
            "SELECT ",
            usage_columns!(),
            " FROM usage_records WHERE user_id = ?1 AND event_id = ?2"
        ))?;
        for (user, event) in &needs.events {
            let mut rows = select.query(params![user.0, event])?;
            let record = rows.next()?.map(|row| UsageRecord::from_row(&Row::Sqlite(row))).transpose()?;
            let Some(record) = record else { continue };
            if let Some(seq) = record.charge.as_ref().and_then(|charge| charge.entry_seq) {
                let id = TransactionId { user: *user, seq };
                working.entries.extend(entry(connection, id)?.map(|entry| (id, entry)));
            }
            working.events.insert((*user, event.clone()), record);
        }
    }
    for id in &needs.records {
        let mut select = connection.prepare_cached(concat!(
            "SELECT ",
            usage_columns!(),
            " FROM usage_records WHERE id = ?1"
        ))?;
        let mut rows = select.query([id])?;
        let record = rows.next()?.map(|row| UsageRecord::from_row(&Row::Sqlite(row))).transpose()?;
        working.records.extend(record.map(|record| (*id, record)));
    }
    if !needs.usage_ids.is_empty() {
        let mut select = connection.prepare_cached("SELECT user_id FROM usage_records WHERE id = ?1")?;
        for id in &needs.usage_ids {
            let owner = select.query_row([id], |row| row.get(0)).optional()?;
            working.usage_owners.extend(owner.map(|owner| (*id, UserRowId(owner))));
        }
    }
    Ok(())
}

/// Writes the records, and moves their buckets' sums.
///
/// # Errors
/// [`DbError`].
pub fn write(connection: &Connection, changes: &Changes) -> Result<(), DbError> {
    if changes.rollups.is_empty() {
        return Ok(());
    }
    for Rerated { before, after } in &changes.rerated {
        let mark = after.charge.as_ref();
        let written = connection.prepare_cached(RERATE)?.execute(params![
            after.id,
            after.facts.credits_charged.micro(),
            after.facts.cost_usd,
            after.facts.calculation_method,
            mark.map(|mark| mark.status.as_str()),
            mark.and_then(|mark| mark.due).map(Credits::micro),
            before.charge.as_ref().map(|mark| mark.status.as_str()),
        ])?;
        exactly_one(written, "usage_records")?;
    }
    let mut insert = connection.prepare_cached(concat!(
        "INSERT INTO usage_records (",
        usage_columns!(),
        ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, \
         ?23, ?24, ?25, ?26)"
    ))?;
    for record in &changes.usage {
        let facts = &record.facts;
        insert.execute(params![
            record.id,
            record.user.0,
            record.created_at.micros(),
            record.recorded_at.micros(),
            facts.event_type,
            facts.endpoint,
            facts.session_id,
            facts.trace_id,
            facts.credits_charged.micro(),
            facts.cost_usd,
            facts.calculation_method,
            facts.tokens_used,
            facts.prompt_tokens,
            facts.completion_tokens,
            facts.model_name,
            facts.provider,
            facts.tool_name,
            facts.operation_name,
            facts.billing_metadata.as_str(),
            facts.request_data.as_str(),
            facts.response_data.as_str(),
            record.event_id,
            record.charge.as_ref().map(|charge| charge.status.as_str()),
            record.charge.as_ref().and_then(|charge| charge.entry_seq),
            record.charge.as_ref().and_then(|charge| charge.due).map(Credits::micro),
            record.charge.as_ref().and_then(|charge| charge.pools.as_deref()),
        ])?;
    }
    let mut upsert = connection.prepare_cached(
        "INSERT INTO usage_rollups (user_id, period, bucket, event_type, model_name, provider, records, credits_hi, \
         credits_lo, cost_hi, cost_lo, tokens) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
         ON CONFLICT DO UPDATE SET records = records + excluded.records, credits_hi = credits_hi + excluded.credits_hi, \
         credits_lo = credits_lo + excluded.credits_lo, cost_hi = cost_hi + excluded.cost_hi, \
         cost_lo = cost_lo + excluded.cost_lo, tokens = tokens + excluded.tokens",
    )?;
    for (key, sums) in &changes.rollups {
        upsert.execute(params![
            key.user.0,
            key.period.as_str(),
            key.bucket.micros(),
            key.event_type,
            key.model_name,
            key.provider,
            sums.records,
            sums.credits.hi,
            sums.credits.lo,
            sums.cost.hi,
            sums.cost.lo,
            sums.tokens,
        ])?;
    }
    Ok(())
}
