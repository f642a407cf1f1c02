//! The route by which a price list comes in.

use super::import::{self, Import, ImportError, ImportReport};
use super::litellm::{List, MODELS_MAX};
use crate::app::App;
use crate::auth::grants::{Admin, Caller};
use crate::http::envelope::bytes as to_bytes;
use crate::http::input::{BatchInput, Once};
use crate::http::kept::{keep, key_is_used, replayed};
use crate::http::{ApiError, Envelope, Input, Query};
use axum::extract::State;
use axum::response::Response;
use kernel::Timestamp;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// From when an imported list is in force.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ImportQuery {
    /// The instant, later than the last version of each model; now when absent.
    effective_at: Option<Timestamp>,
}

/// A price list in LiteLLM's layout: an object of models, each with its fields.
pub struct PriceList;

impl utoipa::PartialSchema for PriceList {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema};
        let fields = Schema::Object(ObjectBuilder::new().build());
        ObjectBuilder::new()
            .description(Some("Models by name, each an object of fields such as `input_cost_per_token`."))
            .additional_properties(Some(AdditionalProperties::RefOr(fields.into())))
            .max_properties(Some(MODELS_MAX))
            .into()
    }
}

impl ToSchema for PriceList {}

/// Import a price list
///
/// In LiteLLM's layout (`model_prices_and_context_window.json`), up to 20 000 models. Each model whose price differs
/// gets a new version; a list that was imported already changes nothing.
#[utoipa::path(
    post, path = "/api/v1/prices/import", tag = "Prices", operation_id = "import_prices",
    params(ImportQuery), security(("bearer" = []), ("service_key" = ["admin"])),
    request_body(content = PriceList, example = json!({
        "acme/large-1": {"litellm_provider": "acme", "mode": "chat", "input_cost_per_token": 1.25e-6, "output_cost_per_token": 0.00001}})),
    responses((status = 200, body = Envelope<ImportReport>, description = "What became of each model")),
)]
pub async fn import_prices(
    State(app): State<Arc<App>>,
    on: Admin,
    Query(query): Query<ImportQuery>,
    BatchInput(Input { value: mut list, once }): BatchInput<List>,
) -> Result<Response, ApiError> {
    // What may stand in the body or the query beside the models.
    list.0.retain(|(name, _)| !matches!(name.as_str(), "idempotency_key" | "effective_at"));
    let now = app.clock.now();
    let import = Import {
        source: "import".to_owned(),
        actor: on.caller.principal.caller(),
        effective_at: query.effective_at.unwrap_or(now),
        now,
    };
    import_once(&app, &on.caller, &import, &list, once).await
}

/// Imports chunk by chunk, and keeps the answer under the caller's key with the last one.
async fn import_once(
    app: &App,
    caller: &Caller,
    import: &Import,
    list: &List,
    once: Once,
) -> Result<Response, ApiError> {
    let ticket = once.ticket(caller.principal.caller());
    if key_is_used(app, &ticket).await? {
        return replayed(app, ticket).await;
    }
    let report = import::run(&app.db, &app.writer, import, list, |_| {}).await;
    app.prices.refresh().await;
    let report = report.map_err(|error| match error {
        ImportError::Read(error) => error.into(),
        ImportError::Write(error) => error.into(),
        ImportError::Contended => ApiError::conflict(error.to_string()),
    })?;
    let ImportReport { imported, unchanged, skipped, .. } = &report;
    let message = format!("Imported {imported} prices, {unchanged} unchanged, {skipped} skipped");
    keep(app, ticket, to_bytes(&Envelope::new(message, import.now, report))).await
}
