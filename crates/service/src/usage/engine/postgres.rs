//! Usage records and roll-ups on PostgreSQL.

use crate::charges::rerate::Rerated;
use crate::credits::engine::postgres::entries;
use crate::db::write::Write;
use crate::db::{DbError, FromRow, Row};
use crate::usage::UsageRecord;
use crate::usage::model::usage_columns;
use crate::usage::rollup::{Key, Sums};
use crate::writer::needs::Needs;
use crate::writer::plan::{Changes, Working};
use deadpool_postgres::Object;
use kernel::{Credits, TransactionId, UserRowId};

/// Loads the events that were recorded before, and the owners of usage records.
///
/// # Errors
/// [`DbError`].
pub async fn load(connection: &Object, needs: &Needs, working: &mut Working) -> Result<(), DbError> {
    if !needs.events.is_empty() {
        let statement = connection
            .prepare_cached(concat!(
                "SELECT ",
                usage_columns!(),
                " FROM usage_records WHERE (user_id, event_id) IN \
                 (SELECT * FROM UNNEST($1::bigint[], $2::text[]))"
            ))
            .await?;
        let (users, events): (Vec<i64>, Vec<&str>) =
            needs.events.iter().map(|(user, event)| (user.0, event.as_str())).unzip();
        let mut charged = Vec::new();
        for row in connection.query(&statement, &[&users, &events]).await? {
            let record = UsageRecord::from_row(&Row::Postgres(&row))?;
            let event = record.event_id.clone().unwrap_or_default();
            let seq = record.charge.as_ref().and_then(|charge| charge.entry_seq);
            charged.extend(seq.map(|seq| TransactionId { user: record.user, seq }));
            working.events.insert((record.user, event), record);
        }
        entries(connection, &charged, working).await?;
    }
    if !needs.records.is_empty() {
        let sql = concat!("SELECT ", usage_columns!(), " FROM usage_records WHERE id = ANY($1)");
        let statement = connection.prepare_cached(sql).await?;
        for row in connection.query(&statement, &[&needs.records]).await? {
            let record = UsageRecord::from_row(&Row::Postgres(&row))?;
            working.records.insert(record.id, record);
        }
    }
    if !needs.usage_ids.is_empty() {
        let statement =
            connection.prepare_cached("SELECT id, user_id FROM usage_records WHERE id = ANY($1)").await?;
        for row in connection.query(&statement, &[&needs.usage_ids]).await? {
            working.usage_owners.insert(row.try_get(0)?, UserRowId(row.try_get(1)?));
        }
    }
    Ok(())
}

/// What a batch writes of usage.
#[must_use]
pub fn writes(changes: &Changes) -> Vec<Write<'_>> {
    let mut writes = Vec::new();
    if !changes.usage.is_empty() {
        writes.push(record_writes(&changes.usage));
    }
    if !changes.rerated.is_empty() {
        writes.push(rerated_writes(&changes.rerated));
    }
    if !changes.rollups.is_empty() {
        writes.push(rollup_writes(changes));
    }
    writes
}

fn rerated_writes(rerated: &[Rerated]) -> Write<'_> {
    let after = || rerated.iter().map(|rerated| &rerated.after);
    let mark = || after().map(|record| record.charge.as_ref());
    Write::rows(
        "UPDATE usage_records u SET credits_charged = t.credits_charged, cost_usd = t.cost_usd, \
         calculation_method = t.calculation_method, charge_status = t.charge_status, credits_due = t.credits_due \
         FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::text[]) \
         AS t(id, credits_charged, cost_usd, calculation_method, charge_status, credits_due, before) \
         WHERE u.id = t.id AND u.charge_status = t.before",
        rerated.len(),
    )
    .column(after().map(|record| record.id))
    .column(after().map(|record| record.facts.credits_charged.micro()))
    .column(after().map(|record| record.facts.cost_usd))
    .column(after().map(|record| record.facts.calculation_method.as_str()))
    .column(mark().map(|mark| mark.map(|mark| mark.status.as_str())))
    .column(mark().map(|mark| mark.and_then(|mark| mark.due).map(Credits::micro)))
    .column(rerated.iter().map(|rerated| rerated.before.charge.as_ref().map(|mark| mark.status.as_str())))
}

/// The join refuses the records of a user whom another replica has deleted meanwhile.
fn record_writes(records: &[UsageRecord]) -> Write<'_> {
    let all = || records.iter();
    let charges = || all().map(|record| record.charge.as_ref());
    Write::rows(
        concat!(
            "INSERT INTO usage_records (",
            usage_columns!(),
            ") SELECT t.* FROM UNNEST($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], \
             $6::text[], $7::text[], $8::text[], $9::bigint[], $10::bigint[], $11::text[], $12::bigint[], \
             $13::bigint[], $14::bigint[], $15::text[], $16::text[], $17::text[], $18::text[], $19::text[], \
             $20::text[], $21::text[], $22::text[], $23::text[], $24::bigint[], $25::bigint[], $26::text[]) \
             AS t(id, user_id) \
             JOIN credit_accounts a ON a.user_id = t.user_id AND NOT a.closed"
        ),
        records.len(),
    )
    .column(all().map(|record| record.id))
    .column(all().map(|record| record.user.0))
    .column(all().map(|record| record.created_at.micros()))
    .column(all().map(|record| record.recorded_at.micros()))
    .column(all().map(|record| record.facts.event_type.as_str()))
    .column(all().map(|record| record.facts.endpoint.as_str()))
    .column(all().map(|record| record.facts.session_id.as_deref()))
    .column(all().map(|record| record.facts.trace_id.as_deref()))
    .column(all().map(|record| record.facts.credits_charged.micro()))
    .column(all().map(|record| record.facts.cost_usd))
    .column(all().map(|record| record.facts.calculation_method.as_str()))
    .column(all().map(|record| record.facts.tokens_used))
    .column(all().map(|record| record.facts.prompt_tokens))
    .column(all().map(|record| record.facts.completion_tokens))
    .column(all().map(|record| record.facts.model_name.as_deref()))
    .column(all().map(|record| record.facts.provider.as_deref()))
    .column(all().map(|record| record.facts.tool_name.as_deref()))
    .column(all().map(|record| record.facts.operation_name.as_deref()))
    .column(all().map(|record| record.facts.billing_metadata.as_str()))
    .column(all().map(|record| record.facts.request_data.as_str()))
    .column(all().map(|record| record.facts.response_data.as_str()))
    .column(all().map(|record| record.event_id.as_deref()))
    .column(charges().map(|charge| charge.map(|charge| charge.status.as_str())))
    .column(charges().map(|charge| charge.and_then(|charge| charge.entry_seq)))
    .column(charges().map(|charge| charge.and_then(|charge| charge.due).map(Credits::micro)))
    .column(charges().map(|charge| charge.and_then(|charge| charge.pools.as_deref())))
}

fn rollup_writes(changes: &Changes) -> Write<'_> {
    let keys = || changes.rollups.keys();
    let sums = |field: fn(&Sums) -> i64| changes.rollups.values().map(field);
    let text = |field: fn(&Key) -> &str| keys().map(field);
    // The keys come sorted, so that batches that move the same buckets lock them in one order.
    Write::rows(
        "INSERT INTO usage_rollups AS r (user_id, period, bucket, event_type, model_name, provider, records, \
         credits_hi, credits_lo, cost_hi, cost_lo, tokens) SELECT * FROM UNNEST($1::bigint[], $2::text[], \
         $3::bigint[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], \
         $11::bigint[], $12::bigint[]) ON CONFLICT (user_id, period, bucket, event_type, model_name, provider) \
         DO UPDATE SET records = r.records + excluded.records, credits_hi = r.credits_hi + excluded.credits_hi, \
         credits_lo = r.credits_lo + excluded.credits_lo, cost_hi = r.cost_hi + excluded.cost_hi, \
         cost_lo = r.cost_lo + excluded.cost_lo, tokens = r.tokens + excluded.tokens",
        changes.rollups.len(),
    )
    .column(keys().map(|key| key.user.0))
    .column(text(|key| key.period.as_str()))
    .column(keys().map(|key| key.bucket.micros()))
    .column(text(|key| &key.event_type))
    .column(text(|key| &key.model_name))
    .column(text(|key| &key.provider))
    .column(sums(|sums| sums.records))
    .column(sums(|sums| sums.credits.hi))
    .column(sums(|sums| sums.credits.lo))
    .column(sums(|sums| sums.cost.hi))
    .column(sums(|sums| sums.cost.lo))
    .column(sums(|sums| sums.tokens))
}
