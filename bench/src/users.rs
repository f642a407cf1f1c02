//! The callers: their ids, their tokens, and making them on a fresh service.

use crate::api::Api;
use crate::{Fallible, wall};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

/// How many set-up requests are under way at once.
const SETUP_CONNECTIONS: usize = 32;
/// Longer than any run: a token must not expire in the middle of one.
const TOKEN_SECONDS: i64 = 6 * 3600;

/// A user of the service and the token it calls with.
#[derive(Debug, Clone)]
pub struct User {
    /// The external id, as in `bench|0001`.
    pub id: String,
    /// The id as a path segment.
    pub segment: String,
    /// A signed user token.
    pub token: String,
}

impl User {
    /// A user named `prefix|number` with a token signed by `secret` (contract, section 3).
    pub fn new(prefix: &str, number: usize, secret: &str) -> Fallible<Self> {
        let id = format!("{prefix}|{number:04}");
        let now = wall::now().timestamp();
        let claims = json!({
            "aud": "authenticated", "role": "authenticated", "iss": "supabase", "sub": id,
            "email": format!("{prefix}-{number:04}@example.com"), "iat": now, "exp": now + TOKEN_SECONDS,
        });
        let key = EncodingKey::from_secret(secret.as_bytes());
        let token = encode(&Header::new(Algorithm::HS256), &claims, &key)?;
        Ok(Self { segment: id.replace('|', "%7C"), id, token })
    }

    /// A path of this user's, under `/api/v1/users/{id}`.
    pub fn path(&self, rest: &str) -> String {
        format!("/api/v1/users/{}{rest}", self.segment)
    }
}

/// Makes `count` users through `ensure` and gives each `credits` credits through `recharge`.
pub async fn make(api: &Api, prefix: &str, count: usize, secret: &str, credits: &str) -> Fallible<Vec<User>> {
    let users: Vec<User> = (1..=count).map(|n| User::new(prefix, n, secret)).collect::<Fallible<_>>()?;
    concurrently(&users, |user| make_one(api, user, credits)).await?;
    Ok(users)
}

async fn make_one(api: &Api, user: &User, credits: &str) -> Fallible<()> {
    let email = format!("{}@example.com", user.id.replace('|', "-"));
    let body = json!({"auth0_id": user.id, "email": email, "name": format!("Bench {}", user.id)});
    api.post("/api/v1/users/ensure", body.to_string()).await?;
    // The amount is a decimal text so that it reaches the service exactly as written.
    let body =
        json!({"amount": credits, "description": "bench", "reference_id": format!("bench-{}", user.id)});
    api.post(&user.path("/credits/recharge"), body.to_string()).await?;
    Ok(())
}

/// As `concurrently`, for bodies of a megabyte each: only what keeps the service busy.
pub async fn concurrently_few<'a, T, R, F>(items: &'a [T], work: impl Fn(&'a T) -> F) -> Fallible<Vec<R>>
where
    F: Future<Output = Fallible<R>>,
{
    stream::iter(items).map(work).buffered(4).try_collect().await
}

/// Runs `work` for every item, many at a time, and answers the results in the items' order.
pub async fn concurrently<'a, T, R, F>(items: &'a [T], work: impl Fn(&'a T) -> F) -> Fallible<Vec<R>>
where
    F: Future<Output = Fallible<R>>,
{
    stream::iter(items).map(work).buffered(SETUP_CONNECTIONS).try_collect().await
}
