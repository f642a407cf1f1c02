//! The service verifies its own ledger: an admin's request and the metric tell what was changed behind its back.

use crate::PROGRAM;
use crate::caller::Caller;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use testkit::actors;
use testkit::process::{JWT_SECRET, Place, Running};

either_engine!(a_changed_row_is_named_while_the_service_runs);

/// Sends a request as an admin, who is a user with a role.
async fn admin(service: &Running, ask: bool) -> Value {
    let now = kernel::Clock::default().now();
    let own = json!({"sub": "root", "app_metadata": {"role": "admin"}});
    let token = actors::sign(&actors::claims(&own, now), JWT_SECRET);
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let url = service.url("/api/v1/admin/ledger/verify");
    let request = if ask { http.post(url) } else { http.get(url) };
    let answer = request.bearer_auth(token).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    answer.json::<Value>().await.expect("JSON")["data"].take()
}

/// Has the whole ledger verified, and waits for what is found.
async fn verified(service: &Running) -> Value {
    let _ = admin(service, true).await;
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let view = admin(service, false).await;
        if view["running_since"].is_null() {
            return view["last"].clone();
        }
        assert!(Instant::now() < until, "the verification does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn sound(service: &Running) -> Option<String> {
    let text = reqwest::get(service.url("/metrics")).await.expect("an answer").text().await.expect("a text");
    let line = text.lines().find(|line| line.starts_with("ledger_sound"))?;
    line.split(' ').nth(1).map(str::to_owned)
}

async fn a_changed_row_is_named_while_the_service_runs(place: Place) {
    let service = PROGRAM.start(&place, &[("VERIFY_LEDGER_HOURS", "0")]).await;
    let caller = Caller::new();
    for user in ["ann", "bob"] {
        caller.ensure(service.address, user).await;
        let path = format!("/api/v1/users/{user}/credits/holds");
        let made = caller.post(service.address, &path, &json!({"amount": 5}), None).await.expect("an answer");
        assert_eq!(made.status, 200, "{}", made.body);
    }
    let found = verified(&service).await;
    assert_eq!(
        (&found["sound"], &found["accounts"], &found["first_bad"]),
        (&json!(true), &json!(2), &Value::Null)
    );
    assert_eq!(sound(&service).await.as_deref(), Some("1"));
    let row = caller.ensure(service.address, "bob").await["user_id"].clone();
    let sql = format!("UPDATE credit_holds SET metadata = '{{\"a\":1}}' WHERE user_id = {row}");
    assert_eq!(place.tamper(&sql).await, Ok(1));
    let found = verified(&service).await;
    assert_eq!(found["sound"], false);
    assert_eq!(
        (&found["first_bad"]["table"], &found["first_bad"]["row"]),
        (&json!("credit_holds"), &json!(format!("hld_{row}_1"))),
        "{found}"
    );
    assert_eq!(sound(&service).await.as_deref(), Some("0"));
    // The service goes on: it is for people to decide what to do.
    assert_eq!(caller.balance(service.address, "ann").await, 995.0);
    assert_eq!(service.stop().await.code, Some(0));
}
