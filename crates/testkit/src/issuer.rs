//! An identity provider on loopback, and keys of every kind that sign its tokens.
//!
//! Tokens are put together by hand, without the library that the service reads them with, so that odd ones can be
//! made: a wrong header, a signature of another kind.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaPair, KeySize};
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaEncoding,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::{sync::watch, task::JoinHandle};

/// A key pair with an id; made once per test run.
pub struct Key {
    id: &'static str,
    alg: &'static str,
    pair: Pair,
}

enum Pair {
    Rsa(RsaPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

static FIRST: LazyLock<Key> = LazyLock::new(|| Key::generate_rsa("first"));
static SECOND: LazyLock<Key> = LazyLock::new(|| Key::generate_rsa("second"));
static EC: LazyLock<Key> = LazyLock::new(|| {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key pair");
    Key { id: "ec", alg: "ES256", pair: Pair::Ec(pair) }
});
static ED: LazyLock<Key> = LazyLock::new(|| Key {
    id: "ed",
    alg: "EdDSA",
    pair: Pair::Ed(Ed25519KeyPair::generate().expect("a key pair")),
});

impl Key {
    fn generate_rsa(id: &'static str) -> Self {
        let pair = RsaPair::generate(KeySize::Rsa2048).expect("a key pair");
        Self { id, alg: "RS256", pair: Pair::Rsa(pair) }
    }

    /// An RSA key with the id `first`.
    #[must_use]
    pub fn first() -> &'static Self {
        &FIRST
    }

    /// An RSA key with the id `second`.
    #[must_use]
    pub fn second() -> &'static Self {
        &SECOND
    }

    /// A key on the curve P-256 with the id `ec`.
    #[must_use]
    pub fn ec() -> &'static Self {
        &EC
    }

    /// A key on the curve Ed25519 with the id `ed`.
    #[must_use]
    pub fn ed() -> &'static Self {
        &ED
    }

    /// The public key: PKCS#1 DER, a point, or 32 bytes.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_ref(),
            Pair::Ec(pair) => pair.public_key().as_ref(),
            Pair::Ed(pair) => pair.public_key().as_ref(),
        }
    }

    /// The public key as it is published.
    #[must_use]
    pub fn jwk(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let public = self.public();
        let mut jwk = match &self.pair {
            Pair::Rsa(_) => {
                // SEQUENCE (4 bytes of head), INTEGER n (4 bytes of head), INTEGER e (2 bytes of head).
                let n_len = usize::from(u16::from_be_bytes([public[6], public[7]]));
                let (n, rest) = public[8..].split_at(n_len);
                json!({"kty": "RSA", "n": encode(n.strip_prefix(&[0]).unwrap_or(n)), "e": encode(&rest[2..])})
            }
            Pair::Ec(_) => {
                let (x, y) = public[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)})
            }
            Pair::Ed(_) => json!({"kty": "OKP", "crv": "Ed25519", "x": encode(public)}),
        };
        jwk["use"] = json!("sig");
        jwk["alg"] = json!(self.alg);
        jwk["kid"] = json!(self.id);
        jwk
    }

    /// A token with these claims.
    #[must_use]
    pub fn sign(&self, claims: &Value) -> String {
        self.signed_as(&json!({}), claims)
    }

    /// A token with these claims, and changes to its header; a change to null takes a member away.
    #[must_use]
    pub fn signed_as(&self, header: &Value, claims: &Value) -> String {
        let usual = json!({"alg": self.alg, "typ": "JWT", "kid": self.id});
        let message = unsigned(&changed(usual, header), claims);
        let signature = self.signature(&message, header["alg"].as_str().unwrap_or(self.alg));
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The signature under a message, with an RSA key by that algorithm.
    ///
    /// # Panics
    /// When the algorithm is none of RSA's.
    #[must_use]
    pub fn signature(&self, message: &str, alg: &str) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let encoding: &'static dyn RsaEncoding = match alg {
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    "PS512" => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, message.as_bytes(), &mut signature).expect("a signature");
                signature
            }
            Pair::Ec(pair) => pair.sign(&random, message.as_bytes()).expect("a signature").as_ref().to_vec(),
            Pair::Ed(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
        }
    }
}

/// The first two parts of a token.
#[must_use]
pub fn unsigned(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", encode(header), encode(claims))
}

/// An object with changes; a change to null takes a member away.
///
/// # Panics
/// When either is no object.
#[must_use]
pub fn changed(mut object: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().expect("an object") {
        object[name] = value.clone();
    }
    object.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    object
}

/// A message with its HMAC by SHA-256 behind it.
#[must_use]
pub fn hmac_signed(message: &str, secret: &[u8]) -> String {
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// An identity provider on loopback that answers for its keys, and counts who asks for them.
pub struct Issuer {
    address: SocketAddr,
    /// The answer as it goes over the wire; an empty one is never sent.
    answer: Arc<Mutex<String>>,
    hits: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl Issuer {
    /// Starts a provider with these keys.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start(keys: &[&Key]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let answer = Arc::new(Mutex::new(String::new()));
        let (count, hits) = watch::channel(0);
        let task = tokio::spawn(serve(listener, address, Arc::clone(&answer), count));
        let issuer = Self { address, answer, hits, task };
        issuer.rotate(keys);
        issuer
    }

    /// From now on answers with these keys.
    pub fn rotate(&self, keys: &[&Key]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        self.publish(&keys);
    }

    /// From now on answers with these.
    pub fn publish(&self, keys: &[Value]) {
        self.answer("200 OK", "content-type: application/json\r\n", &json!({"keys": keys}).to_string());
    }

    /// From now on answers with this; without a status it takes requests and stays silent.
    pub fn answer(&self, status: &str, headers: &str, body: &str) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = match status {
            "" => String::new(),
            _ => answer(status, headers, body),
        };
    }

    /// What its tokens state as `iss`: its address, with a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Where its keys are.
    #[must_use]
    pub fn jwks_url(&self) -> String {
        format!("{}.well-known/jwks.json", self.url())
    }

    /// How many requests for its keys came so far.
    #[must_use]
    pub fn hits(&self) -> usize {
        *self.hits.borrow()
    }

    /// Waits until this many requests for its keys came.
    ///
    /// # Panics
    /// When it ended.
    pub async fn hit(&self, times: usize) {
        self.hits.clone().wait_for(|hits| *hits >= times).await.expect("a server");
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
}

async fn serve(
    listener: TcpListener,
    address: SocketAddr,
    keys: Arc<Mutex<String>>,
    count: watch::Sender<usize>,
) {
    let mut silent = Vec::new();
    let own = format!("http://{address}/");
    let document = json!({"issuer": own, "jwks_uri": format!("{own}.well-known/jwks.json")}).to_string();
    while let Ok((mut stream, _)) = listener.accept().await {
        let path = asked(&mut stream).await.unwrap_or_default();
        let reply = if path.ends_with("/openid-configuration") {
            answer("200 OK", "", &document)
        } else if path.ends_with("/jwks.json") {
            count.send_modify(|hits| *hits += 1);
            keys.lock().unwrap_or_else(PoisonError::into_inner).clone()
        } else {
            answer("404 Not Found", "", "")
        };
        if reply.is_empty() {
            silent.push(stream);
        } else {
            // A client that has seen enough closes early.
            let _ = stream.write_all(reply.as_bytes()).await;
        }
    }
}

/// The path of a GET.
async fn asked(stream: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut chunk = [0; 1024];
        match stream.read(&mut chunk).await {
            Ok(len) if len > 0 => request.extend_from_slice(&chunk[..len]),
            _ => return None,
        }
    }
    let request = String::from_utf8(request).ok()?;
    request.strip_prefix("GET ")?.split(' ').next().map(str::to_owned)
}
