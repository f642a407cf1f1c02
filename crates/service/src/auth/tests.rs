//! Credentials as callers send them, good and bad, against the whole authenticator.

use super::test_support::*;
use super::{
    AuthConfig, AuthError, Authenticator, Issuer, KeySource, KeyState, Principal, Scope, UserPrincipal,
};
use aws_lc_rs::hmac;
use axum::http::HeaderMap;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use kernel::{Clock, Email, Name};
use serde_json::{Value, json};
use std::time::Duration;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pairs =
        pairs.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")));
    let mut headers = HeaderMap::new();
    pairs.for_each(|(name, value): (axum::http::HeaderName, _)| {
        headers.append(name, value);
    });
    headers
}

async fn bearer(auth: &Authenticator, token: &str) -> Result<UserPrincipal, AuthError> {
    match auth.authenticate(&headers(&[("authorization", &format!("Bearer {token}"))])).await? {
        Principal::User(user) => Ok(user),
        Principal::Service(service) => panic!("{service:?}"),
    }
}

async fn supabase(changes: Value) -> Result<UserPrincipal, AuthError> {
    let auth = authenticator(None, &manual_clock());
    bearer(&auth, &hs256(SECRET.as_bytes(), &supabase_claims(&changes))).await
}

async fn with_auth0() -> (Authenticator, Server, Clock) {
    let server = Server::start(&[Key::first()]).await;
    let clock = manual_clock();
    (authenticator(Some(&server), &clock), server, clock)
}

#[tokio::test]
async fn a_supabase_token_is_its_user() {
    let user = supabase(json!({})).await.expect("a user");
    assert_eq!(user.subject.as_str(), "auth0|test123");
    assert_eq!(user.email.as_ref().map(Email::as_str), Some("test@test.com"));
    assert_eq!((user.name, user.admin), (None, false));
    for good in [
        json!({"iss": "https://project.supabase.co/auth/v1"}),
        json!({"aud": ["other", "authenticated"]}),
        json!({"exp": NOW_S - 59}),
        json!({"nbf": NOW_S + 60}),
    ] {
        assert!(supabase(good.clone()).await.is_ok(), "{good}");
    }
    assert!(supabase(json!({"app_metadata": {"role": "admin"}})).await.expect("a user").admin);
}

#[tokio::test]
async fn claims_that_are_wrong_are_refused() {
    for bad in [
        json!({"iss": null}),
        json!({"iss": "https://evil.example/auth/v1"}),
        json!({"iss": ["supabase"]}),
        json!({"aud": null}),
        json!({"aud": "anon"}),
        json!({"aud": ["anon", "Authenticated"]}),
        json!({"exp": null}),
        json!({"exp": "1900000000"}),
        json!({"exp": NOW_S - 60}),
        json!({"nbf": NOW_S + 61}),
        json!({"sub": null}),
        json!({"sub": "two words"}),
    ] {
        assert_eq!(supabase(bad.clone()).await, Err(AuthError::Invalid), "{bad}");
    }
}

#[tokio::test]
async fn users_cannot_make_themselves_admins() {
    let user = supabase(json!({"user_metadata": {"role": "admin", "roles": ["admin"]}})).await;
    assert!(!user.expect("a user").admin);
}

#[tokio::test]
async fn a_changed_token_is_refused() {
    let auth = authenticator(None, &manual_clock());
    let good = hs256(SECRET.as_bytes(), &supabase_claims(&json!({})));
    assert!(bearer(&auth, &good).await.is_ok());

    let parts: Vec<&str> = good.split('.').collect();
    let [header, claims, signature] = parts[..] else { panic!("three parts") };
    let admin = unsigned(&json!({"alg": "HS256"}), &supabase_claims(&json!({"role": "admin"})));
    let none = unsigned(&json!({"alg": "none"}), &supabase_claims(&json!({})));
    let listed = URL_SAFE_NO_PAD.encode(r#"["supabase","auth0|test123"]"#);
    for bad in [
        format!("{admin}.{signature}"),
        format!("{none}."),
        format!("{none}.{signature}"),
        format!("{header}.{claims}."),
        format!("{header}.{claims}.{signature}="),
        format!("{header}.{claims}.{}", &signature[..40]),
        format!("{header}.{claims}.{signature}{signature}"),
        format!("{header}.{claims}.!{}", &signature[1..]),
        format!("{header}.*{claims}.{signature}"),
        format!("{header}.{listed}.{signature}"),
        format!("{header}.{claims}"),
        format!("{good}.{signature}"),
        "..".into(),
        "a.b.c".into(),
        String::new(),
        hs256(b"another secret", &supabase_claims(&json!({}))),
    ] {
        assert_eq!(bearer(&auth, &bad).await, Err(AuthError::Invalid), "{bad}");
    }
}

#[tokio::test]
async fn a_token_that_demands_extensions_or_another_hash_is_refused() {
    let auth = authenticator(None, &manual_clock());
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    for (header, accepted) in [
        (json!({"alg": "HS256"}), true),
        (json!({"alg": "HS256", "jku": "http://evil.example/keys", "kid": "../../etc/passwd"}), true),
        (json!({"alg": "HS256", "crit": ["exp"]}), false),
        (json!({"alg": "hs256"}), false),
        (json!({"alg": "HS384"}), false),
        (json!({"alg": "RS256"}), false),
        (json!({"alg": ["HS256"]}), false),
        (json!({}), false),
    ] {
        let message = unsigned(&header, &supabase_claims(&json!({})));
        let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes()).as_ref());
        assert_eq!(bearer(&auth, &format!("{message}.{signature}")).await.is_ok(), accepted, "{header}");
    }
}

#[tokio::test]
async fn a_token_of_more_than_8_kib_is_not_even_parsed() {
    let sized = |len| supabase(json!({"padding": "x".repeat(len)}));
    assert!(sized(5_000).await.is_ok());
    assert_eq!(sized(6_200).await, Err(AuthError::Invalid));
}

#[tokio::test]
async fn an_auth0_token_is_its_user() {
    let (auth, server, _) = with_auth0().await;
    for good in [json!({}), json!({"aud": AUDIENCE}), json!({"permissions": ["admin"]})] {
        let user = bearer(&auth, &Key::first().sign(&auth0_claims(&server, &good))).await.expect("a user");
        assert_eq!(user.subject.as_str(), "auth0|abc");
        assert_eq!(user.name.as_ref().map(Name::as_str), Some("Ada"));
        assert_eq!(user.admin, good.get("permissions").is_some());
    }
    for bad in [
        json!({"aud": "https://other.example.com"}),
        json!({"aud": null}),
        json!({"iss": "https://tenant.auth0.com/"}),
        json!({"iss": "supabase", "aud": "authenticated"}),
        json!({"exp": null}),
        json!({"exp": NOW_S - 60}),
        json!({"nbf": NOW_S + 61}),
    ] {
        let token = Key::first().sign(&auth0_claims(&server, &bad));
        assert_eq!(bearer(&auth, &token).await, Err(AuthError::Invalid), "{bad}");
    }
    assert_eq!(auth.key_state(), KeyState::Ok);
    assert_eq!(server.hits(), 1);
}

#[tokio::test]
async fn a_public_key_is_no_hmac_secret() {
    let (auth, server, _) = with_auth0().await;
    let claims = auth0_claims(&server, &json!({}));
    let key = hmac::Key::new(hmac::HMAC_SHA256, Key::first().public());
    for alg in ["HS256", "RS256"] {
        let message = unsigned(&json!({"alg": alg, "kid": "first"}), &claims);
        let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes()).as_ref());
        assert_eq!(bearer(&auth, &format!("{message}.{signature}")).await, Err(AuthError::Invalid), "{alg}");
    }
    // The tenant's issuer does not open the door with Supabase's secret, either.
    assert_eq!(bearer(&auth, &hs256(SECRET.as_bytes(), &claims)).await, Err(AuthError::Invalid));
}

#[tokio::test]
async fn a_foreign_or_missing_key_id_is_refused() {
    let (auth, server, _) = with_auth0().await;
    let claims = auth0_claims(&server, &json!({}));
    assert!(bearer(&auth, &Key::first().sign(&claims)).await.is_ok());
    for bad in [
        Key::second().sign(&claims),
        Key::second().signed_as(&json!({"kid": "first"}), &claims),
        Key::first().signed_as(&json!({"kid": ""}), &claims),
        Key::first().signed_as(&json!({"kid": null}), &claims),
    ] {
        assert_eq!(bearer(&auth, &bad).await, Err(AuthError::Invalid));
    }
}

#[tokio::test]
async fn a_rotated_key_is_found_and_a_token_of_the_old_one_ends() {
    let (auth, server, _) = with_auth0().await;
    let claims = auth0_claims(&server, &json!({}));
    let (old, new) = (Key::first().sign(&claims), Key::second().sign(&claims));
    assert!(bearer(&auth, &old).await.is_ok());
    server.rotate(&[Key::second()]);
    assert!(bearer(&auth, &new).await.is_ok());
    assert_eq!(bearer(&auth, &old).await, Err(AuthError::Invalid), "remembered, but its key is gone");
}

#[tokio::test]
async fn a_token_verified_before_ends_with_its_expiry() {
    let (auth, server, clock) = with_auth0().await;
    let token = Key::first().sign(&auth0_claims(&server, &json!({"exp": NOW_S + 10})));
    assert!(bearer(&auth, &token).await.is_ok());
    clock.advance(Duration::from_secs(69));
    assert!(bearer(&auth, &token).await.is_ok());
    clock.advance(Duration::from_secs(1));
    assert_eq!(bearer(&auth, &token).await, Err(AuthError::Invalid));
}

#[tokio::test]
async fn without_any_keys_nobody_is_blamed_and_other_credentials_work() {
    let (auth, server, clock) = with_auth0().await;
    let token = Key::first().sign(&auth0_claims(&server, &json!({})));
    server.answer("503 Service Unavailable", "", "");
    assert_eq!(bearer(&auth, &token).await, Err(AuthError::KeysUnavailable));
    assert_eq!(auth.key_state(), KeyState::Unavailable);
    assert!(bearer(&auth, &hs256(SECRET.as_bytes(), &supabase_claims(&json!({})))).await.is_ok());

    server.rotate(&[Key::first()]);
    clock.advance(Duration::from_secs(30));
    assert!(bearer(&auth, &token).await.is_ok());
}

#[tokio::test]
async fn the_service_key_has_every_scope_but_admin() {
    let auth = authenticator(None, &manual_clock());
    for (name, value) in [
        ("x-api-key", SERVICE_KEY.to_owned()),
        ("authorization", format!("Bearer {SERVICE_KEY}")),
        ("authorization", format!("bEARER   {SERVICE_KEY} ")),
    ] {
        let principal = auth.authenticate(&headers(&[(name, &value)])).await.expect(&value);
        assert_eq!((principal.kind(), principal.caller().as_str()), ("service", "key:bootstrap"));
        assert!(principal.has(Scope::CreditsGrant) && !principal.has(Scope::Admin));
    }
}

#[tokio::test]
async fn credentials_that_are_no_credentials_are_refused() {
    let auth = authenticator(None, &manual_clock());
    let token = hs256(SECRET.as_bytes(), &supabase_claims(&json!({})));
    let (good, basic) = (format!("Bearer {token}"), format!("Basic {token}"));
    assert_eq!(auth.authenticate(&HeaderMap::new()).await, Err(AuthError::Missing));
    for bad in [
        &[("x-api-key", "")][..],
        &[("x-api-key", "usk_other")],
        &[("x-api-key", "usk_bootstrap_ke")],
        &[("x-api-key", &token)],
        &[("x-api-key", SERVICE_KEY), ("x-api-key", SERVICE_KEY)],
        &[("x-api-key", SERVICE_KEY), ("authorization", &good)],
        &[("x-api-key", "wrong"), ("authorization", &good)],
        &[("authorization", &good), ("authorization", &good)],
        &[("authorization", "")],
        &[("authorization", "Bearer")],
        &[("authorization", "Bearer ")],
        &[("authorization", "Bearer usk_other")],
        &[("authorization", &token)],
        &[("authorization", &basic)],
    ] {
        assert_eq!(auth.authenticate(&headers(bad)).await, Err(AuthError::Invalid), "{bad:?}");
    }
}

#[tokio::test]
async fn a_development_token_is_accepted_for_an_hour() {
    let clock = manual_clock();
    let auth = authenticator(None, &clock);
    let subject = "auth0|test123".parse().expect("an id");
    let token = super::dev_token::mint(&kernel::Secret::new(SECRET.into()), &subject, None, clock.now());
    assert_eq!(bearer(&auth, &token).await.expect("a user").subject, subject);
    clock.advance(Duration::from_secs(3600 + 60));
    assert_eq!(bearer(&auth, &token).await, Err(AuthError::Invalid));
}

/// An authenticator for several issuers, of which the first speaks for programs.
fn of_issuers(servers: &[&Server]) -> Authenticator {
    let mut issuers: Vec<Issuer> = servers.iter().map(|server| issuer(server)).collect();
    issuers[0].terms.services = true;
    let config = AuthConfig { issuers, ..AuthConfig::default() };
    Authenticator::new(config, manual_clock()).expect("an authenticator")
}

#[tokio::test]
async fn a_key_of_every_kind_signs_tokens() {
    let server = Server::start(&[Key::ec(), Key::ed(), Key::first()]).await;
    let auth = of_issuers(&[&server]);
    let claims = auth0_claims(&server, &json!({}));
    for (key, header) in [
        (Key::ec(), json!({})),
        (Key::ed(), json!({})),
        (Key::ed(), json!({"alg": "Ed25519"})),
        (Key::first(), json!({})),
        (Key::first(), json!({"typ": "at+jwt"})),
        (Key::first(), json!({"typ": "application/at+JWT"})),
        (Key::first(), json!({"typ": null})),
    ] {
        let token = key.signed_as(&header, &claims);
        for how in ["first", "remembered"] {
            assert_eq!(bearer(&auth, &token).await.expect(how).subject.as_str(), "auth0|abc", "{header}");
        }
    }
    // No key's algorithm is another's.
    for (key, header) in [
        (Key::ec(), json!({"kid": "first"})),
        (Key::first(), json!({"alg": "PS256"})),
        (Key::first(), json!({"alg": "RS512"})),
        (Key::first(), json!({"kid": "ec", "alg": "ES256"})),
        (Key::first(), json!({"typ": "logout+jwt"})),
        (Key::first(), json!({"typ": 7})),
    ] {
        let token = key.signed_as(&header, &claims);
        assert_eq!(bearer(&auth, &token).await, Err(AuthError::Invalid), "{header}");
    }
}

#[tokio::test]
async fn one_issuers_key_does_not_sign_anothers_tokens() {
    let (one, two) = (Server::start(&[Key::first()]).await, Server::start(&[Key::second()]).await);
    two.publish(&[changed(Key::second().jwk(), &json!({"kid": "first"}))]);
    let auth = of_issuers(&[&one, &two]);
    let of_two = auth0_claims(&two, &json!({}));
    let good = Key::second().signed_as(&json!({"kid": "first"}), &of_two);
    assert!(bearer(&auth, &good).await.is_ok());
    assert_eq!(bearer(&auth, &Key::first().sign(&of_two)).await, Err(AuthError::Invalid));
    let crossed = Key::second().signed_as(&json!({"kid": "first"}), &auth0_claims(&one, &json!({})));
    assert_eq!(bearer(&auth, &crossed).await, Err(AuthError::Invalid));
    // Nor a secret that is not there.
    let hs = hs256(SECRET.as_bytes(), &supabase_claims(&json!({})));
    assert_eq!(bearer(&auth, &hs).await, Err(AuthError::Invalid));
}

#[tokio::test]
async fn a_programs_token_is_a_service_where_the_issuer_may_speak_for_programs() {
    let (one, two) = (Server::start(&[Key::first()]).await, Server::start(&[Key::first()]).await);
    let auth = of_issuers(&[&one, &two]);
    let program = json!({
        "sub": "abc@clients", "azp": "abc", "gty": "client-credentials", "scope": "credits:spend users:read",
    });
    let token = |server| format!("Bearer {}", Key::first().sign(&auth0_claims(server, &program)));
    let principal = auth.authenticate(&headers(&[("authorization", &token(&one))])).await.expect("a service");
    assert_eq!((principal.kind(), principal.caller().as_str()), ("service", "key:test:abc@clients"));
    assert!(principal.has(Scope::CreditsSpend) && !principal.has(Scope::CreditsGrant));
    let refused = auth.authenticate(&headers(&[("authorization", &token(&two))])).await;
    assert_eq!(refused, Err(AuthError::Invalid));
}

#[tokio::test]
async fn keys_are_found_by_discovery() {
    let server = Server::start(&[Key::first()]).await;
    let discovered = Issuer { keys: KeySource::Discovery(server.url()), ..issuer(&server) };
    let other = Server::start(&[Key::first()]).await;
    // This one's document names another issuer.
    let lying = Issuer {
        url: "http://127.0.0.1:1/".into(),
        keys: KeySource::Discovery(other.url().replace("127.0.0.1", "localhost")),
        ..issuer(&other)
    };
    let config = AuthConfig { issuers: vec![discovered, lying], ..AuthConfig::default() };
    let auth = Authenticator::new(config, manual_clock()).expect("an authenticator");
    let token = Key::first().sign(&auth0_claims(&server, &json!({})));
    assert!(bearer(&auth, &token).await.is_ok());
    let token = Key::first().sign(&auth0_claims(&other, &json!({"iss": "http://127.0.0.1:1/"})));
    assert_eq!(bearer(&auth, &token).await, Err(AuthError::KeysUnavailable));
    assert_eq!((server.hits(), other.hits()), (1, 0));
}

#[tokio::test]
async fn keys_that_may_be_missing_leave_the_service_well() {
    let server = Server::start(&[]).await;
    let issuers = vec![Issuer { optional: true, ..issuer(&server) }];
    let clock = manual_clock();
    let auth = Authenticator::new(AuthConfig { issuers, ..AuthConfig::default() }, clock.clone());
    let auth = auth.expect("an authenticator");
    let token = Key::ec().sign(&auth0_claims(&server, &json!({})));
    assert_eq!(bearer(&auth, &token).await, Err(AuthError::Invalid), "it has no keys, which is no outage");
    assert_eq!(auth.key_state(), KeyState::Ok);
    server.rotate(&[Key::ec()]);
    clock.advance(Duration::from_secs(30));
    assert!(bearer(&auth, &token).await.is_ok(), "asked for when a token names a key");
}

#[tokio::test]
async fn empty_secrets_are_refused_at_the_start() {
    use super::{AuthConfigError, SharedSecret};
    let empty = || kernel::Secret::new(String::new());
    let secret = Some(SharedSecret { secret: empty(), issuers: vec!["supabase".into()], terms: terms() });
    let start = |config| Authenticator::new(config, manual_clock()).err();
    assert_eq!(start(AuthConfig { secret, ..AuthConfig::default() }), Some(AuthConfigError::Secret));
    let service_key = Some(empty());
    assert_eq!(start(AuthConfig { service_key, ..AuthConfig::default() }), Some(AuthConfigError::ServiceKey));
}
