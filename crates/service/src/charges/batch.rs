//! `POST /charges/batch`: many charges in one request, each with a result of its own.

use super::api::terms;
use super::request::{ChargeRequest, Sent};
use super::view::ChargeView;
use super::{Charge, Charged, Charges};
use crate::app::App;
use crate::auth::Scope;
use crate::auth::grants::Caller;
use crate::credits::ledger::Note;
use crate::http::envelope::{Envelope, bytes as to_bytes};
use crate::http::many::Many;
use crate::http::{ApiError, BatchInput, Input};
use crate::prices::Terms;
use crate::usage::batch::{named_user, own_user};
use crate::users::api::answered;
use crate::users::store;
use crate::writer::{Command, Done, WriteError};
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use kernel::{ExternalId, UserKey};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use utoipa::ToSchema;

/// The most charges of one batch: they are one transaction.
pub const CHARGES_MAX: usize = 1_000;

/// Many charges.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ChargesRequest {
    /// 1 to 1000 charges, each with its `user_id`.
    #[schema(value_type = Vec<ChargeRequest>, min_items = 1, max_items = 1_000)]
    charges: Many<Box<RawValue>, CHARGES_MAX>,
    /// Whether one refusal refuses all; false when absent.
    atomic: Option<bool>,
}

/// What became of a batch.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct ChargesView {
    /// How many were charged, or recorded as unpaid or unpriced.
    #[schema(minimum = 0, maximum = 1_000)]
    charged: usize,
    /// How many were there already.
    #[schema(minimum = 0, maximum = 1_000)]
    duplicates: usize,
    /// How many were refused.
    #[schema(minimum = 0, maximum = 1_000)]
    failed: usize,
    /// Each charge's result, in the order of the request.
    #[schema(max_items = 1_000)]
    results: Vec<ChargeResult>,
}

/// What became of one charge.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChargeResult {
    /// Its place in the request.
    #[schema(minimum = 0, maximum = 999)]
    index: usize,
    /// `charged`, `duplicate` or `failed`.
    #[schema(max_length = 20)]
    status: &'static str,
    /// The charge.
    #[serde(skip_serializing_if = "Option::is_none")]
    charge: Option<Box<ChargeView>>,
    /// Why it is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 100)]
    error_code: Option<&'static str>,
    /// The same for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1000)]
    message: Option<String>,
    /// The same for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    error_details: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Charge for usage in a batch
///
/// 1 to 1000 charges in one transaction, decided in their order. Each has a result of its own, and
/// those that can be paid are paid when others are refused, unless `atomic` is true: then it is all or
/// none, and the answer is the first refusal. Resending the whole batch is safe where the charges have
/// an `event_id`. A plain user may charge itself only.
#[utoipa::path(
    post, path = "/api/v1/charges/batch", tag = "Charges", operation_id = "create_charges",
    security(("bearer" = []), ("service_key" = ["usage:write", "credits:spend"])),
    request_body(content = ChargesRequest, example = json!({"charges": [
        {"user_id": "auth0|user1", "event_type": "ai_chat", "credits": 1.5, "event_id": "evt_1"},
        {"user_id": "auth0|user2", "event_type": "ai_chat", "model_name": "gpt-4", "prompt_tokens": 80,
         "completion_tokens": 45, "event_id": "evt_2"}]})),
    responses((status = 200, body = Envelope<ChargesView>, description = "What became of each charge")),
)]
pub async fn create_charges(
    State(app): State<Arc<App>>,
    caller: Caller,
    BatchInput(Input { value, once }): BatchInput<ChargesRequest>,
) -> Result<Response, ApiError> {
    caller.needs(Scope::UsageWrite)?;
    caller.needs(Scope::CreditsSpend)?;
    let count = value.charges.count;
    if !(1..=CHARGES_MAX).contains(&count) {
        let rule = format!("must have 1 to {CHARGES_MAX} charges, has {count}");
        return Err(ApiError::invalid(["body", "charges"], rule));
    }
    let atomic = value.atomic.unwrap_or(false);
    let note = Note { origin: caller.origin(&once), ..Note::default() };
    let Sorted { good, mut bad } = Sorted::of(&app, &caller, &value.charges.kept, &note).await?;
    if atomic && let Some((place, error)) = bad.pop_first() {
        return Err(at(place, error));
    }
    let names: Vec<ExternalId> = good.iter().map(|(_, charge)| charge.new.auth0_id.clone()).collect();
    let (places, charges): (Vec<usize>, Vec<Charge>) = good.into_iter().unzip();
    let ticket = once.ticket(caller.principal.caller());
    let reporter = Reporter { app: Arc::clone(&app), bad, places, names };
    let asker = reporter.clone();
    let respond = move |done: &Done| match done {
        Done::Charges(charged) => reporter.report(charged),
        _ => Bytes::new(),
    };
    let answer = app.writer.submit(Command::Charges(Charges { charges, atomic }), ticket, respond).await;
    answer.map(answered).map_err(|error| match error {
        WriteError::Charge(place, refusal) => {
            at(asker.places[place], app.payment_required(*refusal, &asker.names[place]))
        }
        other => other.into(),
    })
}

/// A refusal of one charge of many.
fn at(place: usize, error: ApiError) -> ApiError {
    if error.invalid.is_empty() {
        let message = format!("charges.{place}: {}", error.message);
        return ApiError { message, ..error }.detail("index", place.into());
    }
    error.within(&["charges", &place.to_string()])
}

/// The charges of a request, told apart; each with its place.
struct Sorted {
    good: Vec<(usize, Charge)>,
    bad: BTreeMap<usize, ApiError>,
}

impl Sorted {
    /// Reads and prices each charge, and finds its user.
    async fn of(
        app: &App,
        caller: &Caller,
        charges: &[Box<RawValue>],
        note: &Note,
    ) -> Result<Self, ApiError> {
        let mut sorted = Self { good: Vec::with_capacity(charges.len()), bad: BTreeMap::new() };
        let mut read = Vec::with_capacity(charges.len());
        for (place, charge) in charges.iter().enumerate() {
            match Sent::read(charge) {
                Ok(sent) => read.push((place, sent)),
                Err(error) => {
                    sorted.bad.insert(place, error);
                }
            }
        }
        let own = caller.subject().filter(|_| !caller.principal.is_admin());
        let keys: BTreeSet<UserKey> = match own {
            Some(subject) => subject.as_str().parse().into_iter().collect(),
            None => read.iter().filter_map(|(_, sent)| sent.user().cloned()).collect(),
        };
        let users = store::find_keys(app, &keys).await?;
        let mut plans: HashMap<ExternalId, Terms> = HashMap::new();
        for (place, sent) in read {
            let user = match own {
                Some(_) => own_user(caller, users.values().next(), sent.user())?,
                None => named_user(&users, sent.user()),
            };
            let user = match user {
                Ok(user) => caller.may_spend_of(app, user.row).map(|()| user),
                Err(error) => Err(error),
            };
            let charge = match user {
                Ok(user) => {
                    let terms = match plans.get(&user.auth0_id) {
                        Some(terms) => *terms,
                        None => terms(app, &user.auth0_id).await?,
                    };
                    plans.insert(user.auth0_id.clone(), terms);
                    sent.into_charge(app, caller, user, &terms, note.clone())
                }
                Err(error) => Err(error),
            };
            match charge {
                Ok(charge) => sorted.good.push((place, charge)),
                Err(error) => {
                    sorted.bad.insert(place, error);
                }
            }
        }
        Ok(sorted)
    }
}

/// Makes the answer of a batch; it may run more than once.
#[derive(Clone)]
struct Reporter {
    app: Arc<App>,
    bad: BTreeMap<usize, ApiError>,
    /// Where each charge that was submitted stands in the request, and whose it is.
    places: Vec<usize>,
    names: Vec<ExternalId>,
}

impl Reporter {
    fn report(&self, charged: &[Result<Charged, WriteError>]) -> Bytes {
        let mut view = ChargesView { failed: self.bad.len(), ..ChargesView::default() };
        view.results.extend(self.bad.iter().map(|(place, error)| failed(*place, error.clone())));
        for ((result, place), name) in charged.iter().zip(&self.places).zip(&self.names) {
            view.results.push(match result {
                Ok(charged) => {
                    let status = if charged.duplicate { "duplicate" } else { "charged" };
                    view.duplicates += usize::from(charged.duplicate);
                    view.charged += usize::from(!charged.duplicate);
                    let charge = Some(Box::new(ChargeView::new(charged, name)));
                    ChargeResult {
                        index: *place,
                        status,
                        charge,
                        error_code: None,
                        message: None,
                        error_details: None,
                    }
                }
                Err(error) => {
                    view.failed += 1;
                    failed(*place, self.app.payment_required(error.clone(), name))
                }
            });
        }
        view.results.sort_by_key(|result| result.index);
        let message = format!("Charged {} usage records", view.charged);
        to_bytes(&Envelope::new(message, self.app.clock.now(), view))
    }
}

fn failed(index: usize, error: ApiError) -> ChargeResult {
    ChargeResult {
        index,
        status: "failed",
        charge: None,
        error_code: Some(error.code),
        message: Some(error.message),
        error_details: (!error.details.is_empty()).then_some(error.details),
    }
}
