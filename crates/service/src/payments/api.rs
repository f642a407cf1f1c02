//! Routes of payments: begin one, look at them, give money back.

use super::edits::NewPayment;
use super::model::{Payment, PaymentKind};
use super::start::{self, Sale, Urls};
use super::store::{self, By};
use super::urls::{self, UrlText};
use super::view::PaymentView;
use crate::app::App;
use crate::auth::grants::{Caller, CanGrant, CanReadCredits, UserRef};
use crate::config::PRICE_MIN_CENTS;
use crate::files::address::BaseUrl;
use crate::http::envelope::bytes as to_bytes;
use crate::http::kept::{keep, key_is_used, replayed};
use crate::http::page::{Page, PageQuery};
use crate::http::{ApiError, Envelope, Input, json};
use crate::plans::api::by_key;
use crate::plans::{Pack, money};
use crate::subscriptions::api::{own, paid_plan};
use crate::users::api::{UserPath, same_user};
use axum::extract::{Path, State};
use axum::response::Response;
use kernel::{Count, Text, Usd, UserKey};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

const LIMIT_DEFAULT: i64 = 50;

/// A pack as buyers see it.
#[derive(Debug, Serialize, ToSchema)]
pub struct PackView {
    /// Its name for people.
    #[schema(max_length = 100)]
    name: String,
    /// What it costs.
    price: Usd,
    /// What it gives; it never expires.
    credits: kernel::Credits,
}

/// What can be bought once.
#[derive(Debug, Serialize, ToSchema)]
pub struct PacksAnswer {
    /// Packs by their keys.
    #[schema(schema_with = packs_by_key)]
    packs: BTreeMap<String, PackView>,
    /// In which currency they are paid.
    #[schema(max_length = 3)]
    currency: String,
}

fn packs_by_key() -> utoipa::openapi::Object {
    by_key(<PackView as utoipa::PartialSchema>::schema())
}

/// List the packs
///
/// Credits that are bought once and never expire, with their prices. Needs no token.
#[utoipa::path(
    get, path = "/api/v1/payments/packs", tag = "Payments", operation_id = "list_packs", security(()),
    responses((status = 200, body = PacksAnswer, description = "The packs")),
)]
pub async fn list_packs(State(app): State<Arc<App>>) -> Response {
    let view = |pack: &Pack| {
        let view =
            PackView { name: pack.name.clone(), price: money(pack.price_cents), credits: pack.credits };
        (pack.key.clone(), view)
    };
    let packs = app.config.catalogue.packs.iter().map(view).collect();
    json(&PacksAnswer { packs, currency: app.config.payments.currency.to_uppercase() })
}

/// An amount of money, or a pack.
#[derive(Debug, Deserialize, ToSchema)]
pub struct IntentRequest {
    /// How much in hundredths of the currency: 50 to 99999999. Absent where `pack` is given.
    amount: Option<Count>,
    /// The currency of the settings, which is the default.
    currency: Option<Text<3, 3>>,
    /// The key of a pack, in the place of an amount.
    pack: Option<Text<1, 50>>,
    /// If there, the caller itself.
    user_id: Option<UserKey>,
}

/// A payment that is to be finished with its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct IntentAnswer {
    /// Always true.
    success: bool,
    /// Stripe's payment.
    #[schema(max_length = 255)]
    payment_intent_id: String,
    /// What the page finishes it with.
    #[schema(max_length = 500)]
    client_secret: Option<String>,
    /// How much, in hundredths.
    #[schema(minimum = 50, maximum = 99_999_999)]
    amount: i64,
    /// Which currency.
    #[schema(max_length = 3)]
    currency: String,
    /// Where Stripe says it stands.
    #[schema(max_length = 50)]
    status: String,
    /// Our own id of it.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    payment_id: i64,
    /// What it gives once it is paid.
    credits: kernel::Credits,
}

pub(super) fn pack<'a>(app: &'a App, key: &str) -> Result<&'a Pack, ApiError> {
    let packs = &app.config.catalogue.packs;
    let keys = || packs.iter().map(|pack| pack.key.as_str()).collect::<Vec<_>>().join(", ");
    app.config
        .catalogue
        .pack(key)
        .ok_or_else(|| ApiError::invalid(["body", "pack"], format!("must be one of {}", keys())))
}

fn of_pack(app: &App, user: &UserRef, pack: &Pack, cause: &str) -> NewPayment {
    NewPayment {
        user: user.row,
        kind: PaymentKind::Pack,
        cause: cause.to_owned(),
        item: Some(pack.key.clone()),
        amount: pack.price_cents,
        currency: app.config.payments.currency.clone(),
        credits: pack.credits,
    }
}

fn wanted(app: &App, user: &UserRef, value: &IntentRequest, cause: &str) -> Result<NewPayment, ApiError> {
    let currency = &app.config.payments.currency;
    if value.currency.as_ref().is_some_and(|given| !given.as_str().eq_ignore_ascii_case(currency)) {
        return Err(ApiError::invalid(["body", "currency"], format!("must be {currency}")));
    }
    if let Some(key) = &value.pack {
        if value.amount.is_some() {
            return Err(ApiError::invalid(["body", "amount"], "must be absent where pack is given"));
        }
        return Ok(of_pack(app, user, pack(app, key.as_str())?, cause));
    }
    let amount = value.amount.ok_or_else(|| ApiError::missing(["body", "amount"]))?;
    let amount = i64::from(amount.get());
    if !(PRICE_MIN_CENTS..=crate::config::CENTS_MAX).contains(&amount) {
        return Err(ApiError::invalid(["body", "amount"], "must be 50 to 99999999"));
    }
    Ok(NewPayment {
        user: user.row,
        kind: PaymentKind::Credits,
        cause: cause.to_owned(),
        item: None,
        amount,
        currency: currency.clone(),
        credits: start::worth(&app.config, amount)
            .map_err(|rule| ApiError::invalid(["body", "amount"], rule))?,
    })
}

/// Begin a payment for credits
///
/// For a page of one's own, which finishes it with `client_secret`. The credits are given once the money has come, and never
/// expire: those of the pack, or `CREDITS_PER_USD` for each whole unit of the currency. The fields come as JSON or as a query.
#[utoipa::path(
    post, path = "/api/v1/payments/create-intent", tag = "Payments", operation_id = "create_payment_intent",
    security(("bearer" = [])),
    request_body(content = Option<IntentRequest>, example = json!({"amount": 2999, "currency": "usd"})),
    responses((status = 200, body = IntentAnswer, description = "The payment", links(
        ("payments" = (operation_id = "list_payments")),
    ))),
)]
pub async fn create_payment_intent(
    State(app): State<Arc<App>>,
    caller: Caller,
    Input { value, once }: Input<IntentRequest>,
) -> Result<Response, ApiError> {
    let user = own(&app, &caller).await?;
    same_user(&user.auth0_id, user.row, value.user_id.as_ref(), "user_id")?;
    let cause = start::cause(&caller.principal.caller(), once.key_text());
    let new = wanted(&app, &user, &value, &cause)?;
    start::stripe(&app)?;
    let ticket = once.ticket(caller.principal.caller());
    if key_is_used(&app, &ticket).await? {
        return replayed(&app, ticket).await;
    }
    let of = start::begin(&app, &user, &new).await?;
    let made = start::intent(&app, &user, &of, &cause).await?;
    let answer = IntentAnswer {
        success: true,
        payment_intent_id: made.id,
        client_secret: made.client_secret,
        amount: of.amount,
        currency: of.currency,
        status: made.status,
        payment_id: of.id,
        credits: of.credits,
    };
    keep(&app, ticket, to_bytes(&answer)).await
}

/// What to buy, and where to go afterwards.
#[derive(Debug, Deserialize, ToSchema)]
pub struct CheckoutRequest {
    /// The key of a plan that costs something.
    plan_type: Option<Text<1, 50>>,
    /// The key of a pack, in the place of a plan.
    pack: Option<Text<1, 50>>,
    /// Where to go once it is paid; http or https, within `PAYMENT_URL_ORIGINS` where it is set.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 2000)]
    success_url: Option<UrlText>,
    /// Where to go when it is given up; as for `success_url`.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 2000)]
    cancel_url: Option<UrlText>,
    /// If there, the caller itself.
    user_id: Option<UserKey>,
}

/// A checkout to go to.
#[derive(Debug, Serialize, ToSchema)]
pub struct CheckoutAnswer {
    /// Always true.
    success: bool,
    /// Stripe's checkout.
    #[schema(max_length = 255)]
    session_id: String,
    /// Where it is.
    #[schema(max_length = 10_000)]
    checkout_url: Option<String>,
    /// The same.
    #[schema(max_length = 10_000)]
    url: Option<String>,
    /// Where it leads once it is paid.
    #[schema(max_length = 2000)]
    success_url: String,
    /// Where it leads when it is given up.
    #[schema(max_length = 2000)]
    cancel_url: String,
    /// Our own id of the payment.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    payment_id: i64,
}

/// Begin a checkout
///
/// Of a plan or of a pack, on Stripe's own page. The plan begins, and the credits are given, once the money has come. Of a
/// user with a paid plan, 409: that plan is changed with `POST /api/v1/subscriptions`.
#[utoipa::path(
    post, path = "/api/v1/payments/create-checkout", tag = "Payments", operation_id = "create_checkout",
    security(("bearer" = [])),
    request_body(content = Option<CheckoutRequest>, example = json!({"plan_type": "pro", "success_url": "https://example.com/done", "cancel_url": "https://example.com/plans"})),
    responses((status = 200, body = CheckoutAnswer, description = "The checkout", links(
        ("payments" = (operation_id = "list_payments")),
    ))),
)]
pub async fn create_checkout(
    State(app): State<Arc<App>>,
    caller: Caller,
    base: BaseUrl,
    Input { value, once }: Input<CheckoutRequest>,
) -> Result<Response, ApiError> {
    let user = own(&app, &caller).await?;
    same_user(&user.auth0_id, user.row, value.user_id.as_ref(), "user_id")?;
    let settings = &app.config.payments;
    let urls = Urls {
        success: urls::choose(
            &app,
            "success_url",
            value.success_url.as_ref(),
            settings.success_url.as_ref(),
            &base.0,
        )?,
        cancel: urls::choose(
            &app,
            "cancel_url",
            value.cancel_url.as_ref(),
            settings.cancel_url.as_ref(),
            &base.0,
        )?,
    };
    let cause = start::cause(&caller.principal.caller(), once.key_text());
    let plan = match (&value.plan_type, &value.pack) {
        (Some(_), Some(_)) => {
            return Err(ApiError::invalid(["body", "pack"], "must be absent where plan_type is given"));
        }
        (None, None) => return Err(ApiError::missing(["body", "plan_type"])),
        (Some(key), None) => Some(Arc::clone(paid_plan(&app, key.as_str())?)),
        (None, Some(_)) => None,
    };
    let pack = value.pack.as_ref().map(|key| pack(&app, key.as_str())).transpose()?;
    start::stripe(&app)?;
    let ticket = once.ticket(caller.principal.caller());
    if key_is_used(&app, &ticket).await? {
        return replayed(&app, ticket).await;
    }
    let begun = match (&plan, pack) {
        (Some(version), _) => {
            crate::subscriptions::checkout::begin(&app, &user, version, &urls, &cause).await?
        }
        (None, Some(pack)) => {
            let of = start::begin(&app, &user, &of_pack(&app, &user, pack, &cause)).await?;
            let made = start::checkout(&app, &user, &of, Sale::Pack(pack), &urls, &cause).await?;
            (of, made)
        }
        (None, None) => return Err(ApiError::missing(["body", "plan_type"])),
    };
    let (of, made) = begun;
    let answer = CheckoutAnswer {
        success: true,
        session_id: made.id,
        checkout_url: made.url.clone(),
        url: made.url,
        success_url: urls.success,
        cancel_url: urls.cancel,
        payment_id: of.id,
    };
    keep(&app, ticket, to_bytes(&answer)).await
}

/// Where to go afterwards.
#[derive(Debug, Deserialize, ToSchema)]
pub struct PortalRequest {
    /// Where to go afterwards; http or https, within `PAYMENT_URL_ORIGINS` where it is set.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 2000)]
    return_url: Option<UrlText>,
    /// If there, the caller itself.
    user_id: Option<UserKey>,
}

/// Where cards and invoices are.
#[derive(Debug, Serialize, ToSchema)]
pub struct PortalAnswer {
    /// Always true.
    success: bool,
    /// Where it is.
    #[schema(max_length = 10_000)]
    url: String,
    /// Where it leads afterwards.
    #[schema(max_length = 2000)]
    return_url: String,
}

/// Open the customer portal
///
/// Stripe's own page, on which the user changes its card and reads its invoices.
#[utoipa::path(
    post, path = "/api/v1/payments/portal", tag = "Payments", operation_id = "create_portal",
    security(("bearer" = [])),
    request_body(content = Option<PortalRequest>, example = json!({"return_url": "https://example.com/account"})),
    responses((status = 200, body = PortalAnswer, description = "The page")),
)]
pub async fn create_portal(
    State(app): State<Arc<App>>,
    caller: Caller,
    base: BaseUrl,
    Input { value, .. }: Input<PortalRequest>,
) -> Result<Response, ApiError> {
    let user = own(&app, &caller).await?;
    same_user(&user.auth0_id, user.row, value.user_id.as_ref(), "user_id")?;
    let default = app.config.payments.success_url.as_ref();
    let return_url = urls::choose(&app, "return_url", value.return_url.as_ref(), default, &base.0)?;
    let stripe = start::stripe(&app)?;
    let customer = start::customer(&app, &user).await?;
    let form = serde_json::json!({"customer": customer, "return_url": return_url});
    let key = start::key_of("portal", &start::cause("", None));
    let page: crate::stripe::object::Page = stripe.post("/billing_portal/sessions", &form, &key).await?;
    Ok(json(&PortalAnswer { success: true, url: page.url, return_url }))
}

/// List a user's payments
///
/// Newest first, those that were never finished included.
#[utoipa::path(
    get, path = "/api/v1/users/{user_id}/payments", tag = "Payments", operation_id = "list_payments",
    params(UserPath, PageQuery), security(("bearer" = []), ("service_key" = ["credits:read"])),
    responses((status = 200, body = Envelope<Vec<PaymentView>>, description = "The payments")),
)]
pub async fn list_payments(
    State(app): State<Arc<App>>,
    on: CanReadCredits,
    page: Page,
) -> Result<Response, ApiError> {
    let before = page.after.map_or(i64::MAX, |(id, _)| id);
    let limit = page.limit(LIMIT_DEFAULT);
    let found = store::list(&app.db, on.user.row, before, limit, page.offset).await?;
    let pagination = page.of(&found, LIMIT_DEFAULT, |of: &Payment| (of.id, 0));
    let view = |of| PaymentView::new(of, &on.user.auth0_id);
    let rows: Vec<PaymentView> = found.rows.into_iter().map(view).collect();
    let message = format!("Retrieved {} payments", rows.len());
    Ok(json(&Envelope::new(message, app.clock.now(), rows).paged(pagination)))
}

/// A payment of a user.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct PaymentPath {
    /// The payment's id.
    #[param(value_type = i64, minimum = 1, maximum = 9_007_199_254_740_991_i64, example = 1)]
    payment_id: String,
}

/// How much to give back.
#[derive(Debug, Deserialize, ToSchema)]
pub struct PaymentRefundRequest {
    /// In hundredths; all that was not given back yet when absent.
    amount: Option<Count>,
    /// If there, the user of the path.
    user_id: Option<UserKey>,
}

/// Give money back
///
/// Through Stripe, to the card it came from. The credits that this money gave are taken back: what is left of them first, then what
/// else can be spent; what was spent already is owed (`credits_owed`) and paid back by the next credits.
#[utoipa::path(
    post, path = "/api/v1/users/{user_id}/payments/{payment_id}/refund", tag = "Payments", operation_id = "refund_payment",
    params(UserPath, PaymentPath), security(("bearer" = []), ("service_key" = ["credits:grant"])),
    request_body(content = PaymentRefundRequest, example = json!({"amount": 500})),
    responses((status = 200, body = Envelope<PaymentView>, description = "The payment as it now stands")),
)]
pub async fn refund_payment(
    State(app): State<Arc<App>>,
    on: CanGrant,
    Path(PaymentPath { payment_id }): Path<PaymentPath>,
    Input { value, once }: Input<PaymentRefundRequest>,
) -> Result<Response, ApiError> {
    same_user(&on.user.auth0_id, on.user.row, value.user_id.as_ref(), "user_id")?;
    if value.amount.is_some_and(|amount| amount.get() == 0) {
        return Err(ApiError::invalid(["body", "amount"], "must be more than 0"));
    }
    let unknown = || ApiError::not_found(format!("Payment not found: {payment_id}"));
    let id = payment_id.parse().map_err(|_| unknown())?;
    let find = async || {
        let found = store::find(&app.db, By::Id(id)).await?.filter(|of| of.user == on.user.row);
        found.ok_or_else(unknown)
    };
    let of = find().await?;
    start::stripe(&app)?;
    let cause = start::cause(&on.caller.principal.caller(), once.key_text());
    let ticket = once.ticket(on.caller.principal.caller());
    if key_is_used(&app, &ticket).await? {
        return replayed(&app, ticket).await;
    }
    let amount = value.amount.map(|amount| i64::from(amount.get()));
    start::refund(&app, &on.user, &of, amount, &cause).await?;
    let view = PaymentView::new(find().await?, &on.user.auth0_id);
    keep(&app, ticket, to_bytes(&Envelope::new("Money was given back", app.clock.now(), view))).await
}
