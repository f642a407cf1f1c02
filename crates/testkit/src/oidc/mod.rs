//! A real OpenID Connect provider, npm's `oidc-provider`, as a child process.
//!
//! `./test` installs it and names the script in `TEST_OIDC`. Its keys can be changed while it runs.

use reqwest::Client;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// The audience of its access tokens.
pub const AUDIENCE: &str = "https://api.example.com";
/// How often another port is tried when somebody else was faster.
const ATTEMPTS: usize = 10;

/// A provider that runs; killed when dropped.
pub struct OidcProvider {
    url: String,
    client: Client,
    _child: Child,
}

impl OidcProvider {
    /// Starts it with keys of these ids: `r…` is an RSA key, `e…` one on P-256.
    ///
    /// # Panics
    /// When it does not start: run ./test.
    pub async fn start(keys: &[&str]) -> Self {
        let client = Client::builder().no_proxy().build().expect("an HTTP client");
        for _ in 0..ATTEMPTS {
            let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            let port = free.expect("a free port").port();
            let mut child = Command::new("node")
                .arg(script())
                .args([port.to_string(), json!(keys).to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .spawn()
                .expect("node starts");
            let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
            while let Some(line) = lines.next_line().await.expect("its output") {
                if line == "ready" {
                    // What it says later must not block it.
                    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                    return Self { url: format!("http://127.0.0.1:{port}"), client, _child: child };
                }
            }
        }
        panic!("the OpenID Connect provider does not start");
    }

    /// What its tokens state as `iss`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on has these keys; the first of a kind signs, all are published.
    pub async fn rotate(&self, keys: &[&str]) {
        let _ = self.answer(self.client.put(format!("{}/keys", self.url)).json(&json!(keys))).await;
    }

    /// The tokens of a login, `access_token` and `id_token`, signed with `rs` or `es`.
    pub async fn login(&self, alg: &str, subject: &str) -> Value {
        let login = json!({"client": format!("web-{alg}"), "sub": subject});
        self.answer(self.client.post(format!("{}/login", self.url)).json(&login)).await
    }

    /// The access token of a program, by the client credentials grant.
    ///
    /// # Panics
    /// When it gives none.
    pub async fn program(&self, alg: &str, scope: &str) -> String {
        let form = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("grant_type", "client_credentials"), ("scope", scope)])
            .finish();
        let asked = self.client.post(format!("{}/token", self.url)).body(form);
        let asked = asked.header("content-type", "application/x-www-form-urlencoded");
        let given =
            self.answer(asked.basic_auth(format!("program-{alg}"), Some("program-secret-1234567890"))).await;
        given["access_token"].as_str().unwrap_or_else(|| panic!("no token: {given}")).to_owned()
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Value {
        let answer = request.send().await.expect("it answers");
        let (status, text) = (answer.status(), answer.text().await.expect("its answer"));
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status}: {text}"))
    }
}

#[expect(clippy::disallowed_methods, reason = "the tests' own settings")]
fn script() -> PathBuf {
    match std::env::var("TEST_OIDC") {
        Ok(path) if !path.is_empty() => path.into(),
        _ => panic!("there is no OpenID Connect provider to test with: run ./test"),
    }
}
