//! Service keys on the command line, beside a running service, and across replicas.

use crate::PROGRAM;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use testkit::process::{Ended, Place};

either_engine!(a_key_is_made_and_revoked_while_the_service_runs);

/// How long another process may take to refuse a key: a second, and what a busy machine adds.
const REVOKED_LIMIT: Duration = Duration::from_secs(4);

fn client() -> Client {
    Client::builder().no_proxy().build().expect("a client")
}

async fn keys(place: &Place, line: &str) -> Ended {
    let arguments: Vec<&str> = ["keys"].into_iter().chain(line.split(' ')).collect();
    PROGRAM.run(place, &arguments, &[]).await
}

/// Makes a key, and gives it.
async fn made(place: &Place, line: &str) -> String {
    let ended = keys(place, line).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.stdout.trim().to_owned()
}

async fn ask(at: SocketAddr, key: &str, method: Method, path: &str, body: Value) -> (u16, Value) {
    let request = client().request(method, format!("http://{at}{path}"));
    let answer = request.header("x-api-key", key).json(&body).send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

async fn status(at: SocketAddr, key: &str) -> u16 {
    ask(at, key, Method::POST, "/api/v1/noop", json!({})).await.0
}

/// Waits until a key is refused there.
async fn refused(at: SocketAddr, key: &str) {
    let since = Instant::now();
    while status(at, key).await != 401 {
        assert!(since.elapsed() < REVOKED_LIMIT, "the key still works");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn a_key_is_made_and_revoked_while_the_service_runs(place: Place) {
    // Before the first start, which makes the database.
    let first = made(&place, "create --name first --scopes admin").await;
    let service = PROGRAM.start(&place, &[]).await;
    let at = service.address;
    assert_eq!(status(at, &first).await, 200);
    // Beside the service, which writes meanwhile.
    let writing = async {
        for n in 0..40 {
            let body = json!({"auth0_id": format!("user{n}")});
            assert_eq!(ask(at, &first, Method::POST, "/api/v1/users/ensure", body).await.0, 200);
        }
    };
    let (second, ()) = tokio::join!(
        made(&place, "create --name second --scopes users:read --expires-days 9 --ip 127.0.0.0/8"),
        writing
    );
    assert_eq!(status(at, &second).await, 200);
    let id = second.split('_').nth(1).expect("an id").to_owned();
    let listed = keys(&place, "list").await;
    assert_eq!((listed.code, listed.stdout.lines().count()), (Some(0), 3), "{}", listed.stdout);
    let line = listed.stdout.lines().nth(1).expect("a line");
    assert!(line.starts_with(&id) && line.ends_with("second: users:read"), "{line}");
    assert!(!listed.stdout.contains(&second) && !listed.stdout.contains(&first));
    let ended = keys(&place, &format!("revoke {id}")).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    refused(at, &second).await;
    assert_eq!(keys(&place, "list").await.stdout.lines().count(), 2);
    assert_eq!(keys(&place, "list --all").await.stdout.lines().count(), 3);
    // All of it is in the log, which no statement changes.
    let (_, log) = ask(at, &first, Method::GET, "/api/v1/admin/audit?actor=cli", json!({})).await;
    let actions: Vec<_> = log["data"].as_array().expect("rows").iter().map(|row| &row["action"]).collect();
    assert_eq!(actions, ["revoke_key", "create_key", "create_key"]);
    assert_eq!(log["data"][0]["target"], json!(format!("key:{id}")));
    for sql in ["UPDATE audit_log SET actor = 'cli'", "DELETE FROM audit_log"] {
        assert!(place.tamper(sql).await.is_err(), "{sql}");
    }
    let missing = keys(&place, "revoke nobody").await;
    assert_eq!((missing.code, missing.stderr.trim()), (Some(1), "user-service: there is no key nobody"));
    assert_eq!(keys(&place, "create --name x --scopes fly").await.code, Some(2));
    assert_eq!(service.stop().await.code, Some(0));
    crate::verify_ledger(&place).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_share_keys_and_tokens_and_refuse_within_a_second() {
    let place = Place::postgres().await;
    let admin = made(&place, "create --name admin --scopes admin").await;
    let (one, two) = (PROGRAM.start(&place, &[]).await, PROGRAM.start(&place, &[]).await);
    let (here, there) = (one.address, two.address);
    let body = json!({"name": "n", "scopes": ["tokens:issue", "credits:read", "users:write"]});
    let (_, answer) = ask(here, &admin, Method::POST, "/api/v1/admin/keys", body).await;
    let (key, id) =
        (answer["data"]["key"].as_str().expect("a key"), answer["data"]["key_id"].as_str().expect("an id"));
    assert_eq!(
        ask(there, key, Method::POST, "/api/v1/users/ensure", json!({"auth0_id": "ann"})).await.0,
        200
    );
    // Both issue their first token at once; each accepts the other's.
    let issue = async |at| {
        let body = json!({"user_id": "ann", "scopes": ["credits:read"]});
        let (status, answer) = ask(at, key, Method::POST, "/auth/user-tokens", body).await;
        assert_eq!(status, 200, "{answer}");
        answer["token"].as_str().expect("a token").to_owned()
    };
    let (of_here, of_there) = tokio::join!(issue(here), issue(there));
    let balance = async |at: SocketAddr, token: &str| {
        let request = client().get(format!("http://{at}/api/v1/users/ann/credits/balance"));
        request.bearer_auth(token).send().await.expect("an answer").status().as_u16()
    };
    for token in [&of_here, &of_there] {
        assert_eq!((balance(here, token).await, balance(there, token).await), (200, 200));
    }
    assert_eq!(
        ask(here, &admin, Method::DELETE, &format!("/api/v1/admin/keys/{id}"), json!({})).await.0,
        200
    );
    assert_eq!(
        (status(here, key).await, balance(here, &of_there).await),
        (401, 401),
        "at once where it is revoked"
    );
    refused(there, key).await;
    assert_eq!(balance(there, &of_here).await, 401);
    for service in [one, two] {
        assert_eq!(service.stop().await.code, Some(0));
    }
}
