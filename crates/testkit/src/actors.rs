//! Callers: who they are, what they send, and what they get.

use crate::app::Site;
use crate::events::Events;
use jsonwebtoken::{EncodingKey, Header, encode};
use kernel::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Body, Method, RequestBuilder};
use serde_json::{Value, json};
use std::sync::Arc;

/// How somebody proves who it is.
#[derive(Debug, Clone)]
pub enum Identity {
    /// It does not.
    Nobody,
    /// By a token with these claims beside the usual ones, minted anew for each request.
    Token(Value),
    /// By a service key in `X-API-Key`.
    Key(String),
    /// By exactly this `Authorization` header.
    Raw(String),
}

impl Identity {
    /// A plain user.
    #[must_use]
    pub fn user(id: &str, email: &str, name: &str) -> Self {
        Self::Token(json!({"sub": id, "email": email, "name": name}))
    }

    /// A user with the role `admin`.
    #[must_use]
    pub fn admin(id: &str, email: &str, name: &str) -> Self {
        Self::Token(json!({"sub": id, "email": email, "name": name, "app_metadata": {"role": "admin"}}))
    }
}

/// A token with these claims, HS256.
///
/// # Panics
/// Never with claims that are an object.
#[must_use]
pub fn sign(claims: &Value, secret: &str) -> String {
    encode(&Header::default(), claims, &EncodingKey::from_secret(secret.as_bytes())).expect("a token")
}

/// The claims of a token of the Supabase kind that is valid for an hour from `now`.
#[must_use]
pub fn claims(of_user: &Value, now: Timestamp) -> Value {
    let mut claims = json!({
        "aud": "authenticated", "role": "authenticated", "iss": "supabase",
        "iat": now.seconds(), "exp": now.seconds() + 3600,
    });
    if let (Value::Object(claims), Value::Object(own)) = (&mut claims, of_user) {
        claims.extend(own.clone());
    }
    claims
}

/// Somebody who calls the service.
#[derive(Clone)]
pub struct Actor {
    site: Arc<Site>,
    identity: Identity,
}

impl Actor {
    /// A caller of the site.
    #[must_use]
    pub fn new(site: &Arc<Site>, identity: Identity) -> Self {
        Self { site: Arc::clone(site), identity }
    }

    /// The user's id.
    ///
    /// # Panics
    /// When it is no user.
    #[must_use]
    pub fn id(&self) -> &str {
        match &self.identity {
            Identity::Token(claims) => claims["sub"].as_str().expect("a user"),
            _ => panic!("this caller is no user"),
        }
    }

    /// A path below `/api/v1/users/{its own id}`.
    #[must_use]
    pub fn own(&self, rest: &str) -> String {
        user_path(self.id(), rest)
    }

    /// Makes its user, and gives the answer.
    pub async fn ensure(&self) -> Value {
        self.post("/api/v1/users/ensure", json!({})).await.ok()
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path).send().await
    }

    /// Opens a stream of events.
    pub async fn watch(&self, path: &str) -> Events {
        self.request(Method::GET, path).watch().await
    }

    /// Opens a stream of events as a client that comes back.
    pub async fn watch_after(&self, path: &str, last_id: &str) -> Events {
        self.request(Method::GET, path).header("last-event-id", last_id).watch().await
    }

    /// `DELETE`.
    pub async fn delete(&self, path: &str) -> Answer {
        self.request(Method::DELETE, path).send().await
    }

    /// `POST` with a JSON body.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.request(Method::POST, path).json(&body).send().await
    }

    /// `POST` with a text that claims to be JSON.
    pub async fn post_text(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.request(Method::POST, path).header("content-type", "application/json").body(body).send().await
    }

    /// `POST` without a body, the input in the path's query.
    pub async fn post_query(&self, path: &str) -> Answer {
        self.request(Method::POST, path).send().await
    }

    /// `POST` with a JSON body and an `Idempotency-Key`.
    pub async fn post_once(&self, key: &str, path: &str, body: Value) -> Answer {
        self.request(Method::POST, path).header("idempotency-key", key).json(&body).send().await
    }

    /// Uploads a file to its own files.
    pub async fn upload(&self, name: &str, bytes: &[u8]) -> Answer {
        self.request(Method::POST, &self.own("/files/upload")).file(name, bytes).send().await
    }

    /// `PATCH` with a JSON body.
    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.request(Method::PATCH, path).json(&body).send().await
    }

    /// A request of this caller, to be completed and sent.
    ///
    /// # Panics
    /// When the path is none.
    #[must_use]
    pub fn request(&self, method: Method, path: &str) -> Request {
        let url = format!("{}{path}", self.site.url());
        let mut builder = self.site.client.request(method.clone(), url);
        builder = match &self.identity {
            Identity::Nobody => builder,
            Identity::Token(own) => {
                builder.bearer_auth(sign(&claims(own, self.site.now()), crate::app::JWT_SECRET))
            }
            Identity::Key(key) => builder.header("x-api-key", key),
            Identity::Raw(header) => builder.header(AUTHORIZATION, header),
        };
        Request { site: Arc::clone(&self.site), method, path: path.to_owned(), builder }
    }
}

/// A path below `/api/v1/users/{id}`, the pipe percent-encoded.
#[must_use]
pub fn user_path(id: &str, rest: &str) -> String {
    format!("/api/v1/users/{}{rest}", id.replace('|', "%7C"))
}

/// The content type of [`form`].
pub const FORM_TYPE: &str = "multipart/form-data; boundary=us-testkit-7d9e2f";

/// A form with one file, as browsers write it.
#[must_use]
pub fn form(name: &str, bytes: &[u8]) -> Vec<u8> {
    let escaped = name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A");
    let mut form = format!(
        "--us-testkit-7d9e2f\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{escaped}\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    )
    .into_bytes();
    form.extend(bytes);
    form.extend(b"\r\n--us-testkit-7d9e2f--\r\n");
    form
}

/// A request that is being put together.
pub struct Request {
    site: Arc<Site>,
    method: Method,
    path: String,
    builder: RequestBuilder,
}

impl Request {
    /// Adds a header.
    ///
    /// # Panics
    /// When its bytes are no header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        let value = HeaderValue::from_bytes(value.as_ref()).expect("a header value");
        self.builder = self.builder.header(name, value);
        self
    }

    /// Sets a JSON body.
    #[must_use]
    pub fn json(mut self, body: &Value) -> Self {
        self.builder = self.builder.json(body);
        self
    }

    /// Sets a form with a file of that name.
    #[must_use]
    pub fn file(self, name: &str, bytes: &[u8]) -> Self {
        self.header("content-type", FORM_TYPE).body(form(name, bytes))
    }

    /// Sets the body, without saying what it is.
    #[must_use]
    pub fn body(mut self, body: impl Into<Body>) -> Self {
        self.builder = self.builder.body(body);
        self
    }

    /// Sends it, and holds a JSON answer against the service's own document.
    ///
    /// # Panics
    /// When no answer comes, or one that the document does not describe.
    pub async fn send(self) -> Answer {
        let Self { site, method, path, builder } = self;
        let response = builder.send().await.unwrap_or_else(|error| panic!("{method} {path}: {error:?}"));
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let streams = headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
        let body = if streams {
            // It has no end to wait for; [`Self::watch`] reads it.
            Default::default()
        } else {
            response.bytes().await.unwrap_or_else(|error| panic!("{method} {path}: {error:?}"))
        };
        let answer = Answer { status, headers, body: body.to_vec(), asked: format!("{method} {path}") };
        let kind = answer.header(CONTENT_TYPE.as_str()).unwrap_or_default();
        // An answer to HEAD has a type, but no body.
        // Messages of another protocol are not in the document; their refusals by HTTP are.
        let undescribed =
            path.starts_with("/openapi.json") || (path == "/mcp" && answer.text().contains("\"jsonrpc\""));
        if kind.contains("json") && method != Method::HEAD && !undescribed {
            let path = path.split('?').next().unwrap_or_default();
            site.document.check(method.as_str(), path, status, kind, &answer.text());
        }
        answer
    }
}

impl Request {
    /// Sends it, and reads the answer as a stream of events.
    ///
    /// # Panics
    /// When no such answer comes.
    pub async fn watch(self) -> Events {
        let response = self.builder.send().await;
        Events::of(response.unwrap_or_else(|error| panic!("{}: {error:?}", self.path))).await
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
    asked: String,
}

impl Answer {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{}: {error}: {}", self.asked, self.text()))
    }

    /// A header, where it is there.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The JSON of an answer that must have this status.
    ///
    /// # Panics
    /// When it has another.
    #[must_use]
    #[track_caller]
    pub fn with(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.asked, self.text());
        self.json()
    }

    /// The JSON of an answer that must be 200.
    #[must_use]
    #[track_caller]
    pub fn ok(&self) -> Value {
        self.with(200)
    }

    /// `data` of an answer that must be 200.
    #[must_use]
    #[track_caller]
    pub fn data(&self) -> Value {
        self.ok()["data"].take()
    }

    /// Insists on an error with this status, code and message.
    ///
    /// # Panics
    /// When it is another answer.
    #[track_caller]
    pub fn refuses(&self, status: u16, code: &str, message: &str) {
        let body = self.with(status);
        let found = (body["error_code"].as_str(), body["message"].as_str());
        assert_eq!(found, (Some(code), Some(message)), "{}", self.asked);
    }

    /// Insists on 400 that names this field and rule.
    ///
    /// # Panics
    /// When it is another answer.
    #[track_caller]
    pub fn refuses_field(&self, loc: &[&str], rule: &str) {
        let body = self.with(400);
        assert_eq!(body["error_code"], "ValidationException", "{}", self.asked);
        let named = &body["detail"][0];
        assert_eq!(named["loc"], json!(loc), "{}: {body}", self.asked);
        let msg = named["msg"].as_str().unwrap_or_default();
        assert!(msg.contains(rule), "{}: {msg:?} does not say {rule:?}", self.asked);
    }
}
