//! Routes of prices: list, read, change.

use super::change::{PriceRequest, decide};
use super::import::ATTEMPTS;
use super::names::{self, folded};
use super::version::PriceVersion;
use super::view::{ModelView, PriceView};
use crate::app::App;
use crate::auth::grants::{Admin, Caller};
use crate::db::Rows;
use crate::http::envelope::bytes as to_bytes;
use crate::http::kept::{keep, key_is_used, replayed};
use crate::http::page::{Page, PageQuery};
use crate::http::{ApiError, Envelope, Input, Query, json};
use crate::users::api::answered;
use crate::writer::{Command, Done, Ticket, WriteError};
use axum::extract::{Path, State};
use axum::response::Response;
use kernel::{Text, Timestamp};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// How many rows the list has when the request does not say.
const LIMIT_DEFAULT: i64 = 50;

/// Which prices are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Models whose name has this in it, in upper or lower case.
    #[param(value_type = Option<String>, max_length = 200, example = "gpt-4")]
    query: Option<Text<0, 200>>,
    /// Models of this provider only.
    #[param(value_type = Option<String>, max_length = 100, example = "openai")]
    provider: Option<Text<0, 100>>,
    /// Models for this only: `chat`, `embedding` and so on.
    #[param(value_type = Option<String>, max_length = 50, example = "chat")]
    mode: Option<Text<0, 50>>,
}

/// List prices
///
/// The versions that are in force now, by name.
#[utoipa::path(
    get, path = "/api/v1/prices", tag = "Prices", operation_id = "list_prices",
    params(ListQuery, PageQuery), security(("bearer" = []), ("service_key" = [])),
    responses((status = 200, body = Envelope<Vec<PriceView>>, description = "The prices")),
)]
pub async fn list_prices(
    State(app): State<Arc<App>>,
    _caller: Caller,
    Query(query): Query<ListQuery>,
    page: Page,
) -> Result<Response, ApiError> {
    let now = app.clock.now();
    let book = app.prices.book();
    let given = |text: &Option<Text<0, 200>>| text.as_ref().map(|text| folded(text.as_str()));
    let part = given(&query.query).unwrap_or_default();
    let is = |wanted: Option<&str>, said: &Option<String>| {
        wanted.is_none_or(|wanted| wanted.is_empty() || said.as_deref() == Some(wanted))
    };
    let (provider, mode) = (query.provider.as_ref().map(Text::as_str), query.mode.as_ref().map(Text::as_str));
    let wanted = |version: &&PriceVersion| {
        is(provider, &version.tariff.provider)
            && is(mode, &version.tariff.mode)
            && (part.is_empty() || folded(&version.model).contains(&part))
    };
    // A cursor of this list is how many rows came before it.
    let start = page.after.map_or(page.offset, |(passed, _)| passed);
    let in_force = book.models().iter().filter_map(|model| model.at(now)).filter(wanted);
    let mut found = Rows::up_to(page.limit(LIMIT_DEFAULT));
    for version in in_force.skip(usize::try_from(start).unwrap_or(usize::MAX)) {
        if !found.take(PriceView::from(version)) {
            break;
        }
    }
    let next = start.saturating_add(i64::try_from(found.rows.len()).unwrap_or(i64::MAX));
    let pagination = page.of(&found, LIMIT_DEFAULT, |_| (next, 0));
    let message = format!("Retrieved {} prices", found.rows.len());
    Ok(json(&Envelope::new(message, now, found.rows).paged(pagination)))
}

/// The model that a path names.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only described: the handler takes the path")]
pub struct ModelPath {
    /// The model's name; slashes may stand as they are or as `%2F`.
    #[param(max_length = 200, min_length = 1, example = "gpt-4")]
    model: String,
}

/// Which instant is asked about.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AtQuery {
    /// The instant; now when absent.
    at: Option<Timestamp>,
    /// Who offers the model, where the name alone does not say.
    #[param(value_type = Option<String>, max_length = 100, example = "openai")]
    provider: Option<Text<0, 100>>,
}

/// The error of a model that has no price.
#[must_use]
pub fn unknown(model: &str) -> ApiError {
    ApiError::not_found(format!("No price is known for the model: {model}")).detail("model", model.into())
}

/// Read a model's prices
///
/// The name is resolved as it is for a charge: as written, as an alias, with or without its provider, without a
/// date at its end. The answer has every version, and the one that was in force at `at`.
#[utoipa::path(
    get, path = "/api/v1/prices/{*model}", tag = "Prices", operation_id = "get_price",
    params(ModelPath, AtQuery), security(("bearer" = []), ("service_key" = [])),
    responses((status = 200, body = Envelope<ModelView>, description = "The model's prices")),
)]
pub async fn get_price(
    State(app): State<Arc<App>>,
    _caller: Caller,
    Path(asked): Path<String>,
    Query(query): Query<AtQuery>,
) -> Result<Response, ApiError> {
    names::check(&asked).map_err(|rule| ApiError::invalid(["path", "model"], rule))?;
    let now = app.clock.now();
    let at = query.at.unwrap_or(now);
    let book = app.prices.book();
    let provider = query.provider.as_ref().map(Text::as_str);
    let resolved = book.resolve(&asked, provider, at).map(|version| &*version.model);
    // A model that has no version in force yet has a history all the same.
    let model = book.model(resolved.unwrap_or(&asked)).ok_or_else(|| unknown(&asked))?;
    let view = ModelView::new(&book, &asked, model, at);
    Ok(json(&Envelope::new("Prices retrieved successfully", now, view)))
}

/// Change a model's price
///
/// Adds a version, which is in force from `effective_at` on; what was in force before is never changed. A price that
/// says what the last version says adds none.
#[utoipa::path(
    put, path = "/api/v1/prices/{*model}", tag = "Prices", operation_id = "put_price",
    params(ModelPath), security(("bearer" = []), ("service_key" = ["admin"])),
    request_body(content = PriceRequest, example = json!({
        "rates": {"input": 0.00003, "output": 0.00006}, "provider": "openai", "mode": "chat", "max_output_tokens": 4096,
        "effective_at": "2030-01-01T00:00:00Z", "aliases": ["gpt-4-classic"], "source": "https://openai.com/api/pricing"})),
    responses((status = 200, body = Envelope<PriceView>, description = "The version", links(
        ("prices" = (operation_id = "get_price", parameters(("model" = "$response.body#/data/model")))),
    ))),
)]
pub async fn put_price(
    State(app): State<Arc<App>>,
    on: Admin,
    Path(model): Path<String>,
    Input { value, once }: Input<PriceRequest>,
) -> Result<Response, ApiError> {
    names::check(&model).map_err(|rule| ApiError::invalid(["path", "model"], rule))?;
    let model: Arc<str> = model.into();
    let now = app.clock.now();
    let ticket = once.ticket(on.caller.principal.caller());
    if key_is_used(&app, &ticket).await? {
        // The writer answers as it did, or refuses the other request.
        return replayed(&app, ticket).await;
    }
    let Ticket { key, room: _room } = ticket;
    for _ in 0..ATTEMPTS {
        // Not the book in memory: another process may have changed it this second.
        let book = app.prices.reload().await?;
        let change = decide(&book, &model, &value, &on.caller, now)?;
        let message =
            if change.edit.is_some() { "Price changed successfully" } else { "The price says so already" };
        let body = to_bytes(&Envelope::new(message, now, PriceView::from(&change.version)));
        let ticket = Ticket { key: key.clone(), room: None };
        let Some(edit) = change.edit else { return keep(&app, ticket, body).await };
        match app.writer.submit(Command::Edit(edit), ticket, move |_: &Done| body.clone()).await {
            Err(WriteError::Refused(_)) => {}
            answer => {
                let answer = answered(answer?);
                app.prices.refresh().await;
                return Ok(answer);
            }
        }
    }
    Err(ApiError::conflict("The price is being changed by somebody else; read it and try again"))
}
