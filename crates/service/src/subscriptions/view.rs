//! What answers about subscriptions look like.

use super::model::{Subscription, SubscriptionProvider, SubscriptionStatus};
use crate::plans::Version;
use crate::plans::api::PlanView;
use crate::stripe::object::CheckoutSession;
use kernel::{ExternalId, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

/// A subscription as its reader sees it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SubscriptionView {
    /// Its id.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    id: i64,
    /// Whose it is.
    user_id: ExternalId,
    /// The plan's key.
    #[schema(max_length = 50)]
    plan_type: String,
    /// Which version of the plan.
    #[schema(max_length = 63)]
    plan_version: String,
    /// Who says when it ends.
    provider: SubscriptionProvider,
    /// Where it stands.
    status: SubscriptionStatus,
    /// When the current period began.
    current_period_start: Timestamp,
    /// When it ends.
    current_period_end: Timestamp,
    /// When the subscription ends, where that is known.
    ends_at: Option<Timestamp>,
    /// Whether it ends with its period.
    cancel_at_period_end: bool,
    /// Which version of a plan it becomes when its period ends.
    #[schema(max_length = 63)]
    next_plan_version: Option<String>,
    /// When somebody cancelled it.
    canceled_at: Option<Timestamp>,
    /// When it began.
    created_at: Timestamp,
}

impl SubscriptionView {
    /// What is said of a user's subscription.
    #[must_use]
    pub fn new(of: Subscription, user: &ExternalId) -> Self {
        Self {
            id: of.id,
            user_id: user.clone(),
            ends_at: if of.ends_with_period() { Some(of.period.end) } else { of.ends_at },
            plan_type: of.plan,
            plan_version: of.plan_version,
            provider: of.provider,
            status: of.status,
            current_period_start: of.period.start,
            current_period_end: of.period.end,
            cancel_at_period_end: of.cancel_at_period_end,
            next_plan_version: of.next_plan_version,
            canceled_at: of.canceled_at,
            created_at: of.created_at,
        }
    }
}

/// A subscription that begins once its checkout is paid.
#[derive(Debug, Serialize, ToSchema)]
pub struct IncompleteView {
    /// Whose it is to be.
    user_id: ExternalId,
    /// The plan's key.
    #[schema(max_length = 50)]
    plan_type: String,
    /// Which version of the plan.
    #[schema(max_length = 63)]
    plan_version: String,
    /// Always `incomplete`.
    #[schema(max_length = 20)]
    status: &'static str,
    /// The payment.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    payment_id: i64,
}

/// A plan whose checkout is to be paid.
#[derive(Debug, Serialize, ToSchema)]
pub struct IncompleteAnswer {
    /// Always true.
    success: bool,
    /// Always `success`.
    #[schema(max_length = 20)]
    status: &'static str,
    /// One sentence for people.
    #[schema(max_length = 300)]
    message: &'static str,
    /// When the answer was made.
    timestamp: Timestamp,
    /// The subscription to be.
    subscription: IncompleteView,
    /// Its plan.
    plan_config: PlanView,
    /// Where it is paid.
    #[schema(max_length = 10_000)]
    checkout_url: Option<String>,
    /// Stripe's checkout.
    #[schema(max_length = 255)]
    session_id: String,
}

impl IncompleteAnswer {
    /// What is said of a checkout that was begun.
    #[must_use]
    pub fn new(
        user: &ExternalId,
        version: &Version,
        payment_id: i64,
        made: CheckoutSession,
        now: Timestamp,
    ) -> Self {
        Self {
            success: true,
            status: "success",
            message: "The plan begins once its checkout is paid",
            timestamp: now,
            subscription: IncompleteView {
                user_id: user.clone(),
                plan_type: version.plan.key.clone(),
                plan_version: version.id.clone(),
                status: "incomplete",
                payment_id,
            },
            plan_config: PlanView::from(&version.plan),
            checkout_url: made.url,
            session_id: made.id,
        }
    }
}

/// A subscription with its plan.
#[derive(Debug, Serialize, ToSchema)]
pub struct SubscriptionAnswer {
    /// Always true.
    success: bool,
    /// Always `success`.
    #[schema(max_length = 20)]
    status: &'static str,
    /// One sentence for people.
    #[schema(max_length = 300)]
    message: &'static str,
    /// When the answer was made.
    timestamp: Timestamp,
    /// The subscription.
    subscription: SubscriptionView,
    /// The same.
    data: SubscriptionView,
    /// Its plan, as it was when it began.
    plan_config: PlanView,
}

impl SubscriptionAnswer {
    /// What is said of a user's subscription.
    #[must_use]
    pub fn new(
        message: &'static str,
        user: &ExternalId,
        of: Subscription,
        version: &Version,
        now: Timestamp,
    ) -> Self {
        let view = SubscriptionView::new(of, user);
        Self {
            success: true,
            status: "success",
            message,
            timestamp: now,
            subscription: view.clone(),
            data: view,
            plan_config: PlanView::from(&version.plan),
        }
    }
}
