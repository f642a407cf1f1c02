//! `POST /usage/rerate`: usage that had no price is rated once its model has one.
//!
//! A record that was kept `unpriced` is charged, and one that was charged at the fallback rate is
//! corrected either way, each in a transaction of its own: what it costs more is an adjustment, what
//! it costs less a refund to the grants that paid. A record is rated once.

use super::request::pools_of;
use super::{ChargeMark, ChargeStatus, api, canonical};
use crate::app::App;
use crate::auth::grants::Admin;
use crate::credits::Rejection;
use crate::credits::context::{Basis, Context};
use crate::credits::ledger::{Adjust, LedgerCommand, Note, Refund};
use crate::db::DbError;
use crate::http::envelope::bytes as to_bytes;
use crate::http::kept::{keep, key_is_used, replayed};
use crate::http::{ApiError, Envelope, Input};
use crate::prices::quote;
use crate::usage::UsageRecord;
use crate::usage::model::{UsageFacts, usage_columns};
use crate::users;
use crate::webhooks::EventType;
use crate::writer::plan::Plan;
use crate::writer::{Command, Done, WriteError};
use axum::extract::State;
use axum::response::Response;
use futures_util::StreamExt as _;
use futures_util::stream;
use kernel::{Count, Credits, ExternalId, JsonObject, RecordId, Text, TransactionId, UserRowId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// How many records one request rates at most, and when it does not say.
const LIMIT_MAX: u32 = 1_000;
/// When it does not say.
const LIMIT_DEFAULT: u32 = 200;
/// How many are rated at once, so that they share commits.
const TOGETHER: usize = 32;

/// Rate one usage record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rerate {
    /// Whose.
    pub user: UserRowId,
    /// Which record.
    pub record: i64,
    /// The entry that paid for it so far.
    pub entry: Option<TransactionId>,
    /// What it costs.
    pub price: Credits,
    /// Nano-dollars that it costs.
    pub cost_usd: i64,
    /// What it was for, and how the price was found.
    pub basis: Basis,
    /// What to write beside the entry.
    pub note: Note,
}

/// A record before and after it was rated.
#[derive(Debug, Clone)]
pub struct Rerated {
    /// Before.
    pub before: UsageRecord,
    /// After.
    pub after: UsageRecord,
}

impl Plan<'_> {
    /// Rates a record; nothing where it was rated before.
    ///
    /// # Errors
    /// Why it is refused; nothing of it is to be written then.
    pub fn rerate(&mut self, rerate: &Rerate) -> Result<Option<UsageRecord>, WriteError> {
        let Some(before) = self.working.records.get(&rerate.record).cloned() else { return Ok(None) };
        let Some(mark) = before.charge.clone().filter(|mark| {
            matches!(mark.status, ChargeStatus::Unpriced | ChargeStatus::Fallback)
                && mark.entry_seq == rerate.entry.map(|entry| entry.seq)
        }) else {
            return Ok(None);
        };
        let paid = before.facts.credits_charged;
        let more = Credits::from_micro(rerate.price.micro() - paid.micro());
        let (status, moved) = self.settle_difference(rerate, more)?;
        let charged = Credits::from_micro(paid.micro() + moved.micro());
        let mark = ChargeMark { status, due: (status == ChargeStatus::Unpaid).then_some(more), ..mark };
        let facts = UsageFacts {
            credits_charged: charged,
            cost_usd: rerate.cost_usd,
            calculation_method: "price_book".to_owned(),
            ..(*before.facts).clone()
        };
        let after = UsageRecord { facts: Arc::new(facts), charge: Some(mark), ..before.clone() };
        self.working.records.insert(after.id, after.clone());
        self.tell_usage(EventType::UsageRated, &after);
        self.changes.rerated.push(Rerated { before, after: after.clone() });
        Ok(Some(after))
    }

    /// Takes what a record costs more, or gives back what it costs less; says how much that was.
    fn settle_difference(
        &mut self,
        rerate: &Rerate,
        more: Credits,
    ) -> Result<(ChargeStatus, Credits), WriteError> {
        let nothing = Credits::ZERO;
        if more > nothing {
            let adjust = Adjust {
                amount: -more,
                original: rerate.entry,
                usage_record_id: Some(rerate.record),
                basis: rerate.basis.clone(),
                note: rerate.note.clone(),
            };
            return match self.ledger(rerate.user, &LedgerCommand::Adjust(adjust)) {
                Ok(_) => Ok((ChargeStatus::Rerated, more)),
                Err(WriteError::Credits(Rejection::Insufficient { .. })) => {
                    Ok((ChargeStatus::Unpaid, nothing))
                }
                Err(refusal) => Err(refusal),
            };
        }
        let original = rerate.entry.and_then(|entry| self.working.originals.get(&entry));
        let left =
            original.map_or(0, |original| original.entry.amount.abs().micro() - original.refunded.micro());
        let back = left.min(-more.micro());
        if let (Some(entry), true) = (rerate.entry, back > 0) {
            let amount = Some(Credits::from_micro(back));
            let refund = Refund { original: entry, amount, note: rerate.note.clone() };
            self.ledger(rerate.user, &LedgerCommand::Refund(refund))?;
        }
        Ok((ChargeStatus::Rerated, Credits::from_micro(-back)))
    }
}

/// What to rate.
#[derive(Debug, Deserialize, ToSchema)]
pub struct RerateRequest {
    /// Records of this model only.
    model_name: Option<Text<1, 200>>,
    /// Records with a larger id only: `next_after` of the answer before.
    after: Option<RecordId>,
    /// How many to look at: 1 to 1000, 200 when absent.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1_000)]
    limit: Option<Count>,
}

/// What became of the records.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct RerateView {
    /// How many were rated, and paid or corrected.
    #[schema(minimum = 0, maximum = 1_000)]
    rerated: usize,
    /// How many were rated, but their account could not pay: they are `unpaid` now.
    #[schema(minimum = 0, maximum = 1_000)]
    unpaid: usize,
    /// How many still have no price, or belong to a deleted user.
    #[schema(minimum = 0, maximum = 1_000)]
    unchanged: usize,
    /// Where to go on; absent at the end.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    next_after: Option<i64>,
}

/// Rate usage that had no price
///
/// Goes through the records that were kept `unpriced` or charged at the `fallback` rate, in the order of
/// their ids, and rates those whose model has a price by now, by the version in force at their time. Call
/// it again with `next_after` until that is absent. A record is rated once.
#[utoipa::path(
    post, path = "/api/v1/usage/rerate", tag = "Charges", operation_id = "rerate_usage",
    security(("bearer" = []), ("service_key" = ["admin"])),
    request_body(content = Option<RerateRequest>, example = json!({"model_name": "our-new-model"})),
    responses((status = 200, body = Envelope<RerateView>, description = "What became of them")),
)]
pub async fn rerate_usage(
    State(app): State<Arc<App>>,
    admin: Admin,
    Input { value, once }: Input<RerateRequest>,
) -> Result<Response, ApiError> {
    let limit = value.limit.map_or(LIMIT_DEFAULT, Count::get);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(ApiError::invalid(["body", "limit"], format!("must be 1 to {LIMIT_MAX}")));
    }
    let origin = admin.caller.origin(&once);
    let ticket = once.ticket(admin.caller.principal.caller());
    if key_is_used(&app, &ticket).await? {
        return replayed(&app, ticket).await;
    }
    let after = value.after.map_or(0, RecordId::get);
    let model = value.model_name.as_ref().map(Text::as_str);
    let records = candidates(&app, model, after, limit.into()).await?;
    let note = Note { description: Some("Rated later".to_owned()), origin, ..Note::default() };
    let last = records.last().map(|record| record.id);
    let mut view =
        RerateView { next_after: last.filter(|_| records.len() == limit as usize), ..RerateView::default() };
    let names = names(&app, &records).await?;
    let (app_ref, names, note) = (&app, &names, &note);
    let mut outcomes = stream::iter(records)
        .map(|record| async move { rate(app_ref, record, names, note).await })
        .buffer_unordered(TOGETHER);
    while let Some(outcome) = outcomes.next().await {
        match outcome? {
            Some(ChargeStatus::Unpaid) => view.unpaid += 1,
            Some(_) => view.rerated += 1,
            None => view.unchanged += 1,
        }
    }
    let message = format!("Rated {} usage records", view.rerated + view.unpaid);
    let body = to_bytes(&Envelope::new(message, app.clock.now(), view));
    drop(outcomes);
    keep(&app, ticket, body).await
}

/// The users of the records that are not deleted.
async fn names(app: &App, records: &[UsageRecord]) -> Result<BTreeMap<UserRowId, ExternalId>, DbError> {
    let keys = records.iter().filter_map(|record| record.user.0.to_string().parse().ok()).collect();
    let users = users::store::find_keys(app, &keys).await?;
    Ok(users.into_values().map(|user| (user.row, user.auth0_id)).collect())
}

async fn candidates(
    app: &App,
    model: Option<&str>,
    after: i64,
    limit: i64,
) -> Result<Vec<UsageRecord>, DbError> {
    // Says what the index on these says, so that it is used.
    let sql = concat!(
        "SELECT ",
        usage_columns!(),
        " FROM usage_records WHERE charge_status IN ('unpriced', 'fallback') AND id > $1 \
         AND (CAST($2 AS TEXT) IS NULL OR model_name = $2) ORDER BY id LIMIT $3"
    );
    let model = crate::db::Value::Text(model.map(str::to_owned));
    app.db.query(sql, vec![after.into(), model, limit.into()]).await
}

/// Rates one record, if its model has a price.
async fn rate(
    app: &App,
    record: UsageRecord,
    names: &BTreeMap<UserRowId, ExternalId>,
    note: &Note,
) -> Result<Option<ChargeStatus>, ApiError> {
    let (Some(name), Some(model)) = (names.get(&record.user), record.facts.model_name.as_deref()) else {
        return Ok(None);
    };
    let provider = record.facts.provider.as_deref();
    let book = app.prices.book();
    let Some(version) = book.resolve(model, provider, record.created_at) else { return Ok(None) };
    let explanation = quote(version, model, &pools_of(&record), &api::terms(app, name).await?)?;
    let pricing = serde_json::to_string(&explanation).map(JsonObject::from_stored).ok();
    let context = Context {
        model: Some(canonical(app, model, provider, record.created_at)),
        feature: Some(record.facts.event_type.clone()),
        session: record.facts.session_id.clone(),
        ..Context::default()
    };
    let seq = record.charge.as_ref().and_then(|mark| mark.entry_seq);
    let rerate = Rerate {
        user: record.user,
        record: record.id,
        entry: seq.map(|seq| TransactionId { user: record.user, seq }),
        price: explanation.credits,
        cost_usd: explanation.cost_usd.nano(),
        basis: Basis { context, pricing },
        note: note.clone(),
    };
    match app.writer.execute(Command::Rerate(Box::new(rerate))).await {
        Ok(Done::Rerated(record)) => Ok(record.and_then(|record| Some(record.charge?.status))),
        Ok(_) | Err(WriteError::Credits(Rejection::UnknownAccount)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
