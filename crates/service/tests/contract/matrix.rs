//! Who may do what: every route that `/openapi.json` knows, asked by every kind of caller.
//!
//! What a caller must be answered follows from the route's `security` alone ([`wanted`]). A route that says
//! something new there, or nothing, fails until it is on a list below.

mod routes;

use crate::keys::make;
use crate::support::with_settings;
use routes::{Owner, Route, routes};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Duration;
use testkit::{Actor, TestApp, both_engines};
use user_service::auth::Scope;

/// The routes that anybody may call.
const PUBLIC: [&str; 12] = [
    "get_root",
    "get_health",
    "get_live",
    "get_ready",
    "get_metrics",
    "create_dev_token",
    "get_auth_info",
    "list_plans",
    "list_packs",
    // The signature in its header is the permission.
    "take_stripe_event",
    // The signature in the address is the permission.
    "get_local_file",
    "put_local_file",
];

/// The routes that are nobody's, and open to whoever has credentials.
const OPEN: [&str; 4] = ["list_prices", "get_price", "get_quote", "noop"];

/// The routes that are about whoever calls, and so for users alone.
const OF_THE_CALLER: [&str; 7] = [
    "get_me",
    "create_payment_intent",
    "create_checkout",
    "create_portal",
    "create_subscription",
    "get_current_subscription",
    "cancel_current_subscription",
];

/// The scopes that users do not have on themselves.
const NOT_FOR_USERS: [&str; 5] =
    ["admin", "credits:grant", "tokens:issue", "webhooks:read", "webhooks:write"];

/// A kind of caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nobody,
    Garbage,
    WrongKey,
    ExpiredKey,
    RevokedKey,
    TokenOfRevokedKey,
    Stranger,
    OwnUser,
    OwnTokenWithJustThat,
    OwnTokenWithoutOne,
    KeyWithJustThat,
    KeyWithoutOne,
    AdminRole,
    AdminKey,
    Suspended,
    SuspendedToken,
}

/// What a caller of that kind must be answered, by the route's `security`: 401, 403, or neither (200).
fn wanted(kind: Kind, route: &Route) -> u16 {
    let for_users = !NOT_FOR_USERS.iter().any(|scope| route.needs(scope));
    // Development alone lets users recharge themselves.
    let own = if for_users || route.name == "recharge_credits" { 200 } else { 403 };
    let for_keys = if route.scopes.is_some() { 200 } else { 403 };
    match kind {
        Kind::Nobody
        | Kind::Garbage
        | Kind::WrongKey
        | Kind::ExpiredKey
        | Kind::RevokedKey
        | Kind::TokenOfRevokedKey => 401,
        Kind::Stranger if route.of_user() => 403,
        Kind::Stranger | Kind::OwnUser => own,
        Kind::OwnTokenWithJustThat => own.max(for_keys),
        Kind::OwnTokenWithoutOne | Kind::KeyWithoutOne | Kind::Suspended | Kind::SuspendedToken => 403,
        Kind::KeyWithJustThat | Kind::AdminKey => for_keys,
        Kind::AdminRole => 200,
    }
}

/// What callers prove themselves by.
struct Badges<'a> {
    app: &'a TestApp,
    keys: HashMap<String, Actor>,
    tokens: HashMap<(String, String), Actor>,
}

impl<'a> Badges<'a> {
    fn new(app: &'a TestApp) -> Self {
        Self { app, keys: HashMap::new(), tokens: HashMap::new() }
    }

    /// A key with exactly these scopes; one that is of no use here, where they are none.
    async fn key(&mut self, scopes: &[String]) -> Actor {
        let scopes = if scopes.is_empty() { "webhooks:read".to_owned() } else { scopes.join(" ") };
        if !self.keys.contains_key(&scopes) {
            self.keys.insert(scopes.clone(), make(self.app, &scopes, json!({})).await.1);
        }
        self.keys[&scopes].clone()
    }

    /// A token of a user with exactly these scopes, of those that a token can have.
    async fn token(&mut self, user: &str, scopes: &[String]) -> Actor {
        let can = |scope: &&String| !matches!(scope.as_str(), "admin" | "tokens:issue");
        let mut scopes: Vec<&String> = scopes.iter().filter(can).collect();
        let other = "webhooks:read".to_owned();
        if scopes.is_empty() {
            scopes.push(&other);
        }
        let place = (user.to_owned(), json!(scopes).to_string());
        if !self.tokens.contains_key(&place) {
            let asked = json!({"user_id": user, "scopes": scopes, "expires_in": 3600});
            let issued = self.app.backend.post("/auth/user-tokens", asked).await.ok();
            let bearer = format!("Bearer {}", issued["token"].as_str().expect("a token"));
            self.tokens.insert(place.clone(), self.app.bearing(&bearer));
        }
        self.tokens[&place].clone()
    }
}

/// Every scope but those that stand for more, and but this one.
fn all_but(scope: &str) -> Vec<String> {
    let names = Scope::ALL.into_iter().map(Scope::as_str).filter(|name| *name != "admin" && *name != scope);
    names.map(str::to_owned).collect()
}

/// Insists on what a caller must be answered.
async fn expect(kind: Kind, route: &Route, actor: &Actor, owner: &Owner) {
    let answer = route.ask(actor, owner).await;
    let found = if matches!(answer.status, 401 | 403) { answer.status } else { 200 };
    assert_eq!(found, wanted(kind, route), "{kind:?}: {}: {}", route.name, answer.text());
    if found == 401 {
        let challenge = answer.header("www-authenticate");
        assert!(challenge.is_some_and(|challenge| challenge.starts_with("Bearer")), "{}", route.name);
    }
    // Before anything else is looked at: a broken body tells nothing to whoever may not ask.
    if found != 200 && route.body.is_some() && route.name != "ensure_user" && !of_many(route) {
        assert_eq!(route.ask_badly(actor, owner).await.status, found, "{kind:?}: {}", route.name);
    }
}

/// Whether its permission is looked for in what it is sent.
fn of_many(route: &Route) -> bool {
    matches!(route.name.as_str(), "record_usage_batch" | "create_charges") || route.scopes.is_none()
}

both_engines! {
    async fn every_route_says_who_may_call_it(app: TestApp) {
        for route in routes(&app.document) {
            let name = route.name.as_str();
            let named = |list: &[&str]| list.contains(&name);
            assert_eq!(route.public, named(&PUBLIC), "{} {} is public", route.method, route.path);
            if !route.public {
                assert_eq!(route.scopes.is_none(), named(&OF_THE_CALLER), "{name} is for users alone");
                assert_eq!(route.scopes.as_ref().is_some_and(Vec::is_empty), named(&OPEN), "{name} needs no scope");
            }
            for scope in route.scopes.iter().flatten() {
                assert!(scope.parse::<Scope>().is_ok(), "{name}: {scope} is a scope");
            }
        }
    }

    async fn nobody_passes_without_proof(app: TestApp) {
        let bob = Owner::new(&app.bob).await;
        let (id, revoked) = make(&app, "admin", json!({})).await;
        let (_, expired) = make(&app, "admin", json!({"expires_at": "2025-07-27T00:12:00Z"})).await;
        let asked = json!({"user_id": bob.user, "scopes": all_but("tokens:issue"), "expires_in": 3600});
        let issued = revoked.post("/auth/user-tokens", asked).await.ok();
        let of_revoked = app.bearing(&format!("Bearer {}", issued["token"].as_str().expect("a token")));
        let _ = app.admin.delete(&format!("/api/v1/admin/keys/{id}")).await.ok();
        app.advance(Duration::from_secs(60));
        let garbage = app.bearing("Bearer eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl");
        let wrong = app.bearing("Bearer usk_wrong");
        for route in routes(&app.document).iter().filter(|route| !route.public) {
            for (kind, actor) in [
                (Kind::Nobody, &app.anon), (Kind::Garbage, &garbage), (Kind::WrongKey, &wrong), (Kind::ExpiredKey, &expired),
                (Kind::RevokedKey, &revoked), (Kind::TokenOfRevokedKey, &of_revoked),
            ] {
                expect(kind, route, actor, &bob).await;
            }
            expect(Kind::Nobody, route, &app.anon, &Owner::nobody()).await;
        }
    }

    async fn nobody_passes_with_less_than_the_route_needs(app: TestApp) {
        let bob = Owner::new(&app.bob).await;
        let row = Owner { user: app.bob.ensure().await["user_id"].to_string(), ..bob.clone() };
        app.alice.ensure().await;
        let before = app.bob.get("/api/v1/users/me").await.ok();
        let mut badges = Badges::new(&app);
        let carol = app.user("auth0|carol");
        let suspended = Owner::new(&carol).await;
        let _ = badges.token("auth0|carol", &all_but("tokens:issue")).await;
        let _ = app.admin.post(&carol.own("/suspend"), json!({})).await.ok();
        for route in routes(&app.document).iter().filter(|route| !route.public) {
            expect(Kind::Suspended, route, &carol, &suspended).await;
            let token = badges.token("auth0|carol", &all_but("tokens:issue")).await;
            expect(Kind::SuspendedToken, route, &token, &suspended).await;
            for scope in route.scopes.iter().flatten() {
                expect(Kind::KeyWithoutOne, route, &badges.key(&all_but(scope)).await, &bob).await;
                expect(Kind::OwnTokenWithoutOne, route, &badges.token("auth0|bob", &all_but(scope)).await, &bob).await;
            }
            if wanted(Kind::OwnUser, route) == 403 {
                expect(Kind::OwnUser, route, &app.bob, &bob).await;
                let just_that = badges.token("auth0|bob", route.scopes.as_deref().unwrap_or_default()).await;
                expect(Kind::OwnTokenWithJustThat, route, &just_that, &bob).await;
            }
            if route.of_user() {
                for owner in [&bob, &row] {
                    expect(Kind::Stranger, route, &app.alice, owner).await;
                }
                let unknown = route.ask(&app.alice, &Owner::nobody()).await;
                assert_eq!(unknown.with(404)["error_code"], route.unknown(), "{}", route.name);
            }
        }
        assert_eq!(app.bob.get("/api/v1/users/me").await.ok(), before, "nothing of bob's has changed");
        assert_eq!(app.bob.get(&app.bob.own("/usage")).await.data(), json!([]));
        let session = app.bob.get(&format!("/api/v1/sessions/{}", bob.session)).await.data();
        assert_eq!((&session["message_count"], &session["status"], &session["title"]), (&json!(1), &json!("active"), &Value::Null));
    }

    async fn everybody_passes_with_just_what_the_route_needs(app: TestApp) {
        let mut badges = Badges::new(&app);
        let (_, admin_key) = make(&app, "admin", json!({})).await;
        for (kind, name) in [
            (Kind::OwnUser, "auth0|own"), (Kind::OwnTokenWithJustThat, "auth0|token"), (Kind::KeyWithJustThat, "auth0|key"),
            (Kind::AdminRole, "auth0|role"), (Kind::AdminKey, "auth0|power"),
        ] {
            let user = app.user(name);
            let owner = Owner::new(&user).await;
            for route in routes(&app.document).iter().filter(|route| !route.public) {
                let scopes = route.scopes.as_deref().unwrap_or_default();
                let actor = match kind {
                    Kind::OwnUser => user.clone(),
                    Kind::OwnTokenWithJustThat => badges.token(name, scopes).await,
                    // A key gives no more than it has, and the example asks for this.
                    Kind::KeyWithJustThat if route.name == "create_user_token" => {
                        badges.key(&["tokens:issue", "credits:read"].map(str::to_owned)).await
                    }
                    Kind::KeyWithJustThat => badges.key(scopes).await,
                    Kind::AdminRole => app.admin.clone(),
                    _ => admin_key.clone(),
                };
                expect(kind, route, &actor, &owner).await;
            }
        }
    }

    async fn programs_and_admins_reach_every_user(app: TestApp) {
        let names = ["auth0|key", "auth0|role"];
        for (actor, user) in [&app.backend, &app.admin].into_iter().zip(names) {
            let owner = Owner::new(&app.user(user)).await;
            for route in routes(&app.document).iter().filter(|route| route.of_user()) {
                let answer = route.ask(actor, &owner).await;
                let wanted = match route.name.as_str() {
                    // The examples name a transaction, an upload and a payment that are not this user's.
                    "refund_credits" | "complete_upload" | "refund_payment" => 404,
                    // No card is saved, so there is no automatic top-up.
                    "set_auto_top_up" => 409,
                    "get_auto_top_up" | "delete_auto_top_up" => 404,
                    // Open holds have set some of the welcome credits aside.
                    "void_grant" => 409,
                    "download_file" => 302,
                    _ => 200,
                };
                assert_eq!(answer.status, wanted, "{}: {}", route.name, answer.text());
                let unknown = route.ask(actor, &Owner::nobody()).await;
                assert_eq!(unknown.with(404)["error_code"], route.unknown(), "{}", route.name);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_self_recharge_a_user_gives_itself_nothing() {
    with_settings(&[("ALLOW_SELF_RECHARGE", "false")], async |app| {
        let alice = Owner::new(&app.alice).await;
        for route in routes(&app.document).iter().filter(|route| route.needs("credits:grant")) {
            let answer = route.ask(&app.alice, &alice).await;
            assert_eq!(answer.with(403)["error_code"], "AuthorizationException", "{}", route.name);
        }
        // Its five holds are of the welcome credits.
        assert_eq!(crate::support::balance(&app.alice).await, 950);
    })
    .await;
}
