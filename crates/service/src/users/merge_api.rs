//! The route that merges two identities.

use super::api::{UserPath, refused};
use super::merge::{self, Merge};
use super::merge_rows::USAGE_MAX;
use super::store;
use crate::app::App;
use crate::auth::grants::{Admin, OnUser, UserRef, WriteUser};
use crate::db::{DbError, FromRow, Row};
use crate::http::{ApiError, Envelope, Input, json};
use crate::subscriptions;
use crate::writer::WriteError;
use axum::extract::State;
use axum::response::Response;
use kernel::{Credits, ExternalId, Text, UserKey, UserRowId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// Who becomes part of the user of the path.
#[derive(Debug, Deserialize, ToSchema)]
pub struct MergeRequest {
    /// The other identity of the same person.
    #[schema(value_type = UserKey)]
    from: Option<UserKey>,
    /// For operators.
    reason: Option<Text<0, 1000>>,
}

/// What was merged.
#[derive(Debug, Serialize, ToSchema)]
pub struct MergedUser {
    /// The user that survives; the other id names it from now on.
    user_id: ExternalId,
    /// The row that the other id named before.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    merged_row: i64,
    /// How many credits moved.
    credits_moved: Credits,
}

/// Merge two identities of one person
///
/// Afterwards `from` is another name of the user of the path: its token acts as that user, and every route
/// takes it. What is left of its grants moves on the same terms, in linked ledger entries; usage with its
/// statistics, sessions with messages and memories, and files change their owner. Its ledger stays, closed;
/// a free plan of it ends. 409, and nothing has changed, while `from` has open holds, owes credits, ever paid or has a
/// customer at Stripe (merge the other way round), has usage that waits for a price, an upload under way, or
/// more than 50000 usage records, and while either is suspended or being merged or erased. Asking again finishes what broke off,
/// or changes nothing.
#[utoipa::path(
    post, path = "/api/v1/users/{user_id}/merge", tag = "Users", operation_id = "merge_users", params(UserPath),
    security(("bearer" = []), ("service_key" = ["admin"])),
    request_body(content = MergeRequest, example = json!({"from": "google-oauth2|107820945134875134", "reason": "Ticket 4711"})),
    responses((status = 200, body = Envelope<MergedUser>, description = "They are one")),
)]
pub async fn merge_users(
    State(app): State<Arc<App>>,
    _admin: Admin,
    on: OnUser<WriteUser>,
    Input { value, .. }: Input<MergeRequest>,
) -> Result<Response, ApiError> {
    let named = value.from.ok_or_else(|| ApiError::missing(["body", "from"]))?;
    let from = match begun(&app, &named, on.user.row).await? {
        Some(from) => from,
        None => begin(&app, &on, &named, value.reason.map(Text::into_string)).await?,
    };
    crate::audit::note("merged_row", from.0);
    let merge = Merge { from, into: on.user.row };
    merge::finish(&app, merge).await.map_err(|error| {
        ApiError::unavailable(
            "The merge has begun and goes on by itself; something is not available now",
            error.to_string(),
        )
    })?;
    let moved = merge::moved(&app, from).await?.iter().map(|entry| entry.amount.abs().micro()).sum();
    let merged = MergedUser {
        user_id: on.user.auth0_id,
        merged_row: from.0,
        credits_moved: Credits::from_micro(moved),
    };
    let message = format!("User {} merged", merged.user_id);
    Ok(json(&Envelope::new(message, app.clock.now(), merged)))
}

/// The row of an identity whose merge into this user was begun before.
async fn begun(app: &App, from: &UserKey, into: UserRowId) -> Result<Option<UserRowId>, ApiError> {
    let sql = "SELECT m.from_user FROM user_merges m LEFT JOIN user_identities i ON i.merged_from = m.from_user \
        JOIN users u ON u.id = m.from_user \
        WHERE m.into_user = $1 AND (i.auth0_id = $2 OR u.auth0_id = $2 OR m.from_user = CAST($3 AS BIGINT))";
    let row = from.as_row().map(|row| row.0);
    let values = [into.0.into(), from.as_external().as_str().into(), row.into()];
    Ok(app.db.find::<i64>(sql, &values).await?.map(UserRowId))
}

/// What stands in the way of a merge.
struct Obstacles {
    held: i64,
    balance: i64,
    usage: i64,
}

impl FromRow for Obstacles {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self { held: row.int(0)?, balance: row.int(1)?, usage: row.int(2)? })
    }
}

async fn begin(
    app: &App,
    on: &OnUser<WriteUser>,
    named: &UserKey,
    reason: Option<String>,
) -> Result<UserRowId, ApiError> {
    let not_found = || ApiError::user_not_found(named.as_external().as_str());
    let UserRef { row: from, .. } = store::find_key(app, named, false).await?.ok_or_else(not_found)?;
    if from == on.user.row {
        return Err(ApiError::invalid(["body", "from"], "must be another user than that of the path"));
    }
    if subscriptions::store::is_renewed_by_stripe(&app.db, from).await? {
        return Err(ApiError::conflict("A plan of from is paid through Stripe; it must be cancelled first"));
    }
    let sql = "SELECT a.held, a.balance, (SELECT count(*) FROM (SELECT 1 FROM usage_records WHERE user_id = $1 LIMIT $2) n) \
        FROM credit_accounts a WHERE a.user_id = $1";
    let values = vec![from.0.into(), (USAGE_MAX + 1).into()];
    let obstacles = app.db.query::<Obstacles>(sql, values).await?.pop().ok_or_else(not_found)?;
    let Obstacles { held, balance, usage } = obstacles;
    let rule = match () {
        () if held > 0 => "from has open holds; they must be settled first".to_owned(),
        () if balance < 0 => "from owes credits; they must be paid first".to_owned(),
        () if usage > USAGE_MAX => {
            format!("from has more than {USAGE_MAX} usage records; merge the other way round")
        }
        () => {
            let merge = Merge { from, into: on.user.row };
            let begun = merge::begin(app, merge, &on.caller.principal.caller(), reason).await;
            return match begun {
                Ok(()) => Ok(from),
                Err(WriteError::Refused(2)) => Err(ApiError::conflict(
                    "from has paid or is a customer at Stripe (merge the other way round), has usage that waits for a price, a hold, \
                     a debt or an upload under way, or one of the two is suspended or being merged or erased",
                )),
                Err(WriteError::Refused(_)) => Err(not_found()),
                Err(error) => Err(refused(error, &on.user.auth0_id)),
            };
        }
    };
    Err(ApiError::conflict(rule))
}
