//! What is asked of endpoints, checked.

use super::address::Reach;
use super::headers::GivenHeaders;
use super::model::{EVENT_TYPES_MAX, SignatureKind, USERS_MAX};
use super::secret::SigningKey;
use super::{url, wanted};
use crate::http::ApiError;
use crate::http::many::Many;
use kernel::{Count, ExternalId, Flag, Text, Timestamp};
use serde::Deserialize;
use std::time::Duration;
use utoipa::ToSchema;

/// How long an old secret signs beside a new one when nobody says, in seconds: a day.
const OVERLAP_S: u32 = 24 * 60 * 60;
/// The longest that it does, in seconds: a week.
pub const OVERLAP_MAX_S: u32 = 7 * 24 * 60 * 60;

type Names = Many<Text<1, 100>, EVENT_TYPES_MAX>;
type Users = Many<ExternalId, USERS_MAX>;

/// A new endpoint.
#[derive(Debug, Deserialize, ToSchema)]
pub struct CreateEndpointRequest {
    /// Where deliveries go: an `https` address of a public host.
    #[schema(value_type = String, min_length = 1, max_length = 2048)]
    url: Text<1, { url::URL_MAX }>,
    /// What it asks for: event types, families such as `credit.*`, or `*`.
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 100, max_length = 100)]
    event_types: Names,
    /// The users that it asks about, by their external ids; all of them, and what is about no user, when absent or empty.
    #[schema(value_type = Option<Vec<ExternalId>>, max_items = 1000)]
    user_ids: Option<Users>,
    /// Headers to send along, such as `Authorization`; answers show their names only.
    headers: Option<GivenHeaders>,
    /// What people say of it.
    #[schema(value_type = Option<String>, max_length = 1000)]
    description: Option<Text<0, 1000>>,
    /// How deliveries are signed: `v1` (HMAC-SHA256 by a shared secret), or `v1a` (Ed25519; the receiver needs the public key only). `v1` when absent.
    signature: Option<SignatureKind>,
    /// A secret to sign with instead of a fresh one, for `v1`: `whsec_` and the base64 of 24 to 64 bytes.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 100)]
    secret: Option<Text<1, 100>>,
    /// Whether it is told from now on; true when absent.
    #[schema(value_type = Option<bool>)]
    enabled: Option<Flag>,
}

/// What to change of an endpoint; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
pub struct UpdateEndpointRequest {
    /// Where deliveries go.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 2048)]
    url: Option<Text<1, { url::URL_MAX }>>,
    /// What it asks for, in place of what it asked for.
    #[schema(value_type = Option<Vec<String>>, min_items = 1, max_items = 100, max_length = 100)]
    event_types: Option<Names>,
    /// The users that it asks about; an empty list is all of them.
    #[schema(value_type = Option<Vec<ExternalId>>, max_items = 1000)]
    user_ids: Option<Users>,
    /// Headers to send along, in place of those before.
    headers: Option<GivenHeaders>,
    /// What people say of it; an empty text takes it away.
    #[schema(value_type = Option<String>, max_length = 1000)]
    description: Option<Text<0, 1000>>,
    /// Whether it is told, as `enable` and `disable` set it.
    #[schema(value_type = Option<bool>)]
    enabled: Option<Flag>,
}

/// How an endpoint gets its next secret.
#[derive(Debug, Deserialize, ToSchema)]
pub struct RotateSecretRequest {
    /// How long the secrets before it sign too: 0 to 604800 (a week); 86400 when absent.
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 604_800)]
    overlap_seconds: Option<Count>,
    /// A secret to sign with instead of a fresh one, for `v1`: `whsec_` and the base64 of 24 to 64 bytes.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 100)]
    secret: Option<Text<1, 100>>,
}

/// An endpoint that is asked for.
#[derive(Debug)]
pub struct NewEndpoint {
    /// What a change of it could set too.
    pub settings: Change,
    /// What signs its deliveries.
    pub signing: SigningKey,
}

/// What a change of an endpoint sets; what is absent stays as it is, whoever changes it meanwhile.
#[derive(Debug, Default)]
pub struct Change {
    /// Where deliveries go.
    pub url: Option<reqwest::Url>,
    /// What it asks for.
    pub event_types: Option<Vec<String>>,
    /// The users that it asks about.
    pub user_ids: Option<Vec<String>>,
    /// The headers, as the text of a JSON object.
    pub headers: Option<String>,
    /// What people say of it.
    pub description: Option<String>,
    /// Whether it is told.
    pub enabled: Option<bool>,
}

impl CreateEndpointRequest {
    /// The endpoint that is asked for.
    ///
    /// # Errors
    /// 400 that names the field and the rule.
    pub fn endpoint(self, reach: &Reach) -> Result<NewEndpoint, ApiError> {
        let signing = signing(self.signature.unwrap_or(SignatureKind::V1), self.secret)?;
        let update = UpdateEndpointRequest {
            url: Some(self.url),
            event_types: Some(self.event_types),
            user_ids: self.user_ids,
            headers: self.headers,
            description: self.description,
            enabled: self.enabled,
        };
        Ok(NewEndpoint { settings: update.change(reach)?, signing })
    }
}

impl UpdateEndpointRequest {
    /// What it sets.
    ///
    /// # Errors
    /// 400 that names the field and the rule.
    pub fn change(self, reach: &Reach) -> Result<Change, ApiError> {
        let invalid = |field: &'static str| move |rule: String| ApiError::invalid(["body", field], rule);
        let url =
            self.url.map(|text| url::check(text.as_str(), reach)).transpose().map_err(invalid("url"))?;
        let event_types = self.event_types.map(names).transpose().map_err(invalid("event_types"))?;
        let user_ids = self.user_ids.map(users).transpose().map_err(invalid("user_ids"))?;
        let headers = self.headers.map(GivenHeaders::check).transpose().map_err(invalid("headers"))?;
        let description = self.description.map(words).transpose().map_err(invalid("description"))?;
        Ok(Change {
            url,
            event_types,
            user_ids,
            headers: headers.map(|headers| serde_json::json!(headers).to_string()),
            description,
            enabled: self.enabled.map(|flag| flag.0),
        })
    }
}

impl RotateSecretRequest {
    /// The next secret of that kind, and when those before it end.
    ///
    /// # Errors
    /// 400 that names the field and the rule.
    pub fn next(self, kind: SignatureKind, now: Timestamp) -> Result<(SigningKey, Timestamp), ApiError> {
        let seconds = self.overlap_seconds.map_or(OVERLAP_S, Count::get);
        if seconds > OVERLAP_MAX_S {
            let rule = format!("must be at most {OVERLAP_MAX_S}");
            return Err(ApiError::invalid(["body", "overlap_seconds"], rule));
        }
        Ok((signing(kind, self.secret)?, now.plus(Duration::from_secs(seconds.into()))))
    }
}

fn signing(kind: SignatureKind, own: Option<Text<1, 100>>) -> Result<SigningKey, ApiError> {
    let refuse = |rule| ApiError::invalid(["body", "secret"], rule);
    match own {
        None => Ok(SigningKey::fresh(kind)),
        Some(_) if kind == SignatureKind::V1a => {
            Err(refuse("must not be given with v1a, whose key is made here and never leaves"))
        }
        Some(own) => SigningKey::own(own.as_str()).map_err(refuse),
    }
}

fn names(asked: Names) -> Result<Vec<String>, String> {
    let names: Vec<String> = asked.kept.into_iter().map(Text::into_string).collect();
    wanted::check(&names, asked.count)?;
    Ok(names)
}

fn users(asked: Users) -> Result<Vec<String>, String> {
    if asked.count > USERS_MAX {
        return Err(format!("must be at most {USERS_MAX} users"));
    }
    match asked.kept.iter().find(|id| id.is_row_like()) {
        Some(row) => Err(format!("{row} must be an external id such as auth0|test123, and not a row's")),
        None => Ok(asked.kept.iter().map(ToString::to_string).collect()),
    }
}

fn words(asked: Text<0, 1000>) -> Result<String, String> {
    let text = asked.into_string();
    let control = text.chars().any(|c| c.is_control() && c != '\n');
    if control { Err("must have no control characters".to_owned()) } else { Ok(text) }
}
