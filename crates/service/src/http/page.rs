//! Pages of lists: `limit`, `offset` or `cursor` in, `pagination` out.

use crate::db::Rows;
use crate::http::{ApiError, Query};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use utoipa::{IntoParams, ToSchema};

/// The most rows that one answer carries.
pub const LIMIT_MAX: i64 = 1_000;
/// How far an offset may reach; further on, a cursor costs nothing.
pub const OFFSET_MAX: i64 = 1_000_000;

/// What of a list is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// How many rows to give: 1 to 1000.
    #[serde(default)]
    #[param(value_type = Option<i64>, minimum = 1, maximum = 1000, example = 50)]
    limit: Option<Whole<1, LIMIT_MAX>>,
    /// How many rows to pass over: 0 to 1000000; further on use `cursor`.
    #[serde(default)]
    #[param(value_type = Option<i64>, minimum = 0, maximum = 1_000_000, example = 0)]
    offset: Option<Whole<0, OFFSET_MAX>>,
    /// `pagination.next_cursor` of the page before, instead of an offset.
    #[serde(default)]
    #[param(max_length = 64, min_length = 1, pattern = "^[0-9]{1,19}_[0-9]{1,19}$")]
    cursor: Option<String>,
}

/// A whole number within bounds that arrives as text.
#[derive(Debug, Clone, Copy)]
struct Whole<const MIN: i64, const MAX: i64>(i64);

impl<'de, const MIN: i64, const MAX: i64> Deserialize<'de> for Whole<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .ok()
            .filter(|number| (MIN..=MAX).contains(number))
            .map(Self)
            .ok_or_else(|| D::Error::custom(format_args!("must be a whole number from {MIN} to {MAX}")))
    }
}

/// The page that a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    limit: Option<i64>,
    /// How many rows to pass over.
    pub offset: i64,
    /// Where the page before ended: the key of its last row.
    pub after: Option<(i64, i64)>,
}

impl Page {
    /// How many rows to give, `default` when the request does not say.
    #[must_use]
    pub fn limit(&self, default: i64) -> i64 {
        self.limit.unwrap_or(default)
    }

    /// Where a list stands of which these rows were read; `key` is what a cursor is made of.
    pub fn of<T>(&self, found: &Rows<T>, default: i64, key: impl Fn(&T) -> (i64, i64)) -> Pagination {
        let next_cursor = found.rows.last().filter(|_| found.more).map(|last| {
            let (first, second) = key(last);
            format!("{first}_{second}")
        });
        Pagination {
            limit: self.limit(default),
            offset: self.offset,
            returned: found.rows.len(),
            has_more: found.more,
            next_cursor,
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Page {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(query) = Query::<PageQuery>::from_request_parts(parts, state).await?;
        let offset = query.offset.map_or(0, |offset| offset.0);
        let after = query.cursor.as_deref().map(cursor).transpose()?;
        if after.is_some() && offset > 0 {
            return Err(ApiError::invalid(["query", "cursor"], "must not be given together with offset"));
        }
        Ok(Self { limit: query.limit.map(|limit| limit.0), offset, after })
    }
}

fn cursor(text: &str) -> Result<(i64, i64), ApiError> {
    let number = |digits: &str| digits.parse::<i64>().ok().filter(|number| *number >= 0);
    text.split_once('_')
        .and_then(|(first, second)| Some((number(first)?, number(second)?)))
        .ok_or_else(|| ApiError::invalid(["query", "cursor"], "must be a next_cursor of this list"))
}

/// Where a list stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Pagination {
    /// The most rows that this answer could have.
    #[schema(minimum = 1, maximum = 1000)]
    pub limit: i64,
    /// How many rows were passed over.
    #[schema(minimum = 0, maximum = 1_000_000)]
    pub offset: i64,
    /// How many rows it has.
    #[schema(minimum = 0, maximum = 1000)]
    pub returned: usize,
    /// Whether more follow.
    pub has_more: bool,
    /// How to ask for them.
    #[schema(max_length = 64)]
    pub next_cursor: Option<String>,
}
