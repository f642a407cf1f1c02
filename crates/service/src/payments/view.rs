//! What answers about payments look like.

use super::model::{Payment, PaymentKind, PaymentStatus};
use kernel::{Credits, ExternalId, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

/// A payment as its reader sees it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PaymentView {
    /// Its id.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    payment_id: i64,
    /// Whose it is.
    user_id: ExternalId,
    /// What is paid for.
    kind: PaymentKind,
    /// The pack's key, or the version of the plan.
    #[schema(max_length = 63)]
    item: Option<String>,
    /// How much, in hundredths of the currency.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    amount: i64,
    /// Which currency.
    #[schema(max_length = 3)]
    currency: String,
    /// Where it stands.
    status: PaymentStatus,
    /// How much has come.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    amount_received: i64,
    /// How much was given back.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    amount_refunded: i64,
    /// Whether a bank has taken it back.
    disputed: bool,
    /// What it gave.
    credits: Credits,
    /// What of that was taken back.
    credits_reclaimed: Credits,
    /// What was spent before it could be taken back; the account owes it.
    credits_owed: Credits,
    /// Stripe's payment.
    #[schema(max_length = 255)]
    payment_intent_id: Option<String>,
    /// Stripe's invoice.
    #[schema(max_length = 255)]
    invoice_id: Option<String>,
    /// Why it failed the last time.
    #[schema(max_length = 20_000)]
    failure: Option<String>,
    /// When it was begun.
    created_at: Timestamp,
    /// When it last changed.
    updated_at: Timestamp,
}

impl PaymentView {
    /// What is said of a user's payment.
    #[must_use]
    pub fn new(of: Payment, user: &ExternalId) -> Self {
        Self {
            payment_id: of.id,
            user_id: user.clone(),
            kind: of.kind,
            item: of.item,
            amount: of.amount,
            currency: of.currency,
            status: of.status,
            amount_received: of.received,
            amount_refunded: of.refunded,
            disputed: of.disputed > 0,
            credits: of.granted,
            credits_reclaimed: of.reclaimed,
            credits_owed: of.owed,
            payment_intent_id: of.payment_intent,
            invoice_id: of.invoice,
            failure: of.failure,
            created_at: of.created_at,
            updated_at: of.updated_at,
        }
    }
}
