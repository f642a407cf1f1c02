//! Who may do what, asked of every route that `/openapi.json` knows.

use serde_json::{Value, json};
use testkit::schema::Document;
use testkit::{Actor, Answer, Engine, TestApp, both_engines};

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

/// An operation, ready to be asked.
struct Route {
    name: String,
    method: String,
    path: String,
    body: Option<Value>,
    scopes: Vec<String>,
    public: bool,
}

/// A user as paths name it, with something of each kind that is its own.
#[derive(Clone)]
struct Owner {
    user: String,
    session: String,
    message: String,
    memory: String,
    file: String,
    hold: String,
    grant: String,
    transaction: String,
}

impl Owner {
    /// Nobody, who has nothing.
    fn nobody() -> Self {
        let uuid = "00000000-0000-7000-8000-000000000000".to_owned();
        Self {
            user: "auth0|nobody".to_owned(),
            session: uuid.clone(),
            message: uuid,
            memory: "1".to_owned(),
            file: "users/auth0|nobody/files/x".to_owned(),
            hold: "hld_999999_1".to_owned(),
            grant: "grt_999999_1".to_owned(),
            transaction: "txn_999999_1".to_owned(),
        }
    }

    /// A user who was made just now.
    async fn new(user: &Actor) -> Self {
        let row = user.ensure().await["user_id"].clone();
        // One hold for each of the routes that settle one.
        for _ in 0..5 {
            let _ = user.post(&user.own("/credits/holds"), json!({"amount": 10})).await.ok();
        }
        let _ = user.post("/api/v1/subscriptions", json!({"plan_type": "free"})).await.ok();
        let session = crate::support::session(user).await;
        let message =
            user.post(&format!("{session}/messages"), json!({"role": "user", "content": "x"})).await.data();
        let memory = user.post(&format!("{session}/memory"), json!({"content": "x"})).await.data();
        Self {
            user: user.id().to_owned(),
            session: session.rsplit('/').next().unwrap_or_default().to_owned(),
            message: message["id"].as_str().expect("an id").to_owned(),
            memory: memory["id"].to_string(),
            file: user.upload("a.txt", b"x").await.data()["file_path"].as_str().expect("a path").to_owned(),
            hold: format!("hld_{row}_"),
            grant: format!("grt_{row}_1"),
            transaction: format!("txn_{row}_1"),
        }
    }
}

impl Route {
    /// Asks it about what is somebody's.
    async fn ask(&self, actor: &Actor, owner: &Owner) -> Answer {
        let request = self.request(actor, owner);
        match &self.body {
            _ if self.name == "upload_file" => request.file("a.txt", b"x").send().await,
            Some(body) => request.json(body).send().await,
            None => request.send().await,
        }
    }

    fn request(&self, actor: &Actor, owner: &Owner) -> testkit::Request {
        let path = self
            .path
            .replace("{user_id}", &owner.user.replace('|', "%7C"))
            .replace("{session_id}", &owner.session)
            .replace("{message_id}", &owner.message)
            .replace("{memory_id}", &owner.memory)
            .replace("{hold_id}", &self.hold_of(owner))
            .replace("{grant_id}", &owner.grant)
            .replace("{transaction_id}", &owner.transaction)
            .replace("{payment_id}", "1")
            .replace("{event_id}", "evt_unknown")
            .replace("{model}", "gpt-4");
        // What must be asked in the query.
        let path = match self.name.as_str() {
            "search_messages" => format!("{path}?q=x"),
            "get_file_info" | "download_file" | "delete_file" => {
                format!("{path}?file_path={}", owner.file.replace('|', "%7C"))
            }
            _ => path,
        };
        actor.request(self.method.to_uppercase().parse().expect("a method"), &path)
    }

    /// A hold of its own for each route, since a hold is settled once.
    fn hold_of(&self, owner: &Owner) -> String {
        let n = match self.name.as_str() {
            _ if !owner.hold.ends_with('_') => return owner.hold.clone(),
            "tick_hold" => 1,
            "extend_hold" => 2,
            "capture_hold" => 3,
            "release_hold" => 4,
            _ => 5,
        };
        format!("{}{n}", owner.hold)
    }

    fn of_user(&self) -> bool {
        let names = self.path.contains("{user_id}") || self.path.contains("{session_id}");
        // What is for admins is refused to everybody else before anybody is looked for.
        names && !self.for_admins()
    }

    /// What an answer says of somebody who is unknown.
    fn unknown(&self) -> &'static str {
        if self.path.contains("{session_id}") { "SessionNotFoundException" } else { "UserNotFoundException" }
    }

    fn for_admins(&self) -> bool {
        self.scopes.iter().any(|scope| scope == "admin")
    }

    fn grants(&self) -> bool {
        self.scopes.iter().any(|scope| scope == "credits:grant")
    }
}

/// Every operation with the body of its own example, destructive ones last.
fn routes(document: &Document) -> Vec<Route> {
    let mut routes: Vec<Route> = document
        .operations()
        .map(|(path, method, operation)| {
            let security = operation["security"].as_array().cloned().unwrap_or_default();
            Route {
                name: operation["operationId"].as_str().expect("a name").to_owned(),
                method: method.to_owned(),
                path: path.to_owned(),
                body: example(&operation["requestBody"]["content"]["application/json"]),
                scopes: security
                    .iter()
                    .filter_map(|one| one["service_key"].as_array())
                    .flatten()
                    .filter_map(|scope| scope.as_str().map(str::to_owned))
                    .collect(),
                public: security.iter().all(|one| *one == json!({})),
            }
        })
        .collect();
    // What hangs on something goes before it.
    routes.sort_by_key(|route| match route.name.as_str() {
        "delete_user" => 3,
        "delete_session" => 2,
        _ => u8::from(route.method == "delete"),
    });
    routes
}

/// The first example of a media type, without the user that it names.
fn example(content: &Value) -> Option<Value> {
    let first = content["examples"].as_object().and_then(|all| all.values().next()).map(|one| &one["value"]);
    let mut body = first.or(content.get("example")).cloned()?;
    if let Some(members) = body.as_object_mut() {
        members.remove("user_id");
    }
    Some(body)
}

both_engines! {
    async fn what_is_public_is_on_a_short_list(app: TestApp) {
        for route in routes(&app.document) {
            assert_eq!(route.public, PUBLIC.contains(&route.name.as_str()), "{} {}", route.method, route.path);
        }
    }

    async fn nobody_passes_without_proof(app: TestApp) {
        let alice = Owner::new(&app.alice).await;
        let garbage = app.bearing("Bearer eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl");
        let wrong_key = app.bearing("Bearer usk_wrong");
        for route in routes(&app.document).iter().filter(|route| !route.public) {
            for (who, actor) in [("anon", &app.anon), ("garbage", &garbage), ("wrong key", &wrong_key)] {
                for owner in [&alice, &Owner::nobody()] {
                    let answer = route.ask(actor, owner).await;
                    assert_eq!(answer.status, 401, "{who}: {}: {}", route.name, answer.text());
                    assert!(answer.header("www-authenticate").is_some_and(|challenge| challenge.starts_with("Bearer")));
                }
            }
        }
    }

    async fn a_user_reaches_nobody_but_itself(app: TestApp) {
        app.alice.ensure().await;
        let bob = Owner::new(&app.bob).await;
        let row = Owner { user: app.bob.ensure().await["user_id"].to_string(), ..bob.clone() };
        let session = format!("/api/v1/sessions/{}", bob.session);
        let before = app.bob.get("/api/v1/users/me").await.ok();
        for route in routes(&app.document).iter().filter(|route| route.of_user()) {
            for owner in [&bob, &row] {
                let foreign = route.ask(&app.alice, owner).await;
                assert_eq!(foreign.with(403)["error_code"], "AuthorizationException", "{}", route.name);
            }
            let unknown = route.ask(&app.alice, &Owner::nobody()).await;
            assert_eq!(unknown.with(404)["error_code"], route.unknown(), "{}", route.name);
            // Before anything else is looked at: a broken body does not tell who exists.
            if route.body.is_some() {
                let broken = route.request(&app.alice, &bob).body("{").send().await;
                assert_eq!(broken.status, 403, "{}", route.name);
            }
        }
        assert_eq!(app.bob.get("/api/v1/users/me").await.ok(), before, "nothing of bob's has changed");
        assert_eq!(app.bob.get(&app.bob.own("/usage")).await.data(), json!([]));
        let session = app.bob.get(&session).await.data();
        assert_eq!((&session["message_count"], &session["status"], &session["title"]), (&json!(1), &json!("active"), &Value::Null));
    }

    async fn what_gives_credits_is_not_for_plain_users(app: TestApp) {
        let alice = Owner::new(&app.alice).await;
        for route in routes(&app.document).iter().filter(|route| route.grants()) {
            let answer = route.ask(&app.alice, &alice).await;
            // Development alone lets users recharge themselves.
            let wanted = if route.name == "recharge_credits" { 200 } else { 403 };
            assert_eq!(answer.status, wanted, "{}: {}", route.name, answer.text());
        }
    }

    async fn what_is_for_admins_is_for_nobody_else(app: TestApp) {
        let alice = Owner::new(&app.alice).await;
        let all = routes(&app.document);
        let for_admins: Vec<_> = all.iter().filter(|route| route.for_admins()).collect();
        assert!(!for_admins.is_empty());
        for route in for_admins {
            for actor in [&app.alice, &app.backend] {
                let answer = route.ask(actor, &alice).await;
                answer.refuses(403, "AuthorizationException", "This needs an admin");
                // Before anything else is looked at.
                assert_eq!(route.request(actor, &alice).body("{").send().await.status, 403, "{}", route.name);
            }
            let answer = route.ask(&app.admin, &alice).await;
            let wanted = if ["replay_stripe_event", "merge_users"].contains(&route.name.as_str()) { 404 } else { 200 };
            assert_eq!(answer.status, wanted, "{}: {}", route.name, answer.text());
        }
    }

    async fn what_is_nobodys_is_for_everybody_with_credentials(app: TestApp) {
        let nobody = Owner::nobody();
        let open = ["list_prices", "get_price", "get_quote", "noop"];
        let all = routes(&app.document);
        for route in all.iter().filter(|route| open.contains(&route.name.as_str())) {
            for actor in [&app.alice, &app.backend, &app.admin] {
                assert_eq!(route.ask(actor, &nobody).await.status, 200, "{}", route.name);
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
    let app = TestApp::start_with(Engine::Sqlite, &[("ALLOW_SELF_RECHARGE", "false")]).await;
    let alice = Owner::new(&app.alice).await;
    for route in routes(&app.document).iter().filter(|route| route.grants()) {
        let answer = route.ask(&app.alice, &alice).await;
        assert_eq!(answer.with(403)["error_code"], "AuthorizationException", "{}", route.name);
    }
    // Its five holds are of the welcome credits.
    assert_eq!(crate::support::balance(&app.alice).await, 950);
    app.finish().await;
}
