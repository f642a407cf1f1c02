//! Routes of plans: the catalogue, and what a user may do.

use super::model::{Plan, Version};
use super::store;
use crate::app::App;
use crate::auth::grants::CanReadUser;
use crate::config::PLANS_MAX;

use crate::http::{ApiError, Envelope, Input, json};
use crate::users::api::{UserPath, same_user};
use axum::extract::State;
use axum::response::Response;
use kernel::{Credits, ExternalId, Text, Usd, UserKey};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, Schema, Type};
use utoipa::openapi::{Ref, RefOr};

/// A plan as the catalogue shows it.
#[derive(Debug, Serialize, ToSchema)]
pub struct PlanView {
    /// Its name.
    #[schema(max_length = 100)]
    name: String,
    /// What a month of it costs.
    price_monthly: Usd,
    /// The credits of each period.
    credits: Credits,
    /// What it lets its users do.
    #[schema(max_items = 100, max_length = 100)]
    features: Vec<String>,
    /// How many days a period has.
    #[schema(minimum = 1, maximum = 3650)]
    duration_days: u32,
    /// Whether it is the recommended one.
    recommended: bool,
}

impl From<&Plan> for PlanView {
    fn from(plan: &Plan) -> Self {
        Self {
            name: plan.name.clone(),
            price_monthly: plan.price(),
            credits: plan.credits(),
            features: plan.features.clone(),
            duration_days: plan.duration_days,
            recommended: plan.recommended,
        }
    }
}

/// Every plan that can be subscribed to.
#[derive(Debug, Serialize, ToSchema)]
pub struct CatalogueView {
    /// By their keys.
    #[schema(schema_with = plans_by_key)]
    plans: BTreeMap<String, PlanView>,
    /// The currency of the prices.
    #[schema(max_length = 3)]
    currency: String,
    /// What a price is for.
    #[schema(max_length = 20)]
    billing_cycle: &'static str,
}

fn plans_by_key() -> Object {
    by_key(RefOr::Ref(Ref::from_schema_name("PlanView")))
}

/// An object of such views by the keys of plans or packs.
#[must_use]
pub fn by_key(view: RefOr<Schema>) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .additional_properties(Some(view))
        .max_properties(Some(PLANS_MAX))
        .build()
}

/// List plans
///
/// As `PLANS_FILE` or the defaults say. Whoever has subscribed keeps the plan as it was then.
#[utoipa::path(
    get, path = "/api/v1/subscriptions/plans", tag = "Subscriptions", operation_id = "list_plans", security(()),
    responses((status = 200, body = CatalogueView, description = "The catalogue")),
)]
pub async fn list_plans(State(app): State<Arc<App>>) -> Response {
    let plans = app.config.catalogue.plans.iter();
    let plans = plans.map(|version| (version.plan.key.clone(), PlanView::from(&version.plan)));
    json(&CatalogueView {
        plans: plans.collect(),
        currency: app.config.payments.currency.to_uppercase(),
        billing_cycle: "monthly",
    })
}

/// What a user may do.
#[derive(Debug, Serialize, ToSchema)]
pub struct Entitlements {
    /// The user.
    user_id: ExternalId,
    /// Its plan's key.
    #[schema(max_length = 50)]
    plan: String,
    /// Which version of it.
    #[schema(max_length = 63)]
    plan_version: String,
    /// What it lets the user do.
    #[schema(max_items = 100, max_length = 100)]
    features: Vec<String>,
}

async fn plan_of(app: &App, on: &CanReadUser) -> Result<Arc<Version>, ApiError> {
    let found = store::of_user(app, on.user.row).await?;
    found.ok_or_else(|| ApiError::user_not_found(on.user.auth0_id.as_str()))
}

/// Tell what a user may do
///
/// The features of its plan, as the plan was when the user subscribed to it.
#[utoipa::path(
    get, path = "/api/v1/users/{user_id}/entitlements", tag = "Subscriptions", operation_id = "get_entitlements",
    params(UserPath), security(("bearer" = []), ("service_key" = ["users:read"])),
    responses((status = 200, body = Envelope<Entitlements>, description = "What it may do")),
)]
pub async fn get_entitlements(State(app): State<Arc<App>>, on: CanReadUser) -> Result<Response, ApiError> {
    let version = plan_of(&app, &on).await?;
    let entitlements = Entitlements {
        user_id: on.user.auth0_id,
        plan: version.plan.key.clone(),
        plan_version: version.id.clone(),
        features: version.plan.features.clone(),
    };
    Ok(json(&Envelope::new("Entitlements retrieved successfully", app.clock.now(), entitlements)))
}

/// What is asked for.
#[derive(Debug, Deserialize, ToSchema)]
pub struct EntitlementRequest {
    /// The feature.
    feature: Text<1, 100>,
    /// If there, the user of the path.
    user_id: Option<UserKey>,
}

/// Whether a user may do something.
#[derive(Debug, Serialize, ToSchema)]
pub struct Entitlement {
    /// The feature.
    #[schema(max_length = 100)]
    feature: String,
    /// Whether the user has it.
    allowed: bool,
    /// Why: `included`, `not_in_plan`, or `unknown_feature` where no plan has it.
    #[schema(max_length = 20)]
    reason: &'static str,
    /// The user's plan.
    #[schema(max_length = 50)]
    plan: String,
    /// The cheapest plan of the catalogue that has it.
    #[schema(max_length = 50)]
    available_in: Option<String>,
}

/// Ask whether a user may do something
#[utoipa::path(
    post, path = "/api/v1/users/{user_id}/entitlements/check", tag = "Subscriptions", operation_id = "check_entitlement",
    params(UserPath), security(("bearer" = []), ("service_key" = ["users:read"])),
    request_body(content = EntitlementRequest, example = json!({"feature": "advanced_ai"})),
    responses((status = 200, body = Envelope<Entitlement>, description = "Whether it may, and why")),
)]
pub async fn check_entitlement(
    State(app): State<Arc<App>>,
    on: CanReadUser,
    Input { value, .. }: Input<EntitlementRequest>,
) -> Result<Response, ApiError> {
    same_user(&on.user.auth0_id, on.user.row, value.user_id.as_ref(), "user_id")?;
    let version = plan_of(&app, &on).await?;
    let feature = value.feature.into_string();
    let has = |plan: &Plan| plan.features.contains(&feature);
    let allowed = has(&version.plan);
    let selling = app.config.catalogue.plans.iter().find(|version| has(&version.plan));
    let reason = match (allowed, selling) {
        (true, _) => "included",
        (false, Some(_)) => "not_in_plan",
        (false, None) => "unknown_feature",
    };
    let available_in = selling.map(|version| version.plan.key.clone());
    let plan = version.plan.key.clone();
    let message = if allowed { "The feature is included" } else { "The feature is not included" };
    let entitlement = Entitlement { feature, allowed, reason, plan, available_in };
    Ok(json(&Envelope::new(message, app.clock.now(), entitlement)))
}
