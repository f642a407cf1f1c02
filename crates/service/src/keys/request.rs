//! What is asked of keys, checked.

use super::model::{Key, NETWORKS_MAX, OVERLAP_MAX_S, REQUESTS_PER_MINUTE_MAX, network};
use crate::auth::{Scope, Scopes};
use crate::http::ApiError;
use crate::http::many::Many;
use ipnet::IpNet;
use kernel::{Count, Text, Timestamp};
use serde::Deserialize;
use utoipa::ToSchema;

/// How long an old secret works beside a new one when nobody says, in seconds: an hour.
const OVERLAP_S: u32 = 60 * 60;
/// The most scopes that a list of them names, stars included.
const SCOPES_MAX: usize = 32;

/// A new key.
#[derive(Debug, Deserialize, ToSchema)]
pub struct CreateKeyRequest {
    /// What to call it.
    #[schema(value_type = String, min_length = 1, max_length = 100)]
    name: Text<1, 100>,
    /// What it may do, such as `credits:read`, `sessions:*` or `admin`. They never change.
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 32, max_length = 50)]
    scopes: Many<Text<1, 50>, SCOPES_MAX>,
    /// When its time is over; never when absent.
    expires_at: Option<Timestamp>,
    /// How many requests a minute it may make: 1 to 1000000; as `RATE_LIMIT_*` say when absent.
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 1_000_000)]
    requests_per_minute: Option<Count>,
    /// From where it may be used: addresses and networks; from anywhere when absent or empty.
    #[schema(value_type = Option<Vec<String>>, max_items = 100, max_length = 50)]
    allowed_ips: Option<Many<Text<1, 50>, NETWORKS_MAX>>,
}

/// What to change of a key; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
pub struct UpdateKeyRequest {
    /// What to call it.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 100)]
    name: Option<Text<1, 100>>,
    /// When its time is over; in the future.
    expires_at: Option<Timestamp>,
    /// How many requests a minute it may make; 0 takes its own limit away.
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 1_000_000)]
    requests_per_minute: Option<Count>,
    /// From where it may be used; an empty list is from anywhere.
    #[schema(value_type = Option<Vec<String>>, max_items = 100, max_length = 50)]
    allowed_ips: Option<Many<Text<1, 50>, NETWORKS_MAX>>,
}

/// How a key gets its next secret.
#[derive(Debug, Deserialize, ToSchema)]
pub struct RotateKeyRequest {
    /// How long the secrets before it go on working: 0 to 604800 (a week); 3600 when absent.
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 604_800)]
    overlap_seconds: Option<Count>,
}

impl CreateKeyRequest {
    /// The key that is asked for, yet without an id.
    ///
    /// # Errors
    /// 400 that names the field and the rule.
    pub fn key(self, created_by: String, now: Timestamp) -> Result<Key, ApiError> {
        Ok(Key {
            id: 0,
            key_id: String::new(),
            name: name(self.name)?,
            scopes: scopes(&self.scopes)?,
            requests_per_minute: requests_per_minute(self.requests_per_minute)?,
            allowed_ips: self.allowed_ips.as_ref().map_or(Ok(Vec::new()), networks)?,
            created_at: now,
            created_by,
            expires_at: in_the_future(self.expires_at, now)?,
            last_used_at: None,
            revoked_at: None,
            overlap_ends_at: None,
        })
    }
}

/// What a change of a key sets; what is absent stays as it is, whoever changes it meanwhile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyChange {
    /// What to call it.
    pub name: Option<String>,
    /// When its time is over.
    pub expires_at: Option<Timestamp>,
    /// How many requests a minute it may make; 0 takes its own limit away.
    pub requests_per_minute: Option<u32>,
    /// From where it may be used.
    pub allowed_ips: Option<Vec<IpNet>>,
}

impl UpdateKeyRequest {
    /// What it sets.
    ///
    /// # Errors
    /// 400 that names the field and the rule.
    pub fn change(self, now: Timestamp) -> Result<KeyChange, ApiError> {
        requests_per_minute(self.requests_per_minute)?;
        Ok(KeyChange {
            name: self.name.map(name).transpose()?,
            expires_at: in_the_future(self.expires_at, now)?,
            requests_per_minute: self.requests_per_minute.map(Count::get),
            allowed_ips: self.allowed_ips.as_ref().map(networks).transpose()?,
        })
    }
}

impl RotateKeyRequest {
    /// When the overlap ends.
    ///
    /// # Errors
    /// 400 where it is too long.
    pub fn overlap_ends_at(&self, now: Timestamp) -> Result<Timestamp, ApiError> {
        let seconds = self.overlap_seconds.map_or(OVERLAP_S, Count::get);
        if seconds > OVERLAP_MAX_S {
            let rule = format!("must be at most {OVERLAP_MAX_S}");
            return Err(ApiError::invalid(["body", "overlap_seconds"], rule));
        }
        Ok(now.plus(std::time::Duration::from_secs(u64::from(seconds))))
    }
}

/// Reads a list of scopes.
///
/// # Errors
/// 400 that names the unknown one.
pub fn scopes(named: &Many<Text<1, 50>, SCOPES_MAX>) -> Result<Scopes, ApiError> {
    let refuse = |rule: String| ApiError::invalid(["body", "scopes"], rule);
    if named.count == 0 || named.count > SCOPES_MAX {
        return Err(refuse(format!("must be 1 to {SCOPES_MAX} scopes")));
    }
    let one = |text: &Text<1, 50>| {
        // A list has one in each place, so that what is shown is what was asked for.
        let plain = !text.as_str().contains([' ', ',']);
        let scopes = plain.then(|| text.as_str().parse::<Scopes>().ok()).flatten();
        scopes.ok_or_else(|| {
            let known = Scope::ALL.map(Scope::as_str).join(", ");
            refuse(format!(
                "{:?} is none of {known}, or a resource with a star such as sessions:*",
                text.as_str()
            ))
        })
    };
    named.kept.iter().map(one).try_fold(Scopes::NONE, |all, scopes| Ok(all.and(scopes?)))
}

/// A name that a terminal can show.
fn name(asked: Text<1, 100>) -> Result<String, ApiError> {
    let name = asked.into_string();
    if name.chars().any(char::is_control) {
        return Err(ApiError::invalid(["body", "name"], "must have no control characters"));
    }
    Ok(name)
}

fn requests_per_minute(asked: Option<Count>) -> Result<Option<u32>, ApiError> {
    match asked.map(Count::get) {
        None | Some(0) => Ok(None),
        Some(limit) if limit <= REQUESTS_PER_MINUTE_MAX => Ok(Some(limit)),
        Some(_) => {
            let rule = format!("must be at most {REQUESTS_PER_MINUTE_MAX}");
            Err(ApiError::invalid(["body", "requests_per_minute"], rule))
        }
    }
}

fn networks(asked: &Many<Text<1, 50>, NETWORKS_MAX>) -> Result<Vec<IpNet>, ApiError> {
    let refuse = |rule: String| ApiError::invalid(["body", "allowed_ips"], rule);
    if asked.count > NETWORKS_MAX {
        return Err(refuse(format!("must be at most {NETWORKS_MAX} networks")));
    }
    let read = |text: &Text<1, 50>| {
        network(text.as_str()).map_err(|rule| refuse(format!("{:?} {rule}", text.as_str())))
    };
    asked.kept.iter().map(read).collect()
}

fn in_the_future(asked: Option<Timestamp>, now: Timestamp) -> Result<Option<Timestamp>, ApiError> {
    match asked {
        Some(end) if end <= now => Err(ApiError::invalid(["body", "expires_at"], "must be in the future")),
        asked => Ok(asked),
    }
}
