//! Two processes on one database: whom one locks out is out of the other within a second.

use crate::PROGRAM;
use crate::caller::Caller;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use testkit::actors;
use testkit::process::{JWT_SECRET, Place, Running, SERVICE_KEY};

/// How long the other process may take, and what a busy machine takes beside.
const PROMPT: Duration = Duration::from_secs(3);

async fn ask(service: &Running, method: reqwest::Method, path: &str, claims: &Value) -> (u16, Value) {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let token = actors::sign(&actors::claims(claims, kernel::Clock::default().now()), JWT_SECRET);
    let request = client.request(method, service.url(path)).bearer_auth(token);
    let answer = request.json(&json!({})).send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspension_is_everywhere_within_a_second() {
    let place = Place::postgres().await;
    let (one, other) = (PROGRAM.start(&place, &[]).await, PROGRAM.start(&place, &[]).await);
    Caller::new().ensure(one.address, "ann").await;
    let (ann, admin) = (json!({"sub": "ann"}), json!({"sub": "root", "app_metadata": {"role": "admin"}}));
    let me = async || ask(&other, reqwest::Method::GET, "/api/v1/users/me", &ann).await.0;
    assert_eq!(me().await, 200);
    for (path, wanted) in [("suspend", 403), ("reactivate", 200)] {
        let path = format!("/api/v1/users/ann/{path}");
        assert_eq!(ask(&one, reqwest::Method::POST, &path, &admin).await.0, 200);
        let began = Instant::now();
        while me().await != wanted {
            assert!(began.elapsed() < PROMPT, "{path}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    // An erased user that comes back is a stranger in the other process, too.
    assert_eq!(ask(&other, reqwest::Method::GET, "/api/v1/users/me", &ann).await.1["credits"], 1000);
    let erase = reqwest::Client::builder().no_proxy().build().expect("a client");
    let erase = erase.delete(one.url("/api/v1/users/ann?erase=true")).header("x-api-key", SERVICE_KEY);
    assert_eq!(erase.send().await.expect("an answer").status(), 200);
    Caller::new().ensure(one.address, "ann").await;
    let spent = async || {
        let consume = json!({"amount": 1});
        let asked =
            Caller::new().post(other.address, "/api/v1/users/ann/credits/consume", &consume, None).await;
        asked.expect("an answer").status
    };
    let began = Instant::now();
    while spent().await != 200 {
        assert!(began.elapsed() < PROMPT, "the id names another row now");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(one.stop().await.code, Some(0));
    assert_eq!(other.stop().await.code, Some(0));
    crate::verify_ledger(&place).await;
}
