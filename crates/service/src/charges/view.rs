//! How charges show themselves in answers.

use super::{ChargeStatus, Charged};
use crate::credits::Entry;
use crate::credits::view::TransactionView;
use crate::usage::api::UsageView;
use kernel::{Credits, ExternalId, JsonObject};
use serde::Serialize;
use utoipa::ToSchema;

/// A charge: the usage record, its payment, and how its price was found.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChargeView {
    /// How it was paid for.
    status: ChargeStatus,
    /// What was spent.
    credits: Credits,
    /// What was not paid, where it was recorded all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    credits_due: Option<Credits>,
    /// What can be spent now, on anything.
    available: Credits,
    /// Whether its event was charged before; then this is what became of it.
    duplicate: bool,
    /// The usage record.
    usage: UsageView,
    /// The transaction that paid, where anything was paid.
    transaction: Option<TransactionView>,
    /// Price version, pools and arithmetic, where it was priced here.
    pricing: Option<JsonObject>,
}

impl ChargeView {
    /// Shows a charge.
    #[must_use]
    pub fn new(charged: &Charged, user_id: &ExternalId) -> Self {
        let Charged { usage, entry, duplicate, available } = charged;
        let mark = usage.charge.as_ref();
        let paid = |entry: &Entry| entry.amount.abs();
        let basis = entry.as_ref().and_then(|entry| entry.basis.as_ref());
        Self {
            // A record that was only recorded was never charged: its event is a duplicate of nothing paid.
            status: mark.map_or(ChargeStatus::Unpaid, |mark| mark.status),
            credits: entry.as_deref().map_or(Credits::ZERO, paid),
            credits_due: mark.and_then(|mark| mark.due),
            available: *available,
            duplicate: *duplicate,
            usage: UsageView::new((**usage).clone(), user_id),
            transaction: entry.as_ref().map(|entry| TransactionView::new(entry, user_id)),
            pricing: basis.and_then(|basis| basis.pricing.clone()),
        }
    }

    /// What happened, for people.
    #[must_use]
    pub const fn message(&self) -> &'static str {
        match self.status {
            ChargeStatus::Unpaid => "Usage recorded, not paid",
            ChargeStatus::Unpriced => "Usage recorded, to be rated later",
            _ => "Usage charged successfully",
        }
    }
}
