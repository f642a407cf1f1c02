//! A client that tries again until it is answered, behind a network that loses answers.

use crate::caller::Caller;
use crate::{PROGRAM, verify_ledger};
use serde_json::{Value, json};
use std::net::SocketAddr;
use testkit::process::Place;
use testkit::proxy::Proxy;
use tokio::task::JoinSet;

either_engine!(a_retrying_client_ends_with_the_loss_free_totals);

const USERS: [&str; 3] = ["ann", "bob", "eve"];
/// Requests per client; one client per user.
const REQUESTS: usize = 60;
/// How often a client tries again: with 30 % lost, never reached.
const TRIES: usize = 60;

async fn a_retrying_client_ends_with_the_loss_free_totals(place: Place) {
    let service = PROGRAM.start(&place, &[]).await;
    let proxy = Proxy::start(service.address, 30, 0x5eed).await;
    let lossy = run(proxy.address, service.address).await;
    assert!(proxy.cut() > 50, "only {} connections were cut", proxy.cut());
    drop(proxy);
    assert_eq!(service.stop().await.code, Some(0));
    verify_ledger(&place).await;

    // The loss-free run is compared across engines too: it is always SQLite's.
    let calm = Place::sqlite();
    let service = PROGRAM.start(&calm, &[]).await;
    assert_eq!(lossy, run(service.address, service.address).await);
}

/// Every client's requests by way of `to`, then the totals as `at` tells them.
async fn run(to: SocketAddr, at: SocketAddr) -> Vec<Value> {
    let mut clients = JoinSet::new();
    for user in USERS {
        clients.spawn(async move {
            let caller = Caller::without_reuse();
            let ensure = json!({"auth0_id": user, "name": user, "email": format!("{user}@example.com")});
            persist(&caller, to, "/api/v1/users/ensure", &ensure, None).await;
            for number in 0..REQUESTS {
                request(&caller, to, user, number).await;
            }
        });
    }
    clients.join_all().await;
    let caller = Caller::new();
    let mut totals = Vec::new();
    for user in USERS {
        let stats = caller.get(at, &format!("/api/v1/users/{user}/usage/stats")).await.expect("an answer");
        let list = format!("/api/v1/users/{user}/credits/transactions?limit=1000");
        let transactions = caller.get(at, &list).await.expect("an answer").body;
        let rows = transactions["data"].as_array().expect("rows").iter();
        let mut stats = stats.body["data"].clone();
        // The range is of the run's own times.
        stats.as_object_mut().expect("an object").remove("date_range");
        totals.push(json!({
            "balance": caller.balance(at, user).await,
            "stats": stats,
            "transactions": rows.map(|row| json!([row["transaction_type"], row["amount"], row["description"],
                row["balance_after"]])).collect::<Vec<_>>(),
        }));
    }
    totals
}

/// One request of the five kinds that can be sent again.
async fn request(caller: &Caller, to: SocketAddr, user: &str, number: usize) {
    let key = format!("{user}-{number}");
    let path = |what: &str| format!("/api/v1/users/{user}/{what}");
    let usage = json!({"event_type": "call", "model_name": "m", "cost_usd": "0.000000015", "credits_charged": 0.1,
        "prompt_tokens": number, "event_id": key, "user_id": user});
    let (path, body, key) = match number % 5 {
        0 => (path("credits/consume"), json!({"amount": "1.000001", "description": key}), Some(&key)),
        1 => (path("usage"), usage, None),
        2 => {
            let body = json!({"amount": "0.5", "description": key, "reference_id": format!("pi_{key}")});
            (path("credits/recharge"), body, None)
        }
        3 => {
            let mut other = usage.clone();
            other["event_id"] = json!(format!("{key}-second"));
            ("/api/v1/usage/batch".to_owned(), json!({"records": [usage, other]}), None)
        }
        _ => (path("usage"), json!({"event_type": "keyed", "tokens_used": 7}), Some(&key)),
    };
    persist(caller, to, &path, &body, key.map(String::as_str)).await;
}

/// Sends it until it is answered.
async fn persist(caller: &Caller, to: SocketAddr, path: &str, body: &Value, key: Option<&str>) {
    for _ in 0..TRIES {
        if let Ok(answer) = caller.post(to, path, body, key).await {
            assert_eq!(answer.status, 200, "{path}: {}", answer.body);
            return;
        }
    }
    panic!("{path} was never answered");
}
