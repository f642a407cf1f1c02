//! Why a transaction is what it is.

use super::context::Context;
use super::model::{Entry, EntryKind, Grant, Source};
use super::store;
use super::view::TransactionView;
use crate::app::App;
use crate::auth::grants::CanReadCredits;
use crate::http::{ApiError, Envelope, json};
use crate::users::api::UserPath;
use axum::extract::{Path, State};
use axum::response::Response;
use kernel::{Credits, GrantId, HoldId, JsonObject, Text, Timestamp, TransactionId};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// How many grants the sentences name; all are in `funded_by`.
const PARTS_TOLD_MAX: usize = 10;

/// The transaction that a path names.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only described: the handler reads the path")]
pub struct TransactionPath {
    /// The transaction's id.
    #[param(
        pattern = "^txn_[1-9][0-9]{0,18}_[1-9][0-9]{0,18}$",
        min_length = 7,
        max_length = 43,
        example = "txn_112_7"
    )]
    transaction_id: String,
}

/// A transaction and all that it rests on.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExplanationView {
    /// The transaction.
    transaction: TransactionView,
    /// The same for people, one sentence each.
    #[schema(value_type = Vec<Text<1, 2000>>, max_items = 20)]
    sentences: Vec<String>,
    /// What it was for: model, feature, session, key, tags; what was not said is absent.
    #[schema(value_type = Object)]
    context: Context,
    /// How the amount was found: price version, pools and arithmetic; absent where the caller named
    /// the amount itself.
    pricing: Option<JsonObject>,
    /// Which grants paid, or were paid back.
    #[schema(max_items = 10_000)]
    funded_by: Vec<PartView>,
    /// The grant that it issued.
    issued: Option<GrantId>,
    /// The hold that it charged.
    #[schema(max_length = 43)]
    hold_id: Option<String>,
    /// The account on the other side, which moves by the opposite amount.
    #[schema(max_length = 20)]
    counter_account: &'static str,
    /// Who asked: `user:…`, `key:…` or `system`.
    #[schema(max_length = 300)]
    actor: String,
    /// The request's id.
    #[schema(max_length = 128)]
    request_id: Option<String>,
    /// The request's idempotency key.
    #[schema(max_length = 255)]
    idempotency_key: Option<String>,
    /// The hash of the transaction before it, in hexadecimal digits.
    #[schema(max_length = 64)]
    prev_hash: String,
    /// Its own hash.
    #[schema(max_length = 64)]
    hash: String,
}

/// What one grant paid.
#[derive(Debug, Serialize, ToSchema)]
pub struct PartView {
    /// The grant; absent for the credit limit.
    grant_id: Option<GrantId>,
    /// How much.
    amount: Credits,
    /// Where the grant came from.
    source: Option<Source>,
    /// When it is spent, 0 first.
    #[schema(minimum = 0, maximum = 1_000_000)]
    priority: Option<i64>,
    /// When it ends.
    expires_at: Option<Timestamp>,
}

/// Explain a transaction
///
/// The price version, the pools and the arithmetic of its amount, the grants that paid, who asked, by
/// which request and under which key, and its place in the hash chain.
#[utoipa::path(
    get, path = "/api/v1/users/{user_id}/credits/transactions/{transaction_id}/explain", tag = "Credits",
    operation_id = "explain_transaction",
    params(UserPath, TransactionPath), security(("bearer" = []), ("service_key" = ["credits:read"])),
    responses((status = 200, body = Envelope<ExplanationView>, description = "What it rests on")),
)]
pub async fn explain_transaction(
    State(app): State<Arc<App>>,
    on: CanReadCredits,
    Path(path): Path<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let text = path.iter().find(|(name, _)| name == "transaction_id").map_or("", |(_, value)| value);
    let id: TransactionId =
        text.parse().map_err(|rule| ApiError::invalid(["path", "transaction_id"], format!("{rule}")))?;
    let unknown = || ApiError::from(super::Rejection::UnknownTransaction(id.to_string()));
    if id.user != on.user.row {
        return Err(unknown());
    }
    let entry = store::one_entry(&app.db, id).await?.ok_or_else(unknown)?;
    let seqs: Vec<i64> = entry.funded_by.iter().map(|(seq, _)| *seq).collect();
    let grants = store::grants_of(&app.db, on.user.row, &seqs).await?;
    let grants: BTreeMap<i64, Grant> = grants.into_iter().map(|grant| (grant.seq, grant)).collect();
    let transaction = TransactionView::new(&entry, &on.user.auth0_id);
    let view = ExplanationView::new(entry, transaction, &grants);
    Ok(json(&Envelope::new("Transaction explained", app.clock.now(), view)))
}

impl ExplanationView {
    fn new(entry: Entry, transaction: TransactionView, grants: &BTreeMap<i64, Grant>) -> Self {
        let parts = entry.funded_by.iter().map(|(seq, amount)| {
            let grant = grants.get(seq);
            PartView {
                grant_id: (*seq != 0).then_some(GrantId { user: entry.user, seq: *seq }),
                amount: *amount,
                source: grant.map(|grant| grant.source),
                priority: grant.map(|grant| grant.priority),
                expires_at: grant.and_then(|grant| grant.expires_at),
            }
        });
        let basis = entry.basis.clone().unwrap_or_default();
        Self {
            transaction,
            funded_by: parts.collect(),
            sentences: sentences(&entry),
            context: basis.context,
            pricing: basis.pricing,
            issued: entry.grant.as_ref().map(|_| GrantId { user: entry.user, seq: entry.seq }),
            hold_id: entry.cause.hold_id,
            counter_account: entry.kind.counter_account(),
            actor: entry.origin.actor,
            request_id: entry.origin.request_id,
            idempotency_key: entry.origin.idempotency_key,
            prev_hash: hex(&entry.prev_hash),
            hash: hex(&entry.hash),
        }
    }
}

/// What happened, for people.
fn sentences(entry: &Entry) -> Vec<String> {
    let amount = entry.amount.abs();
    let what = match entry.kind {
        EntryKind::Consume => format!("{amount} credits were spent."),
        EntryKind::Capture => format!("{amount} credits of a hold were charged."),
        EntryKind::Recharge => format!("{amount} credits were bought."),
        EntryKind::Grant => format!("{amount} credits were given."),
        EntryKind::Refund => format!("{amount} spent credits came back."),
        EntryKind::Reversal if entry.cause.reference_id.is_some() => {
            format!("{amount} credits that a grant gave were taken back.")
        }
        EntryKind::Reversal => format!("{amount} credits that were left of a grant were taken back."),
        EntryKind::Expire => format!("{amount} credits ended with their grant."),
        EntryKind::Adjust if entry.amount == Credits::ZERO => "What was owed was paid back.".to_owned(),
        EntryKind::Adjust => format!("The balance was corrected by {} credits.", entry.amount),
    };
    let mut sentences = vec![what];
    #[derive(serde::Deserialize)]
    struct Said {
        arithmetic: Option<String>,
    }
    let pricing = entry.basis.as_ref().and_then(|basis| basis.pricing.as_ref());
    let said = pricing.and_then(|pricing| serde_json::from_str::<Said>(pricing.as_str()).ok());
    sentences.extend(said.and_then(|said| said.arithmetic));
    for (seq, part) in entry.funded_by.iter().take(PARTS_TOLD_MAX) {
        let whose = match seq {
            0 if entry.kind == EntryKind::Reversal => "what was spent before, and is owed now".to_owned(),
            0 => "the credit limit".to_owned(),
            seq => format!("grant {}", GrantId { user: entry.user, seq: *seq }),
        };
        let to = if entry.kind == EntryKind::Refund { "to" } else { "of" };
        sentences.push(format!("{part} {to} {whose}."));
    }
    if let more @ 1.. = entry.funded_by.len().saturating_sub(PARTS_TOLD_MAX) {
        sentences.push(format!("And {more} more grants."));
    }
    if let (EntryKind::Expire, Some(terms)) = (entry.kind, &entry.grant) {
        sentences.push(format!("{} credits rolled over.", Credits::from_micro(terms.amount)));
    }
    if let Some(original) = entry.cause.reverses {
        let id = TransactionId { user: entry.user, seq: original };
        sentences.push(format!("It goes back to {id}."));
    }
    if let Some(id) = entry.cause.hold_id.as_deref().and_then(|id| id.parse::<HoldId>().ok()) {
        sentences.push(format!("The hold was {id}."));
    }
    sentences.push(format!("The balance went from {} to {}.", entry.balance_before, entry.balance_after));
    sentences
}

fn hex(hash: &[u8]) -> String {
    hash.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
