//! How holds show themselves in answers.

use super::hold::{Hold, HoldStatus, OnExpiry};
use super::model::Entry;
use super::view::TransactionView;
use crate::auth::grants::UserRef;
use kernel::{Credits, ExternalId, HoldId, JsonObject, Text, Timestamp, TransactionId};
use serde::Serialize;
use utoipa::ToSchema;

/// A hold.
#[derive(Debug, Serialize, ToSchema)]
pub struct HoldView {
    /// The public id.
    hold_id: HoldId,
    /// Whose it is.
    user_id: ExternalId,
    /// How it stands.
    status: HoldStatus,
    /// What is set aside, or was until it was settled.
    amount: Credits,
    /// What the work has cost so far.
    ticked: Credits,
    /// What was charged.
    captured: Credits,
    /// What a capture asked for in vain.
    short_by: Credits,
    /// What becomes of it when nobody settles it.
    on_expiry: OnExpiry,
    /// When it was made.
    created_at: Timestamp,
    /// The first instant at which it is no longer open.
    expires_at: Timestamp,
    /// When it was settled.
    settled_at: Option<Timestamp>,
    /// The transaction that charged it.
    transaction_id: Option<TransactionId>,
    /// The model that it is for.
    #[schema(max_length = 200)]
    model_name: Option<String>,
    /// What the product calls it.
    #[schema(max_length = 100)]
    feature: Option<String>,
    /// The session.
    #[schema(max_length = 255)]
    session_id: Option<String>,
    /// The tags.
    #[schema(value_type = Vec<Text<1, 100>>, max_items = 20)]
    tags: Vec<String>,
    /// The caller's words.
    #[schema(max_length = 1000)]
    description: Option<String>,
    /// The caller's data.
    metadata: JsonObject,
}

impl HoldView {
    /// Shows a hold.
    #[must_use]
    pub fn new(hold: &Hold, user: &UserRef) -> Self {
        let settled = hold.settled.as_ref();
        let seq = settled.and_then(|settled| settled.entry_seq);
        Self {
            hold_id: hold.id(user.row),
            user_id: user.auth0_id.clone(),
            status: hold.status,
            amount: hold.amount,
            ticked: hold.ticked,
            captured: settled.map_or(Credits::ZERO, |settled| settled.captured),
            short_by: settled.map_or(Credits::ZERO, |settled| settled.short_by),
            on_expiry: hold.on_expiry,
            created_at: hold.created_at,
            expires_at: hold.expires_at,
            settled_at: settled.map(|settled| settled.at),
            transaction_id: seq.map(|seq| TransactionId { user: user.row, seq }),
            model_name: hold.context.model.clone(),
            feature: hold.context.feature.clone(),
            session_id: hold.context.session.clone(),
            tags: hold.context.tags.clone(),
            description: hold.description.clone(),
            metadata: hold.metadata.clone(),
        }
    }
}

/// The answer about a hold that was made, changed or settled.
#[derive(Debug, Serialize, ToSchema)]
pub struct HoldAnswer {
    /// Always true.
    success: bool,
    /// Always `success`.
    #[schema(max_length = 20)]
    status: &'static str,
    /// One sentence for people.
    #[schema(max_length = 300)]
    message: &'static str,
    /// When the answer was made; of a settled hold, when it was settled.
    timestamp: Timestamp,
    /// The hold's id.
    hold_id: HoldId,
    /// What can be spent now; absent once the hold is settled, so that asking again is answered alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    available: Option<Credits>,
    /// The hold.
    data: HoldView,
    /// The transaction that charged it.
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction: Option<TransactionView>,
}

impl HoldAnswer {
    /// Answers about a hold.
    #[must_use]
    pub fn new(
        message: &'static str,
        hold: &Hold,
        entry: Option<&Entry>,
        available: Credits,
        user: &UserRef,
        now: Timestamp,
    ) -> Self {
        Self {
            success: true,
            status: "success",
            message,
            timestamp: hold.settled.map_or(now, |settled| settled.at),
            hold_id: hold.id(user.row),
            available: hold.settled.is_none().then_some(available),
            data: HoldView::new(hold, user),
            transaction: entry.map(|entry| TransactionView::new(entry, &user.auth0_id)),
        }
    }
}
