//! What the tests of this room share: a clock, keys, tokens, and an identity provider on loopback.

use super::{Auth0, AuthConfig, Authenticator, Supabase};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use kernel::{Clock, Secret, Timestamp};
use parking_lot::Mutex;
use reqwest::Url;
use serde_json::{Value, json};
use std::sync::{Arc, LazyLock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::{sync::watch, task::JoinHandle};

/// The time at which the manual clock starts, in seconds since 1970.
pub const NOW_S: i64 = 1_800_000_000;
/// The secret of the Supabase project.
pub const SECRET: &str = "a-secret-of-at-least-thirty-two-bytes";
/// The audience of the Auth0 API.
pub const AUDIENCE: &str = "https://api.example.com";
/// The bootstrap service key.
pub const SERVICE_KEY: &str = "usk_bootstrap_key";

/// A clock that stands at [`NOW_S`].
pub fn manual_clock() -> Clock {
    Clock::manual(Timestamp::from_micros(NOW_S * 1_000_000))
}

/// An RSA key pair with an id; made once per test run.
pub struct RsaKey {
    kid: &'static str,
    pair: KeyPair,
}

static FIRST: LazyLock<RsaKey> = LazyLock::new(|| RsaKey::generate("first"));
static SECOND: LazyLock<RsaKey> = LazyLock::new(|| RsaKey::generate("second"));

impl RsaKey {
    fn generate(kid: &'static str) -> Self {
        Self { kid, pair: KeyPair::generate(KeySize::Rsa2048).expect("a key pair") }
    }

    pub fn first() -> &'static Self {
        &FIRST
    }

    pub fn second() -> &'static Self {
        &SECOND
    }

    /// The public key as PKCS#1 DER.
    pub fn public_der(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    pub fn jwk(&self) -> Value {
        // SEQUENCE (4 bytes of head), INTEGER n (4 bytes of head), INTEGER e (2 bytes of head).
        let der = self.public_der();
        let n_len = usize::from(u16::from_be_bytes([der[6], der[7]]));
        let (n, rest) = der[8..].split_at(n_len);
        let n = n.strip_prefix(&[0]).unwrap_or(n);
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid, "n": encode(n), "e": encode(&rest[2..])})
    }

    pub fn document(keys: &[&Self]) -> String {
        json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()}).to_string()
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        self.signed_as(self.kid, claims)
    }

    /// A token with these claims that names another key as its own.
    pub fn signed_as(&self, kid: &str, claims: &Value) -> String {
        let message = unsigned(&json!({"alg": "RS256", "typ": "JWT", "kid": kid}), claims);
        let mut signature = vec![0; self.pair.public_modulus_len()];
        let sign =
            self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature);
        sign.expect("a signature");
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// The first two parts of a token.
pub fn unsigned(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", encode(header), encode(claims))
}

/// The claims of a good Supabase token, with changes; a change to null takes the claim away.
pub fn supabase_claims(changes: &Value) -> Value {
    let good = json!({
        "iss": "supabase", "aud": "authenticated", "role": "authenticated", "sub": "auth0|test123",
        "email": "test@test.com", "iat": NOW_S, "exp": NOW_S + 3600,
    });
    changed(good, changes)
}

/// The claims of a good token of the tenant at `server`, with changes as above.
pub fn auth0_claims(server: &JwksServer, changes: &Value) -> Value {
    let good = json!({
        "iss": server.issuer(), "aud": [AUDIENCE, "https://tenant/userinfo"], "sub": "auth0|abc",
        "name": "Ada", "iat": NOW_S, "exp": NOW_S + 3600,
    });
    changed(good, changes)
}

fn changed(mut claims: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    claims.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    claims
}

/// A token signed with a shared secret, without the library that verifies it.
pub fn hs256(secret: &[u8], claims: &Value) -> String {
    let message = unsigned(&json!({"alg": "HS256", "typ": "JWT"}), claims);
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// An authenticator that takes Supabase's tokens, the service key, and the tokens of `server`.
pub fn authenticator(server: Option<&JwksServer>, clock: &Clock) -> Authenticator {
    let config = AuthConfig {
        auth0: server.map(|server| Auth0 {
            domain: "tenant.auth0.com".into(),
            audience: Some(AUDIENCE.into()),
            issuer_url: Some(server.issuer()),
        }),
        supabase: Some(Supabase {
            jwt_secret: Secret::new(SECRET.into()),
            url: Some("https://project.supabase.co/".into()),
        }),
        service_key: Some(Secret::new(SERVICE_KEY.into())),
        admin_role: "admin".into(),
    };
    Authenticator::new(config, clock.clone()).expect("an authenticator")
}

/// An identity provider on loopback that serves one answer, and counts.
pub struct JwksServer {
    address: std::net::SocketAddr,
    /// The answer as it goes over the wire; an empty one is never sent.
    answer: Arc<Mutex<String>>,
    hits: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl JwksServer {
    pub async fn start(keys: &[&RsaKey]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let answer = Arc::new(Mutex::new(String::new()));
        let (count, hits) = watch::channel(0);
        let task = tokio::spawn(serve(listener, Arc::clone(&answer), count));
        let server = Self { address, answer, hits, task };
        server.rotate(keys);
        server
    }

    /// From now on answers with these keys.
    pub fn rotate(&self, keys: &[&RsaKey]) {
        self.answer("200 OK", "content-type: application/json\r\n", &RsaKey::document(keys));
    }

    /// From now on answers with this; without a status it takes requests and stays silent.
    pub fn answer(&self, status: &str, headers: &str, body: &str) {
        *self.answer.lock() = match status {
            "" => String::new(),
            _ => format!(
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}",
                body.len()
            ),
        };
    }

    pub fn issuer(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub fn jwks_url(&self) -> Url {
        format!("{}.well-known/jwks.json", self.issuer()).parse().expect("an address")
    }

    /// How many requests came so far.
    pub fn hits(&self) -> usize {
        *self.hits.borrow()
    }

    /// Waits until this many requests came.
    pub async fn hit(&self, times: usize) {
        self.hits.clone().wait_for(|hits| *hits >= times).await.expect("a server");
    }
}

impl Drop for JwksServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, answer: Arc<Mutex<String>>, count: watch::Sender<usize>) {
    let mut silent = Vec::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        if !asks_for_keys(&mut stream).await {
            continue;
        }
        count.send_modify(|hits| *hits += 1);
        let answer = answer.lock().clone();
        if answer.is_empty() {
            silent.push(stream);
        } else {
            // A client that has seen enough closes early.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    }
}

async fn asks_for_keys(stream: &mut TcpStream) -> bool {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut chunk = [0; 1024];
        match stream.read(&mut chunk).await {
            Ok(len) if len > 0 => request.extend_from_slice(&chunk[..len]),
            _ => return false,
        }
    }
    request.starts_with(b"GET /.well-known/jwks.json HTTP/1.1\r\n")
}
