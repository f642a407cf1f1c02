//! The directory: an admin lists and searches the users.
//!
//! A search compares beginnings, folded, with three indexed columns, so it costs the same among a
//! thousand users and a million. One that would match more than [`MATCHES_MAX`] by one column is
//! refused: nothing is cut off in silence.

use super::model::{User, user_columns};
use crate::app::App;
use crate::auth::grants::Admin;
use crate::db::{Db, DbError, FromRow, Row, Rows, Value, Weigh};
use crate::http::page::{Page, PageQuery};
use crate::http::{ApiError, Envelope, Query, json};
use axum::extract::State;
use axum::response::Response;
use kernel::{ExternalId, Flag, Text, Timestamp, UserRowId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// How many rows the list has when the request does not say.
const LIMIT_DEFAULT: i64 = 50;
/// How many users may match by one column; of what matches more, more must be said.
pub const MATCHES_MAX: i64 = 10_000;

/// Which users are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DirectoryQuery {
    /// How the user's id, e-mail address or name begins, in upper or lower case (the id as it is
    /// written); or its whole row id.
    #[param(value_type = Option<String>, max_length = 254, example = "auth0|te")]
    query: Option<Text<0, 254>>,
    /// Users of this plan only.
    #[param(value_type = Option<String>, max_length = 50, example = "free")]
    plan: Option<Text<0, 50>>,
    /// Whether suspended users are wanted (`false`), or the others (`true`); both when absent.
    #[param(value_type = Option<bool>)]
    is_active: Option<Flag>,
}

/// A user as the directory shows it.
#[derive(Debug, Serialize, ToSchema)]
pub struct DirectoryUser {
    /// The id in the identity provider.
    user_id: ExternalId,
    /// The same.
    auth0_id: ExternalId,
    /// The integer row id.
    #[schema(value_type = i64, minimum = 1, maximum = 9_007_199_254_740_991_i64)]
    id: UserRowId,
    /// The e-mail address.
    #[schema(max_length = 254)]
    email: Option<String>,
    /// The name.
    #[schema(max_length = 200)]
    name: Option<String>,
    /// The plan.
    #[schema(max_length = 50)]
    plan: String,
    /// The state of the subscription.
    #[schema(max_length = 50)]
    subscription_status: String,
    /// Whether the user may come in.
    is_active: bool,
    /// Since when it may not.
    suspended_at: Option<Timestamp>,
    /// Why it may not.
    #[schema(max_length = 1000)]
    suspension_reason: Option<String>,
    /// When `ensure` made it.
    created_at: Timestamp,
    /// When it last changed.
    updated_at: Timestamp,
}

impl FromRow for DirectoryUser {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let user = User::from_row(row)?;
        Ok(Self {
            user_id: user.auth0_id.clone(),
            auth0_id: user.auth0_id,
            id: user.id,
            email: user.email,
            name: user.name,
            plan: user.plan,
            subscription_status: user.subscription_status,
            is_active: user.is_active,
            suspended_at: row.optional_int(10)?.map(Timestamp::from_micros),
            suspension_reason: row.optional_text(11)?,
            created_at: user.created_at,
            updated_at: user.updated_at,
        })
    }
}

impl Weigh for DirectoryUser {
    fn weight(&self) -> usize {
        self.suspension_reason.as_ref().map_or(0, String::len)
    }
}

/// List and search users
///
/// Newest first, without those that were deleted. A `query` that more than 10000 ids, addresses or
/// names begin with is refused with 400: give more of it.
#[utoipa::path(
    get, path = "/api/v1/users", tag = "Users", operation_id = "list_users",
    params(DirectoryQuery, PageQuery), security(("bearer" = []), ("service_key" = ["admin"])),
    responses((status = 200, body = Envelope<Vec<DirectoryUser>>, description = "The users")),
)]
pub async fn list_users(
    State(app): State<Arc<App>>,
    _admin: Admin,
    Query(query): Query<DirectoryQuery>,
    page: Page,
) -> Result<Response, ApiError> {
    let begins = query.query.as_ref().map(|text| text.as_str().trim()).filter(|text| !text.is_empty());
    let wanted = Wanted {
        begins,
        plan: query.plan.as_ref().map(Text::as_str).filter(|plan| !plan.is_empty()),
        is_active: query.is_active.map(|flag| flag.0),
    };
    if wanted.matches(&app.db).await? > MATCHES_MAX {
        let rule = format!("matches more than {MATCHES_MAX} users; give more of it");
        return Err(ApiError::invalid(["query", "query"], rule));
    }
    let found = wanted.page(&app.db, &page, page.limit(LIMIT_DEFAULT)).await?;
    let pagination = page.of(&found, LIMIT_DEFAULT, |user| (user.created_at.micros(), user.id.0));
    let message = format!("Retrieved {} users", found.rows.len());
    Ok(json(&Envelope::new(message, app.clock.now(), found.rows).paged(pagination)))
}

/// What is looked for.
struct Wanted<'a> {
    begins: Option<&'a str>,
    plan: Option<&'a str>,
    is_active: Option<bool>,
}

/// The rows of which one of three columns begins so: the id from `$1` to `$2`, what is folded from `$3` to
/// `$4`. On PostgreSQL a beginning is a range only by bytes.
macro_rules! matching {
    ($column:literal, $collate:literal) => {
        concat!(
            "SELECT * FROM (SELECT ",
            $column,
            " FROM users WHERE auth0_id",
            $collate,
            " >= $1 AND auth0_id",
            $collate,
            " < $2 LIMIT 10001) a UNION ALL SELECT * FROM (SELECT ",
            $column,
            " FROM users WHERE email_folded",
            $collate,
            " >= $3 AND email_folded",
            $collate,
            " < $4 AND email_folded IS NOT NULL LIMIT 10001) b \
            UNION ALL SELECT * FROM (SELECT ",
            $column,
            " FROM users WHERE name_folded",
            $collate,
            " >= $3 AND name_folded",
            $collate,
            " < $4 AND name_folded IS NOT NULL LIMIT 10001) c"
        )
    };
}

/// A page of the users that match, or of all. What is not asked for stands in no condition, so that each
/// list has its index.
macro_rules! page {
    (all, $plan:literal, $active:literal) => {
        concat!(
            "SELECT ",
            user_columns!(),
            ", suspended_at, suspension_reason FROM users WHERE deleted_at IS NULL",
            $plan,
            $active,
            " AND (CAST($1 AS BIGINT) IS NULL OR created_at < $1 OR (created_at = $1 AND id < $2)) \
            ORDER BY created_at DESC, id DESC LIMIT $3 OFFSET $4"
        )
    };
    ($collate:literal, $plan:literal, $active:literal) => {
        concat!(
            "SELECT ",
            user_columns!(),
            ", suspended_at, suspension_reason FROM users WHERE deleted_at IS NULL \
            AND id IN (SELECT CAST($5 AS BIGINT) UNION ALL ",
            matching!("id", $collate),
            ")",
            $plan,
            $active,
            " AND (CAST($6 AS BIGINT) IS NULL OR created_at < $6 OR (created_at = $6 AND id < $7)) \
            ORDER BY created_at DESC, id DESC LIMIT $8 OFFSET $9"
        )
    };
}

/// The page for each plan and state that may be asked for.
macro_rules! pages {
    ($wanted:expr, $which:tt, $plan:literal) => {
        match ($wanted.plan, $wanted.is_active) {
            (None, None) => page!($which, "", ""),
            (None, Some(true)) => page!($which, "", " AND is_active"),
            (None, Some(false)) => page!($which, "", " AND NOT is_active"),
            (Some(_), None) => page!($which, $plan, ""),
            (Some(_), Some(true)) => page!($which, $plan, " AND is_active"),
            (Some(_), Some(false)) => page!($which, $plan, " AND NOT is_active"),
        }
    };
}

impl Wanted<'_> {
    /// The ends of the ranges in which the beginnings lie.
    fn ranges(begins: &str) -> [Value; 4] {
        // No text that begins so is behind this one: it ends with the last character there is.
        let end = |begin: &str| Value::from(format!("{begin}\u{10FFFF}").as_str());
        let folded = begins.to_lowercase();
        [begins.into(), end(begins), folded.as_str().into(), end(&folded)]
    }

    /// How many ids, addresses and names begin so; of each, counted up to one more than may be.
    async fn matches(&self, db: &Db) -> Result<i64, DbError> {
        let Some(begins) = self.begins else { return Ok(0) };
        let sql = match db {
            Db::Sqlite(_) => concat!("SELECT count(*) FROM (", matching!("1 AS n", ""), ") m"),
            Db::Postgres(_) => {
                concat!("SELECT count(*) FROM (", matching!("1 AS n", " COLLATE \"C\""), ") m")
            }
        };
        Ok(db.query::<i64>(sql, Self::ranges(begins).to_vec()).await?.pop().unwrap_or(0))
    }

    async fn page(&self, db: &Db, page: &Page, limit: i64) -> Result<Rows<DirectoryUser>, DbError> {
        let (at, id) = page.after.unzip();
        let mut values = Vec::new();
        if let Some(begins) = self.begins {
            values.extend(Self::ranges(begins));
            values.push(begins.parse::<i64>().ok().into());
        }
        values.extend([at.into(), id.into(), (limit + 1).into(), page.offset.into()]);
        values.extend(self.plan.map(Value::from));
        let sql = match (self.begins, db) {
            (None, _) => pages!(self, all, " AND plan = $5"),
            (Some(_), Db::Sqlite(_)) => pages!(self, "", " AND plan = $10"),
            (Some(_), Db::Postgres(_)) => pages!(self, " COLLATE \"C\"", " AND plan = $10"),
        };
        db.page(sql, values, limit).await
    }
}
