//! The routes as `/openapi.json` tells them, and somebody whose things they can be asked about.

use serde_json::{Value, json};
use testkit::schema::Document;
use testkit::{Actor, Answer};

/// An operation, ready to be asked.
pub struct Route {
    pub name: String,
    pub method: String,
    pub path: String,
    pub body: Option<Value>,
    /// What a key needs; nothing where no key may call it.
    pub scopes: Option<Vec<String>>,
    pub public: bool,
}

/// A user as paths name it, with something of each kind that is its own.
#[derive(Clone)]
pub struct Owner {
    pub user: String,
    pub session: String,
    pub message: String,
    pub memory: String,
    pub file: String,
    pub hold: String,
    pub grant: String,
    pub transaction: String,
}

impl Owner {
    /// Nobody, who has nothing.
    pub fn nobody() -> Self {
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
    pub async fn new(user: &Actor) -> Self {
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
    pub async fn ask(&self, actor: &Actor, owner: &Owner) -> Answer {
        let request = self.request(actor, owner);
        match &self.body {
            _ if self.name == "upload_file" => request.file("a.txt", b"x").send().await,
            Some(body) => request.json(&about(body.clone(), &owner.user)).send().await,
            None => request.send().await,
        }
    }

    /// The same with a body that is none.
    pub async fn ask_badly(&self, actor: &Actor, owner: &Owner) -> Answer {
        self.request(actor, owner).body("{").send().await
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
            .replace("{key_id}", "k000000000")
            .replace("{endpoint_id}", "ep_unknown")
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

    /// Whether it is about somebody.
    pub fn of_user(&self) -> bool {
        let names = self.path.contains("{user_id}") || self.path.contains("{session_id}");
        // What is for admins is refused to everybody else before anybody is looked for.
        names && !self.needs("admin")
    }

    /// What an answer says of somebody who is unknown.
    pub fn unknown(&self) -> &'static str {
        if self.path.contains("{session_id}") { "SessionNotFoundException" } else { "UserNotFoundException" }
    }

    /// Whether a key needs this scope, maybe with others.
    pub fn needs(&self, scope: &str) -> bool {
        self.scopes.iter().flatten().any(|needed| needed == scope)
    }
}

/// Every operation with the body of its own example, destructive ones last.
pub fn routes(document: &Document) -> Vec<Route> {
    let mut routes: Vec<Route> = document
        .operations()
        .map(|(path, method, operation)| {
            let security = operation["security"].as_array().cloned().unwrap_or_default();
            let of_keys = security.iter().find_map(|one| one["service_key"].as_array());
            let names = |scopes: &Vec<Value>| {
                scopes.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect()
            };
            Route {
                name: operation["operationId"].as_str().expect("a name").to_owned(),
                method: method.to_owned(),
                path: path.to_owned(),
                body: example(&operation["requestBody"]["content"]["application/json"]),
                scopes: of_keys.map(names),
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

/// The first example of a media type.
fn example(content: &Value) -> Option<Value> {
    let first = content["examples"].as_object().and_then(|all| all.values().next()).map(|one| &one["value"]);
    first.or(content.get("example")).cloned()
}

/// The same with that user wherever one is named.
fn about(mut body: Value, user: &str) -> Value {
    match &mut body {
        Value::Object(members) => {
            for (name, value) in members.iter_mut() {
                if matches!(name.as_str(), "user_id" | "auth0_id") {
                    *value = user.into();
                } else {
                    *value = about(value.take(), user);
                }
            }
        }
        Value::Array(values) => {
            for value in values {
                *value = about(value.take(), user);
            }
        }
        _ => {}
    }
    body
}
