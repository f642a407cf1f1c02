//! Which request has a row, and how the row finds its way into the transaction.
//!
//! A request on an audited route runs within a task-local place for its row. Whoever turns its
//! credentials into a caller puts the row there ([`arm`]), the writer takes it along with the first
//! command ([`take`]), and gives it back where the command was refused.

use super::record::{Actor, NOTED_MAX, Record};
use crate::app::App;
use crate::auth::Principal;
use crate::auth::grants::Caller;
use crate::http::ApiError;
use crate::http::operations::Audited;
use crate::users::store;
use crate::writer::{Command, Edit};
use axum::body::Body;
use axum::extract::{FromRequestParts as _, MatchedPath, RawPathParams, State};
use axum::http::Request;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use kernel::{UserKey, UserRowId};
use parking_lot::Mutex;
use serde_json::Value;
use std::sync::Arc;

tokio::task_local! {
    static PLACE: Place;
}

/// Where a request's row waits.
struct Place {
    action: Arc<str>,
    whose: Audited,
    row: Mutex<Option<Box<Record>>>,
}

/// Runs a request, and sees to it that what it did is written down.
pub async fn run(State(app): State<Arc<App>>, request: Request<Body>, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    let known = route.and_then(|route| app.operations.find(request.method(), route.as_str()));
    let place = known.filter(|known| known.audited != Audited::Nobody).map(|known| Place {
        action: Arc::clone(&known.name),
        whose: known.audited,
        row: Mutex::new(None),
    });
    let Some(place) = place else { return next.run(request).await };
    PLACE.scope(place, answer(app, request, next)).await
}

async fn answer(app: Arc<App>, request: Request<Body>, next: Next) -> Response {
    let response = next.run(request).await;
    let repeated = response.headers().contains_key("idempotent-replayed");
    if response.status().is_success() && !repeated && is_waiting() {
        // Nothing was given to the writer, so the row goes with a command that does nothing else.
        let nothing = Command::Edit(Edit::new(UserRowId(0), Vec::new()));
        if let Err(error) = app.writer.execute(nothing).await {
            return ApiError::from(error).into_response();
        }
    }
    response
}

/// Does something at the command line, and writes it down with the first thing that it changes.
pub async fn at_the_command_line<T>(action: &'static str, doing: impl Future<Output = T>) -> T {
    let row = Mutex::new(Some(Box::new(Record::of_cli(action))));
    PLACE.scope(Place { action: action.into(), whose: Audited::KeysAndAdmins, row }, doing).await
}

fn is_waiting() -> bool {
    PLACE.try_with(|place| place.row.lock().is_some()).unwrap_or(false)
}

/// Says who makes this request, where its route is audited; what plain users do to themselves is not.
///
/// # Errors
/// 503 when the database is down.
pub async fn arm(app: &Arc<App>, parts: &mut Parts, caller: &Caller) -> Result<(), ApiError> {
    let found = PLACE.try_with(|place| (Arc::clone(&place.action), place.whose));
    let Ok((action, whose)) = found else { return Ok(()) };
    if caller.is_plain() || (whose == Audited::Admins && !caller.principal.is_admin()) {
        return Ok(());
    }
    let actor = match &caller.principal {
        Principal::Service(service) => Actor::Key(Arc::clone(&service.key_id)),
        Principal::User(user) => {
            let key: Option<UserKey> = user.subject.as_str().parse().ok();
            let found = match &key {
                Some(key) => store::find_key(app, key, true).await?,
                None => None,
            };
            match found {
                Some(found) if found.auth0_id == user.subject => Actor::User(found.row),
                _ => Actor::Stranger(user.subject.clone()),
            }
        }
    };
    let facts = caller.facts();
    let mut record = Record {
        actor,
        action,
        target: None,
        request_id: Some(Arc::clone(&facts.id)),
        client_ip: facts.client_ip.map(|ip| ip.to_string()),
        details: serde_json::Map::new(),
    };
    let params = RawPathParams::from_request_parts(parts, app).await;
    let named = params.iter().flatten().filter(|(name, _)| *name != "user_id");
    for (name, value) in named {
        let value: String = value.chars().take(NOTED_MAX).collect();
        let kind = name.strip_suffix("_id").unwrap_or(name);
        record.target = Some(format!("{kind}:{value}"));
        record.details.insert(name.to_owned(), value.into());
    }
    let _ = PLACE.try_with(|place| *place.row.lock() = Some(Box::new(record)));
    Ok(())
}

/// Says to what it is done.
pub fn target(target: impl FnOnce() -> String) {
    let _ = PLACE.try_with(|place| {
        if let Some(record) = &mut *place.row.lock() {
            record.target = Some(target());
        }
    });
}

/// Says one thing more: never a secret, never a person's name or address.
pub fn note(name: &str, value: impl Into<Value>) {
    let _ = PLACE.try_with(|place| {
        if let Some(record) = &mut *place.row.lock() {
            record.details.insert(name.to_owned(), value.into());
        }
    });
}

/// Who makes this request, as the log will name it.
#[must_use]
pub fn actor() -> String {
    PLACE
        .try_with(|place| place.row.lock().as_ref().map(|record| record.actor.to_string()))
        .ok()
        .flatten()
        .unwrap_or_default()
}

/// Takes the row along with a command.
#[must_use]
pub fn take() -> Option<Box<Record>> {
    PLACE.try_with(|place| place.row.lock().take()).ok().flatten()
}

/// Gives the row back, for its command was refused.
pub fn give_back(record: Option<Box<Record>>) {
    if record.is_some() {
        let _ = PLACE.try_with(|place| *place.row.lock() = record);
    }
}
