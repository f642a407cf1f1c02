//! The batch: many records in one request, each with a result of its own.

use super::api::UsageRequest;
use super::model::{NewUsage, Outcome, Record};
use crate::app::App;
use crate::auth::Scope;
use crate::auth::grants::{Caller, UserRef};
use crate::http::envelope::{Envelope, bytes as to_bytes};
use crate::http::input::from_json;
use crate::http::many::Many;
use crate::http::{ApiError, BatchInput, Input, Invalid};
use crate::users::api::answered;
use crate::users::store;
use crate::writer::{Answer, Command, Done};
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use kernel::{Clock, UserKey};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use utoipa::ToSchema;

/// The most records of one batch.
pub const RECORDS_MAX: usize = 10_000;
/// How many are written at once where nothing demands that all are.
const CHUNK: usize = 1_000;

/// Many usage records.
#[derive(Debug, Deserialize, ToSchema)]
pub struct BatchRequest {
    /// 1 to 10000 records, each with its `user_id`.
    #[schema(value_type = Vec<UsageRequest>, min_items = 1, max_items = 10_000)]
    records: Many<Box<RawValue>, RECORDS_MAX>,
    /// Whether one bad record refuses all; false when absent.
    atomic: Option<bool>,
}

/// What became of a batch.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct BatchView {
    /// How many were written.
    #[schema(minimum = 0, maximum = 10_000)]
    recorded: usize,
    /// How many were there already.
    #[schema(minimum = 0, maximum = 10_000)]
    duplicates: usize,
    /// How many are bad.
    #[schema(minimum = 0, maximum = 10_000)]
    failed: usize,
    /// Each record's result, in the order of the request.
    #[schema(max_items = 10_000)]
    results: Vec<ResultView>,
}

/// What became of one record.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ResultView {
    /// Its place in the request.
    #[schema(minimum = 0, maximum = 9_999)]
    index: usize,
    /// `recorded`, `duplicate` or `failed`.
    #[schema(max_length = 20)]
    status: &'static str,
    /// The record's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    id: Option<i64>,
    /// Why it is bad.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 100)]
    error_code: Option<&'static str>,
    /// The same for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1000)]
    message: Option<String>,
}

/// Record usage in a batch
///
/// 1 to 10000 records. Each has a result of its own and good ones are kept when others are bad,
/// unless `atomic` is true. Resending the whole batch is safe where the records have an `event_id`.
/// A plain user may record its own usage only.
#[utoipa::path(
    post, path = "/api/v1/usage/batch", tag = "Usage", operation_id = "record_usage_batch",
    security(("bearer" = []), ("service_key" = ["usage:write"])),
    request_body(content = BatchRequest, example = json!({"records": [
        {"user_id": "auth0|user1", "event_type": "api_call", "credits_charged": 1.0, "event_id": "evt_1"},
        {"user_id": "auth0|user2", "event_type": "api_call", "credits_charged": 2.5, "event_id": "evt_2"}]})),
    responses((status = 200, body = Envelope<BatchView>, description = "What became of each record")),
)]
pub async fn record_usage_batch(
    State(app): State<Arc<App>>,
    caller: Caller,
    BatchInput(Input { value, once }): BatchInput<BatchRequest>,
) -> Result<Response, ApiError> {
    caller.needs(Scope::UsageWrite)?;
    let count = value.records.count;
    if !(1..=RECORDS_MAX).contains(&count) {
        let rule = format!("must have 1 to {RECORDS_MAX} records, has {count}");
        return Err(ApiError::invalid(["body", "records"], rule));
    }
    let atomic = value.atomic.unwrap_or(false);
    let sorted = Sorted::of(&app, &caller, &value.records.kept).await?;
    if atomic && !sorted.bad.is_empty() {
        return Err(refuse_all(&sorted.bad));
    }
    let ticket = once.ticket(caller.principal.caller());
    let whole = atomic || ticket.key.is_some();
    if whole || sorted.good.len() <= CHUNK {
        let (places, records): (Vec<usize>, Vec<NewUsage>) = sorted.good.into_iter().unzip();
        let (bad, clock) = (sorted.bad, app.clock.clone());
        let respond = move |done: &Done| match done {
            Done::Usage(outcomes) => report(&bad, places.iter().copied().zip(outcomes), &clock),
            _ => Bytes::new(),
        };
        let command = Command::Usage(Record { records, atomic });
        return Ok(answered(app.writer.submit(command, ticket, respond).await?));
    }
    let mut outcomes = Vec::with_capacity(sorted.good.len());
    for chunk in sorted.good.chunks(CHUNK) {
        let records = chunk.iter().map(|(_, new)| new.clone()).collect();
        let done = app.writer.execute(Command::Usage(Record { records, atomic: false })).await?;
        if let Done::Usage(part) = done {
            outcomes.extend(part);
        }
    }
    let places = sorted.good.iter().map(|(place, _)| *place);
    let body = report(&sorted.bad, places.zip(&outcomes), &app.clock);
    Ok(answered(Answer { body, replayed: false }))
}

/// The records of a request, told apart; each with its place.
struct Sorted {
    good: Vec<(usize, NewUsage)>,
    bad: BTreeMap<usize, ApiError>,
}

impl Sorted {
    /// Reads each record and finds its user.
    async fn of(app: &App, caller: &Caller, records: &[Box<RawValue>]) -> Result<Self, ApiError> {
        let now = app.clock.now();
        let mut bad = BTreeMap::new();
        let mut read = Vec::with_capacity(records.len());
        for (place, record) in records.iter().enumerate() {
            match from_json::<UsageRequest>(record.get().as_bytes(), "body") {
                Ok(request) => read.push((place, request)),
                Err(error) => {
                    bad.insert(place, error);
                }
            }
        }
        let own = caller.subject().filter(|_| !caller.principal.is_admin());
        let keys: BTreeSet<UserKey> = match own {
            Some(subject) => subject.as_str().parse().into_iter().collect(),
            None => read.iter().filter_map(|(_, request)| request.user_id.clone()).collect(),
        };
        let users = store::find_keys(app, &keys).await?;
        let mut good = Vec::with_capacity(read.len());
        for (place, request) in read {
            let user = match own {
                Some(_) => own_user(caller, users.values().next(), request.user_id.as_ref())?,
                None => named_user(&users, request.user_id.as_ref()),
            };
            match user.and_then(|user| request.into_new(user, now, app.config.contents)) {
                Ok(new) => good.push((place, new)),
                Err(error) => {
                    bad.insert(place, error);
                }
            }
        }
        Ok(Self { good, bad })
    }
}

/// The user that a record of a batch names.
///
/// # Errors
/// 400 where it names none, 404 where there is none.
pub fn named_user(users: &BTreeMap<UserKey, UserRef>, named: Option<&UserKey>) -> Result<UserRef, ApiError> {
    let key = named.ok_or_else(|| ApiError::invalid(["body", "user_id"], "Field required in a batch"))?;
    users.get(key).cloned().ok_or_else(|| ApiError::user_not_found(key.as_external().as_str()))
}

/// The plain user itself; a record that names another refuses the whole request.
///
/// # Errors
/// 403; within, 404 where the user is not there.
pub fn own_user(
    caller: &Caller,
    own: Option<&UserRef>,
    named: Option<&UserKey>,
) -> Result<Result<UserRef, ApiError>, ApiError> {
    let subject = caller.subject().map_or("", |subject| subject.as_str());
    let user = own.ok_or_else(|| ApiError::user_not_found(subject));
    let is_own = |key: &UserKey| match own {
        Some(user) => key.names(&user.auth0_id, user.row),
        None => key.as_external().as_str() == subject,
    };
    match named {
        Some(key) if !is_own(key) => Err(ApiError::forbidden("A user can record its own usage only")),
        _ => Ok(user.cloned()),
    }
}

/// 400 with every bad record's mistakes, each with its place.
fn refuse_all(bad: &BTreeMap<usize, ApiError>) -> ApiError {
    /// How many mistakes one answer names.
    const NAMED_MAX: usize = 100;
    let mistakes = bad.iter().flat_map(|(place, error)| {
        let of_record = |loc: &[String], msg: &str| {
            let start = ["body".to_owned(), "records".to_owned(), place.to_string()];
            let loc = start.into_iter().chain(loc.iter().skip(1).cloned()).collect();
            Invalid { kind: "value_error", loc, msg: msg.to_owned() }
        };
        if error.invalid.is_empty() {
            vec![of_record(&["body".to_owned(), "user_id".to_owned()], &error.message)]
        } else {
            error.invalid.iter().map(|mistake| of_record(&mistake.loc, &mistake.msg)).collect()
        }
    });
    ApiError::all_invalid(mistakes.take(NAMED_MAX).collect())
}

fn report<'a>(
    bad: &BTreeMap<usize, ApiError>,
    outcomes: impl Iterator<Item = (usize, &'a Outcome)>,
    clock: &Clock,
) -> Bytes {
    let failed = |index, code, message: String| ResultView {
        index,
        status: "failed",
        id: None,
        error_code: Some(code),
        message: Some(message),
    };
    let written =
        |index, status, id| ResultView { index, status, id: Some(id), error_code: None, message: None };
    let mut view = BatchView::default();
    view.results.extend(bad.iter().map(|(place, error)| failed(*place, error.code, error.message.clone())));
    view.failed = bad.len();
    for (place, outcome) in outcomes {
        view.results.push(match outcome {
            Outcome::Recorded(record) => {
                view.recorded += 1;
                written(place, "recorded", record.id)
            }
            Outcome::Duplicate(record) => {
                view.duplicates += 1;
                written(place, "duplicate", record.id)
            }
            Outcome::UnknownUser(user) => {
                view.failed += 1;
                let error = ApiError::user_not_found(user.as_str());
                failed(place, error.code, error.message)
            }
        });
    }
    view.results.sort_by_key(|result| result.index);
    let message = format!("Recorded {} usage records", view.recorded);
    to_bytes(&Envelope::new(message, clock.now(), view))
}
