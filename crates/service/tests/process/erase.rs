//! A process that dies while it erases somebody: the ledger is sound at any moment, and the next one goes on.

use crate::caller::Caller;
use crate::{PROGRAM, verify_ledger};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use testkit::process::{Place, SERVICE_KEY};

either_engine!(an_erasure_outlives_its_process);

const CANARY: &str = "kanarienvogel7";

async fn an_erasure_outlives_its_process(place: Place) {
    for (n, delay) in [15_u64, 60, 180].into_iter().enumerate() {
        let service = PROGRAM.start(&place, &[("WELCOME_CREDITS", "5000")]).await;
        let (caller, user) = (Caller::new(), format!("{CANARY}{n}"));
        let ensure = json!({"auth0_id": user, "name": CANARY});
        caller.post(service.address, "/api/v1/users/ensure", &ensure, None).await.expect("an answer");
        let charges: Vec<Value> = (0..1000)
            .map(|n| json!({"user_id": user, "event_type": "x", "credits": 1, "tags": [format!("{CANARY}{n}")]}))
            .collect();
        let charges = json!({ "charges": charges });
        let charged = caller.post(service.address, "/api/v1/charges/batch", &charges, Some(&user)).await;
        assert_eq!(charged.expect("an answer").body["data"]["charged"], 1000);
        let url = service.url(&format!("/api/v1/users/{user}?erase=true"));
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let erasing = tokio::spawn(client.delete(url).header("x-api-key", SERVICE_KEY).send());
        tokio::time::sleep(Duration::from_millis(delay)).await;
        service.kill();
        let _ = erasing.await;
        verify_ledger(&place).await;
    }
    let service = PROGRAM.start(&place, &[]).await;
    let until = Instant::now() + Duration::from_secs(30);
    while place.value("SELECT count(*) FROM erasures WHERE status <> 'done'").await != "0" {
        assert!(Instant::now() < until, "the erasures are finished");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let erased: usize = place.value("SELECT count(*) FROM erasures").await.parse().expect("a number");
    assert!(erased >= 1, "one at least was begun");
    assert_eq!(service.stop().await.code, Some(0));
    verify_ledger(&place).await;
    // Of those that were begun, no tag and no name is left.
    for (table, column) in [("credit_entries", "basis"), ("users", "auth0_id"), ("idempotency_keys", "key")] {
        let sql = format!(
            "SELECT count(*) FROM {table} WHERE {column} LIKE '%{CANARY}%' {}",
            match table {
                "credit_entries" => "AND user_id IN (SELECT user_id FROM erasures)",
                "users" => "AND id IN (SELECT user_id FROM erasures)",
                _ => "AND user_id IN (SELECT user_id FROM erasures)",
            }
        );
        assert_eq!(place.value(&sql).await, "0", "{table}.{column}");
    }
}
