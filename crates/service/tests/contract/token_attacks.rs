//! What RFC 8725 warns of, and more: every forged, odd or stale token is 401, over HTTP, and makes the service
//! ask nobody.
//!
//! Not here, because no verifier can refuse it: whoever has a good ES256 token can make another signature of the
//! same message (`s` becomes `n − s`). It says the same as the token that it was made of.

use base64::{Engine as _, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use testkit::app::JWT_SECRET;
use testkit::issuer::{Issuer, Key, changed, hmac_signed, unsigned};
use testkit::{Engine, TestApp};
use tokio::net::TcpListener;

const AUDIENCE: &str = "https://api.example.com";

/// A service with an issuer of every kind: Auth0 with `first`, Supabase with `ec` and a secret, and another with
/// `ed` and a key of its own that is also called `first`.
struct Stage {
    app: TestApp,
    auth0: Issuer,
    supabase: Issuer,
    other: Issuer,
}

impl Stage {
    async fn set() -> Self {
        let (auth0, supabase) = (Issuer::start(&[Key::first()]).await, Issuer::start(&[Key::ec()]).await);
        let other = Issuer::start(&[]).await;
        other.publish(&[Key::ed().jwk(), changed(Key::second().jwk(), &json!({"kid": "first"}))]);
        let oidc = format!("{} name=other audience={AUDIENCE}", other.url());
        let settings = [
            ("AUTH0_DOMAIN", auth0.url()),
            ("AUTH0_AUDIENCE", AUDIENCE.to_owned()),
            ("SUPABASE_URL", supabase.url()),
            ("OIDC_ISSUERS", oidc),
        ];
        let settings: Vec<(&str, &str)> = settings.iter().map(|(key, text)| (*key, text.as_str())).collect();
        let app = TestApp::start_with(Engine::Sqlite, &settings).await;
        Self { app, auth0, supabase, other }
    }

    fn now(&self) -> i64 {
        self.app.now().seconds()
    }

    /// Good claims of an issuer's token, with changes.
    fn claims(&self, issuer: &Issuer, changes: &Value) -> Value {
        let url = issuer.url();
        let (iss, aud) = if url == self.supabase.url() {
            (format!("{url}auth/v1"), json!("authenticated"))
        } else {
            (url, json!([AUDIENCE, "https://tenant/userinfo"]))
        };
        let usual =
            json!({"iss": iss, "aud": aud, "sub": "auth0|eve", "iat": self.now(), "exp": self.now() + 3600});
        changed(usual, changes)
    }

    fn auth0(&self, changes: &Value) -> Value {
        self.claims(&self.auth0, changes)
    }

    async fn send(&self, value: impl AsRef<[u8]>) -> testkit::Answer {
        let header = [b"Bearer ", value.as_ref()].concat();
        let request = self.app.anon.request(Method::POST, "/api/v1/noop");
        request.header("authorization", header).json(&json!({})).send().await
    }

    async fn accepts(&self, name: &str, token: &str) {
        let answer = self.send(token).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    }

    async fn refuses(&self, attacks: Vec<(String, String)>) {
        for (name, token) in attacks {
            self.refuses_bytes(&name, token.as_bytes()).await;
        }
    }

    async fn refuses_bytes(&self, name: &str, token: &[u8]) {
        let answer = self.send(token).await;
        assert_eq!(answer.status, 401, "{name}: {}", answer.text());
        assert_eq!(answer.json()["detail"], "Could not validate credentials", "{name}");
        assert!(answer.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")), "{name}");
    }
}

fn named(name: impl Into<String>, token: impl Into<String>) -> (String, String) {
    (name.into(), token.into())
}

/// The public key as its holder might have saved it: PEM, DER, JWK.
fn forms_of(key: &Key) -> Vec<(&'static str, Vec<u8>)> {
    let body = STANDARD.encode(key.public());
    let lines: Vec<&str> =
        body.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    let pem = format!("-----BEGIN RSA PUBLIC KEY-----\n{}\n-----END RSA PUBLIC KEY-----\n", lines.join("\n"));
    let n = key.jwk()["n"].as_str().unwrap_or_default().to_owned();
    vec![
        ("PEM", pem.clone().into_bytes()),
        ("PEM without its last line break", pem.trim_end().as_bytes().to_vec()),
        ("DER", key.public().to_vec()),
        ("JWK", key.jwk().to_string().into_bytes()),
        ("modulus", URL_SAFE_NO_PAD.decode(&n).expect("n")),
        ("modulus in base64", n.into_bytes()),
        ("nothing", Vec::new()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_good_comes_in() {
    let stage = Stage::set().await;
    stage.accepts("auth0", &Key::first().sign(&stage.auth0(&json!({})))).await;
    stage.accepts("supabase ES256", &Key::ec().sign(&stage.claims(&stage.supabase, &json!({})))).await;
    let hs = unsigned(&json!({"alg": "HS256"}), &stage.claims(&stage.supabase, &json!({})));
    stage.accepts("supabase HS256", &hmac_signed(&hs, JWT_SECRET.as_bytes())).await;
    stage.accepts("other", &Key::ed().sign(&stage.claims(&stage.other, &json!({})))).await;
    let own_first =
        Key::second().signed_as(&json!({"kid": "first"}), &stage.claims(&stage.other, &json!({})));
    stage.accepts("other's first", &own_first).await;
    for changes in [
        json!({"aud": AUDIENCE}),
        json!({"exp": stage.now() - 59}),
        json!({"exp": stage.now() as f64 + 0.5}),
        json!({"nbf": stage.now() + 60, "iat": stage.now() + 60}),
    ] {
        stage.accepts(&changes.to_string(), &Key::first().sign(&stage.auth0(&changes))).await;
    }
    for header in [json!({"typ": "at+jwt"}), json!({"typ": null}), json!({"x5t": "a", "zip": "x"})] {
        stage.accepts(&header.to_string(), &Key::first().signed_as(&header, &stage.auth0(&json!({})))).await;
    }
    stage.app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_algorithm_but_the_keys_own() {
    let stage = Stage::set().await;
    let claims = stage.auth0(&json!({}));
    let good = Key::first().sign(&claims);
    let signature = good.rsplit('.').next().expect("a signature");
    let mut attacks = Vec::new();
    for alg in ["none", "None", "NONE", "nOnE", " none", "none ", "null", ""] {
        for kid in [json!({"alg": alg, "kid": "first"}), json!({ "alg": alg })] {
            let message = unsigned(&kid, &claims);
            attacks.push(named(format!("alg {alg:?} without a signature"), format!("{message}.")));
            attacks.push(named(
                format!("alg {alg:?} with another's signature"),
                format!("{message}.{signature}"),
            ));
        }
    }
    for alg in
        [json!(["RS256"]), json!(null), json!(0), json!({"RS256": true}), json!("rs256"), json!("RS256 ")]
    {
        attacks.push(named(
            format!("alg {alg}"),
            format!("{}.{signature}", unsigned(&json!({"alg": alg, "kid": "first"}), &claims)),
        ));
    }
    for alg in ["RS384", "RS512", "PS256", "PS384", "PS512"] {
        attacks.push(named(alg, Key::first().signed_as(&json!({ "alg": alg }), &claims)));
    }
    attacks.push(named("ES256 with an RSA key's id", Key::ec().signed_as(&json!({"kid": "first"}), &claims)));
    for iss in [json!({}), json!({"iss": "supabase", "aud": "authenticated"})] {
        let claims = stage.auth0(&iss);
        for (form, secret) in forms_of(Key::first()) {
            for alg in ["HS256", "HS384", "HS512", "RS256", "hs256"] {
                let message = unsigned(&json!({"alg": alg, "kid": "first", "typ": "JWT"}), &claims);
                attacks.push(named(
                    format!("{alg} with the public key as {form}"),
                    hmac_signed(&message, &secret),
                ));
            }
        }
    }
    // Each means of Supabase's under the other's name, and its secret under others'.
    let supabase = stage.claims(&stage.supabase, &json!({}));
    let hmac = |header: Value, claims: &Value| hmac_signed(&unsigned(&header, claims), JWT_SECRET.as_bytes());
    attacks
        .push(named("a secret's signature as ES256", hmac(json!({"alg": "ES256", "kid": "ec"}), &supabase)));
    attacks.push(named("a secret's signature as HS512", hmac(json!({"alg": "HS512"}), &supabase)));
    attacks
        .push(named("Supabase's secret for Auth0", hmac(json!({"alg": "HS256", "kid": "first"}), &claims)));
    let point = Key::ec().public();
    let message = unsigned(&json!({"alg": "HS256", "kid": "ec"}), &supabase);
    attacks.push(named("the point as a secret", hmac_signed(&message, point)));
    stage.refuses(attacks).await;
    stage.app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_but_the_issuers_own_and_nobody_is_asked() {
    let stage = Stage::set().await;
    let (trap, asked) = trap().await;
    let claims = stage.auth0(&json!({}));
    let own = Key::second();
    let sign = |header: Value| own.signed_as(&changed(json!({"kid": "first"}), &header), &claims);
    let url = |path: &str| format!("{trap}{path}");
    let huge = "k".repeat(5000);
    let mut attacks = vec![
        named("its own key in jwk", sign(json!({"jwk": own.jwk()}))),
        named("its own key in jwk, and its id", sign(json!({"jwk": own.jwk(), "kid": "second"}))),
        named("jku", sign(json!({"jku": url("jwks.json"), "kid": "second"}))),
        named("x5u", sign(json!({"x5u": url("cert.pem")}))),
        named("x5c", sign(json!({"x5c": [STANDARD.encode(own.public())]}))),
        named(
            "every way",
            sign(json!({"jku": url("k"), "x5u": url("c"), "jwk": own.jwk(), "x5c": ["AA=="], "url": trap})),
        ),
        named("an issuer of its own", own.sign(&stage.auth0(&json!({"iss": trap})))),
        named(
            "the issuer's name with another's host",
            own.sign(&stage.auth0(&json!({"iss": format!("{}@{trap}", stage.auth0.url())}))),
        ),
        named("another key with the id", sign(json!({}))),
        named("no key id", Key::first().signed_as(&json!({"kid": null}), &claims)),
        named("two ids", {
            let header = r#"{"alg":"RS256","kid":"second","kid":"first"}"#;
            let message =
                format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.to_string()));
            let signature = Key::first().signature(&message, "RS256");
            format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
        }),
        named("Auth0's key for the other issuer", Key::first().sign(&stage.claims(&stage.other, &json!({})))),
        named("the other's key for Auth0", Key::second().signed_as(&json!({"kid": "first"}), &claims)),
        named("the other's Ed25519 key for Auth0", Key::ed().sign(&claims)),
        named("Supabase's key for Auth0", Key::ec().sign(&claims)),
        named("Auth0's key for Supabase", Key::first().sign(&stage.claims(&stage.supabase, &json!({})))),
        named(
            "Auth0's key for the secret's issuer",
            Key::first().sign(&stage.auth0(&json!({"iss": "supabase", "aud": "authenticated"}))),
        ),
    ];
    for kid in [
        json!("../../../../dev/null"),
        json!("/etc/passwd"),
        json!("first' OR '1'='1"),
        json!("first; DROP TABLE users"),
        json!("first\u{0}"),
        json!("FIRST"),
        json!(" first"),
        json!(huge),
        json!(""),
        json!(1),
        json!(["first"]),
        json!({}),
    ] {
        attacks.push(named(format!("kid {kid:.40}"), own.signed_as(&json!({ "kid": kid }), &claims)));
    }
    stage.refuses(attacks).await;
    assert_eq!(asked.load(Ordering::SeqCst), 0, "nothing that a token names is ever fetched");
    // One fetch at the start, and one for all the key ids that nobody knows.
    assert!(stage.auth0.hits() <= 2, "{}", stage.auth0.hits());
    stage.app.finish().await;
}

/// An address where nobody should ever call, and how many did.
async fn trap() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    (url, asked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_extension_no_other_kind_and_no_other_form() {
    let stage = Stage::set().await;
    let claims = stage.auth0(&json!({}));
    let header = |changes: Value| Key::first().signed_as(&changes, &claims);
    let mut attacks = Vec::new();
    for changes in [
        json!({"crit": ["exp"], "exp": 1}),
        json!({"crit": []}),
        json!({"crit": ["b64"], "b64": false}),
        json!({"crit": "x"}),
        json!({"b64": false}),
        json!({"b64": "false"}),
        json!({"typ": "logout+jwt"}),
        json!({"typ": "id_token+jwt"}),
        json!({"typ": "dpop+jwt"}),
        json!({"typ": ["JWT"]}),
        json!({"typ": ""}),
    ] {
        attacks.push(named(changes.to_string(), header(changes)));
    }
    let good = header(json!({}));
    let parts: Vec<&str> = good.split('.').collect();
    let [head, body, signature] = parts[..] else { panic!("three parts") };
    let standard = |part: &str| STANDARD.encode(URL_SAFE_NO_PAD.decode(part).expect("base64"));
    let text = |claims: &str| URL_SAFE_NO_PAD.encode(claims);
    let signed = |header: &str, claims: &str| {
        let message = format!("{}.{}", text(header), text(claims));
        let signature = Key::first().signature(&message, "RS256");
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    let usual = r#"{"alg":"RS256","kid":"first"}"#;
    let json = claims.to_string();
    let inside = json.trim_end_matches('}');
    stage.accepts("signed by hand", &signed(usual, &json)).await;
    let deep = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
    for (name, token) in [
        ("a JWE", format!("{head}.{body}.{signature}.{body}.{signature}")),
        ("a JWE of empty parts", format!("{head}....")),
        ("four parts", format!("{good}.{signature}")),
        ("a dot behind", format!("{good}.")),
        ("a dot in front", format!(".{good}")),
        ("two parts", format!("{head}.{body}")),
        ("one part", head.to_owned()),
        ("dots", "..".to_owned()),
        ("no signature", format!("{head}.{body}.")),
        ("half a signature", format!("{head}.{body}.{}", &signature[..signature.len() / 2])),
        ("another signature", format!("{head}.{body}.{}", "A".repeat(signature.len()))),
        ("a longer signature", format!("{good}AAAA")),
        ("padding", format!("{good}=")),
        ("padded parts", format!("{head}==.{body}==.{signature}==")),
        ("white space within", format!("{head}. {body}.{signature}")),
        ("white space in base64", format!("{head}.{}\t{}.{signature}", &body[..8], &body[8..])),
        ("the other alphabet", format!("{}.{}.{}", standard(head), standard(body), standard(signature))),
        ("a nested token", signed(r#"{"alg":"RS256","kid":"first","cty":"JWT"}"#, &good)),
        ("the JSON form", json!({"protected": head, "payload": body, "signature": signature}).to_string()),
        ("claims in a list", signed(usual, &format!("[{json}]"))),
        ("claims twice", signed(usual, &format!("{json}{json}"))),
        ("no claims", signed(usual, "")),
        ("null", signed(usual, "null")),
        ("deep claims", signed(usual, &format!(r#"{inside},"deep":{deep}}}"#))),
        ("a claim twice", signed(usual, &format!(r#"{inside},"sub":"auth0|admin"}}"#))),
        ("an expiry twice", signed(usual, &format!(r#"{inside},"exp":9999999999}}"#))),
        ("an unknown claim twice", signed(usual, &format!(r#"{inside},"x":1,"x":2}}"#))),
        ("a member twice", signed(r#"{"alg":"HS256","alg":"RS256","kid":"first"}"#, &json)),
        ("a member twice, escaped", signed(r#"{"\u0061lg":"none","alg":"RS256","kid":"first"}"#, &json)),
        ("a header in a list", signed(r#"[{"alg":"RS256","kid":"first"}]"#, &json)),
        (
            "other claims under the signature",
            format!("{head}.{}.{signature}", text(&stage.auth0(&json!({"role": "admin"})).to_string())),
        ),
        (
            "another header over the signature",
            format!("{}.{body}.{signature}", text(r#"{"alg":"RS256","kid":"first","x":1}"#)),
        ),
        ("a huge number", signed(usual, &format!(r#"{inside},"x":1e999}}"#))),
        ("not a number", signed(usual, &json.replace(r#""exp":"#, r#""exp":NaN,"x":"#))),
    ] {
        attacks.push(named(name, token));
    }
    stage.refuses(attacks).await;
    let mut odd = good.clone().into_bytes();
    odd[10] = 0xff;
    stage.refuses_bytes("no UTF-8 in the header line", &odd).await;
    let mut bytes = inside.as_bytes().to_vec();
    bytes.extend(b",\"x\":\"\xff\xfe\"}");
    let message = format!("{}.{}", text(usual), URL_SAFE_NO_PAD.encode(bytes));
    let signature = URL_SAFE_NO_PAD.encode(Key::first().signature(&message, "RS256"));
    stage.refuses_bytes("no UTF-8 in the claims", format!("{message}.{signature}").as_bytes()).await;
    stage.app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_other_issuer_audience_subject_or_time() {
    let stage = Stage::set().await;
    let now = stage.now();
    let url = stage.auth0.url();
    let mut attacks = Vec::new();
    for changes in [
        json!({"iss": null}),
        json!({"iss": [url]}),
        json!({"iss": url.trim_end_matches('/')}),
        json!({"iss": url.to_uppercase()}),
        json!({"iss": format!("{url}x")}),
        json!({"iss": ""}),
        json!({"iss": {"url": url}}),
        json!({"aud": null}),
        json!({"aud": "https://api.example.com/"}),
        json!({"aud": []}),
        json!({"aud": ["a", "b"]}),
        json!({"aud": {"https://api.example.com": true}}),
        json!({"aud": "a https://api.example.com"}),
        json!({"aud": "authenticated"}),
        json!({"sub": null}),
        json!({"sub": ""}),
        json!({"sub": 7}),
        json!({"sub": ["auth0|eve"]}),
        json!({"sub": "a b"}),
        json!({"sub": "e\u{0}"}),
        json!({"sub": "é"}),
        json!({"exp": null}),
        json!({"exp": now - 60}),
        json!({"exp": 0}),
        json!({"exp": -1}),
        json!({"exp": (now + 3600).to_string()}),
        json!({"exp": 1e300}),
        json!({"exp": i64::MAX}),
        json!({"exp": u64::MAX}),
        json!({"exp": -1e300}),
        json!({"exp": now as f64 - 60.5}),
        json!({"exp": true}),
        json!({"exp": [now + 9]}),
        json!({"nbf": now + 61}),
        json!({"nbf": "later"}),
        json!({"nbf": 1e300}),
        json!({"iat": now + 61}),
        json!({"iat": "now"}),
        json!({"typ": "ID"}),
        json!({"typ": "Refresh"}),
        json!({"token_use": "id"}),
    ] {
        attacks.push(named(changes.to_string(), Key::first().sign(&stage.auth0(&changes))));
    }
    stage.refuses(attacks).await;

    // What was remembered ends all the same.
    let short = Key::first().sign(&stage.auth0(&json!({"exp": now + 10})));
    stage.accepts("for ten seconds", &short).await;
    stage.app.advance(Duration::from_secs(69));
    stage.accepts("for ten seconds and the leeway", &short).await;
    stage.app.advance(Duration::from_secs(1));
    stage.refuses_bytes("over", short.as_bytes()).await;
    stage.app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signatures_of_curves_have_one_form() {
    let stage = Stage::set().await;
    let good = Key::ec().sign(&stage.claims(&stage.supabase, &json!({})));
    stage.accepts("raw", &good).await;
    let (message, signature) = good.rsplit_once('.').expect("a token");
    let raw = URL_SAFE_NO_PAD.decode(signature).expect("base64");
    let (r, s) = raw.split_at(32);
    let integer = |bytes: &[u8]| {
        let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(31);
        let bytes = &bytes[start..];
        let sign = if bytes[0] > 0x7f { &[0][..] } else { &[] };
        let length = u8::try_from(bytes.len() + sign.len()).expect("short");
        [&[2, length], sign, bytes].concat()
    };
    let body = [integer(r), integer(s)].concat();
    let der = [&[0x30, u8::try_from(body.len()).expect("short")], &body[..]].concat();
    // The order of P-256.
    let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order: Vec<u8> =
        (0..32).map(|at| u8::from_str_radix(&order[at * 2..at * 2 + 2], 16).expect("hex")).collect();
    let forms: [(&str, Vec<u8>); 9] = [
        ("zeros", vec![0; 64]),
        ("nothing", Vec::new()),
        ("DER", der),
        ("r alone", r.to_vec()),
        ("r zero", [&[0; 32], s].concat()),
        ("s zero", [r, &[0; 32]].concat()),
        ("r and s the order", [&order[..], &order[..]].concat()),
        ("one byte more", [&raw[..], &[0]].concat()),
        ("turned round", [s, r].concat()),
    ];
    let attacks =
        forms.map(|(name, bytes)| named(name, format!("{message}.{}", URL_SAFE_NO_PAD.encode(bytes))));
    stage.refuses(attacks.to_vec()).await;
    let ed = Key::ed().sign(&stage.claims(&stage.other, &json!({})));
    let (message, _) = ed.rsplit_once('.').expect("a token");
    stage
        .refuses(vec![named("Ed25519 zeros", format!("{message}.{}", URL_SAFE_NO_PAD.encode([0; 64])))])
        .await;
    stage.app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_tokens_and_two_credentials_are_refused_unread() {
    let stage = Stage::set().await;
    let padded = |len: usize| Key::first().sign(&stage.auth0(&json!({"x": "y".repeat(len)})));
    stage.accepts("below 8 KiB", &padded(5000)).await;
    stage.refuses_bytes("beyond 8 KiB", padded(6200).as_bytes()).await;
    stage.refuses_bytes("dots without end", &[b'.'; 9000]).await;
    let good = format!("Bearer {}", Key::first().sign(&stage.auth0(&json!({}))));
    let twice = |other: (&'static str, String)| {
        let request = stage.app.anon.request(Method::POST, "/api/v1/noop").header("authorization", &good);
        request.header(other.0, other.1).json(&json!({})).send()
    };
    for other in
        [("authorization", good.clone()), ("authorization", "Bearer x".into()), ("x-api-key", "usk_x".into())]
    {
        assert_eq!(twice(other).await.status, 401);
    }
    for scheme in ["bearer", "BEARER"] {
        let header = good.replace("Bearer", scheme);
        assert_eq!(stage.app.bearing(&header).post("/api/v1/noop", json!({})).await.status, 200, "{scheme}");
    }
    for header in [
        good.replace("Bearer ", ""),
        good.replace("Bearer", "Basic"),
        good.replace("Bearer ", "Bearer,"),
        format!("{good}, {good}"),
    ] {
        assert_eq!(stage.app.bearing(&header).post("/api/v1/noop", json!({})).await.status, 401);
    }
    stage.app.finish().await;
}
