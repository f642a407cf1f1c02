//! An issuer of RS256 tokens: its keys on loopback, and as many tokens as wanted, all different.

use crate::{Fallible, wall};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// How many tokens are made of which each is used for the first time: more than a second's requests, and four
/// times what the service remembers.
pub const FRESH: usize = 40_000;
const AUDIENCE: &str = "bench";
/// Longer than any run.
const TOKEN_SECONDS: i64 = 6 * 3600;

/// The issuer; its keys are published for as long as it lives.
pub struct Issuer {
    url: String,
    pair: KeyPair,
    task: JoinHandle<()>,
}

impl Issuer {
    /// Starts it with a fresh key of 2048 bits.
    pub async fn start() -> Fallible<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| "no RSA key can be made")?;
        let public = PublicKeyComponents::<Vec<u8>>::from(pair.public_key());
        let (n, e) = (URL_SAFE_NO_PAD.encode(public.n), URL_SAFE_NO_PAD.encode(public.e));
        let keys =
            json!({"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "bench", "n": n, "e": e}]});
        let task = tokio::spawn(serve(listener, keys.to_string()));
        Ok(Self { url, pair, task })
    }

    /// The settings of a service that takes its tokens.
    pub fn settings(&self) -> [(&'static str, String); 1] {
        [("OIDC_ISSUERS", format!("{0} name=bench audience={AUDIENCE} jwks={0}/jwks", self.url))]
    }

    /// Signs tokens, each a user's of its own, on two threads.
    pub fn tokens(&self, count: usize) -> Fallible<Vec<String>> {
        let (first, second) = (0..count / 2, count / 2..count);
        std::thread::scope(|scope| {
            let half = scope.spawn(|| first.map(|number| self.token(number)).collect::<Fallible<Vec<_>>>());
            let mut tokens = Vec::with_capacity(count);
            let rest = second.map(|number| self.token(number)).collect::<Fallible<Vec<_>>>()?;
            tokens.extend(half.join().map_err(|_| "a thread that signs has failed")??);
            tokens.extend(rest);
            Ok(tokens)
        })
    }

    fn token(&self, number: usize) -> Fallible<String> {
        let now = wall::now().timestamp();
        let header = json!({"alg": "RS256", "typ": "at+jwt", "kid": "bench"});
        let claims = json!({
            "iss": self.url, "aud": [AUDIENCE, "https://tenant.example.com/userinfo"], "sub": format!("bench|{number:06}"),
            "scope": "openid profile email", "azp": "web", "iat": now, "exp": now + TOKEN_SECONDS,
        });
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature)
            .map_err(|_| "a token cannot be signed")?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, keys: String) {
    let length = keys.len();
    let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{keys}");
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}
