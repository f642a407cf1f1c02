//! Verifying while the service runs: by a job now and then, and when an admin asks.
//!
//! At most one verification runs at a time. What the last one found stands in the metrics, where an
//! alert can look at it.

use super::{Fault, Report, verify};
use crate::app::App;
use crate::auth::grants::Admin;
use crate::boot;
use crate::http::{ApiError, Envelope, Input, json};
use crate::measure;
use crate::users::store;
use crate::webhooks::bodies::{LedgerMismatchEvent, text};
use crate::webhooks::{Event, EventType};
use crate::writer::{Command, Edit};
use axum::extract::State;
use axum::response::Response;
use kernel::{Credits, ExternalId, Timestamp, UserKey, UserRowId};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// What is known of verifications.
#[derive(Default)]
pub struct Verifications(Mutex<Known>);

#[derive(Default)]
struct Known {
    running_since: Option<Timestamp>,
    last: Option<VerificationView>,
}

/// What a verification found.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct VerificationView {
    /// Whether everything fits.
    sound: bool,
    /// How many accounts were replayed.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    accounts: u64,
    /// How many entries.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    entries: u64,
    /// The sum of all balances; the largest amount there is where the sum is larger.
    balance: Credits,
    /// How many accounts were sealed anew, without texts, because their users were erased.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    resealed: u64,
    /// The first row that does not fit.
    first_bad: Option<Fault>,
    /// When it began.
    started_at: Timestamp,
    /// When it ended.
    finished_at: Timestamp,
}

impl VerificationView {
    fn new(report: Report, started_at: Timestamp, finished_at: Timestamp) -> Self {
        let sound = report.is_sound();
        let Report { accounts, entries, balance, resealed, first_bad } = report;
        Self { sound, accounts, entries, balance, resealed, first_bad, started_at, finished_at }
    }
}

/// How the verification of the whole ledger stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct VerificationsView {
    /// Since when one runs.
    running_since: Option<Timestamp>,
    /// What the last one found since the start of this process.
    last: Option<VerificationView>,
}

impl Verifications {
    fn begin(&self, now: Timestamp) -> bool {
        let mut known = self.0.lock();
        let free = known.running_since.is_none();
        known.running_since.get_or_insert(now);
        free
    }

    fn end(&self, found: Option<VerificationView>) {
        let mut known = self.0.lock();
        known.running_since = None;
        if found.is_some() {
            known.last = found;
        }
    }

    fn view(&self) -> VerificationsView {
        let known = self.0.lock();
        VerificationsView { running_since: known.running_since, last: known.last.clone() }
    }

    /// When the last one ended, or one is under way.
    #[must_use]
    pub fn last(&self) -> Option<Timestamp> {
        let known = self.0.lock();
        known.running_since.or_else(|| known.last.as_ref().map(|last| last.finished_at))
    }
}

/// Verifies the whole ledger beside the requests, unless that is under way; says whether it began.
pub fn start(app: &Arc<App>) -> bool {
    let started_at = app.clock.now();
    if !app.verifications.begin(started_at) {
        return false;
    }
    let app = Arc::clone(app);
    tokio::spawn(async move {
        let found = run(&app, None).await;
        match &found {
            Ok(view) => {
                measure::verified(view.sound, view.entries, view.finished_at.seconds());
                tell(&app, view).await;
                if let Some(fault) = &view.first_bad {
                    tracing::error!(table = fault.table, row = %fault.row, rule = %fault.rule, "the ledger is NOT sound");
                }
            }
            Err(error) => tracing::warn!(error = %error.message, "the ledger could not be verified"),
        }
        app.verifications.end(found.ok());
    });
    true
}

/// Tells others of what does not fit.
async fn tell(app: &App, view: &VerificationView) {
    let Some(fault) = &view.first_bad else { return };
    let body = LedgerMismatchEvent { rule: fault.rule.to_string(), data: view.clone() };
    let event =
        Event { kind: EventType::AlertLedgerMismatch, user: None, body: text(&body), at: view.finished_at };
    let edit = Edit::new(UserRowId(0), Vec::new()).telling(event);
    if let Err(error) = app.writer.execute(Command::Edit(edit)).await {
        tracing::warn!(%error, "nobody was told that the ledger is not sound");
    }
}

/// Verifies one account or all, on a thread where it may wait for the disk.
async fn run(app: &App, user: Option<ExternalId>) -> Result<VerificationView, ApiError> {
    let (location, runtime) = (boot::location(&app.config), tokio::runtime::Handle::current());
    let started_at = app.clock.now();
    let report = tokio::task::spawn_blocking(move || runtime.block_on(verify(&location, user.as_ref())))
        .await
        .map_err(|error| ApiError::internal(error.to_string()))?
        .map_err(|error| ApiError::unavailable("The database is not available", error.to_string()))?;
    Ok(VerificationView::new(report, started_at, app.clock.now()))
}

/// What to verify.
#[derive(Debug, Deserialize, ToSchema)]
pub struct VerifyRequest {
    /// This user's account alone; the whole ledger when absent.
    user_id: Option<UserKey>,
}

/// Verify the ledger
///
/// With a `user_id` that account is replayed now. Without, the whole ledger is verified beside the
/// requests, one verification at a time: ask again with `GET` for what it found.
#[utoipa::path(
    post, path = "/api/v1/admin/ledger/verify", tag = "Admin", operation_id = "verify_ledger",
    security(("bearer" = []), ("service_key" = ["admin"])),
    request_body(content = Option<VerifyRequest>, example = json!({"user_id": "auth0|test123"})),
    responses((status = 200, body = Envelope<VerificationsView>, description = "What was found, or that it began")),
)]
pub async fn verify_ledger(
    State(app): State<Arc<App>>,
    _admin: Admin,
    Input { value, .. }: Input<VerifyRequest>,
) -> Result<Response, ApiError> {
    let Some(key) = value.user_id else {
        let began = start(&app);
        let message = if began { "Verification started" } else { "A verification is under way" };
        return Ok(json(&Envelope::new(message, app.clock.now(), app.verifications.view())));
    };
    let unknown = || ApiError::user_not_found(key.as_external().as_str());
    let user = store::find_key(&app, &key, false).await?.ok_or_else(unknown)?;
    let found = run(&app, Some(user.auth0_id)).await?;
    tell(&app, &found).await;
    let message = if found.sound { "The account is sound" } else { "The account is NOT sound" };
    let view = VerificationsView { running_since: None, last: Some(found) };
    Ok(json(&Envelope::new(message, app.clock.now(), view)))
}

/// Read what the last verification found
///
/// Of this process; each replica runs its own job (`VERIFY_LEDGER_HOURS`).
#[utoipa::path(
    get, path = "/api/v1/admin/ledger/verify", tag = "Admin", operation_id = "get_ledger_verification",
    security(("bearer" = []), ("service_key" = ["admin"])),
    responses((status = 200, body = Envelope<VerificationsView>, description = "How it stands")),
)]
pub async fn get_ledger_verification(
    State(app): State<Arc<App>>,
    _admin: Admin,
) -> Result<Response, ApiError> {
    let view = app.verifications.view();
    Ok(json(&Envelope::new("Verification retrieved successfully", app.clock.now(), view)))
}
