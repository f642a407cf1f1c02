//! The plans of a file, and what becomes of subscribers when the file changes.

use crate::caller::Caller;
use crate::{PROGRAM, verify_ledger};
use serde_json::{Value, json};
use std::net::SocketAddr;
use testkit::process::{Place, SERVICE_KEY};

either_engine!(a_subscriber_keeps_the_plan_as_it_was);

const FREE: &str = "[plans.free]\nname='Free'\nprice_monthly=0\ncredits=5\nduration_days=30\n";

/// A pro plan with these credits, this feature, this quota.
fn plans(credits: i64, feature: &str, quota: i64) -> String {
    format!(
        "{FREE}[plans.pro]\nname='Pro'\nprice_monthly='19.99'\ncredits={credits}\nfeatures=['{feature}']\n\
         duration_days=30\nfile_quota_bytes={quota}\n"
    )
}

async fn set_pro(to: SocketAddr, user: &str) -> Value {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let put =
        http.put(format!("http://{to}/api/v1/users/{user}/subscription")).header("x-api-key", SERVICE_KEY);
    let answer = put.json(&json!({"plan_type": "pro"})).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    answer.json().await.expect("JSON")
}

async fn a_subscriber_keeps_the_plan_as_it_was(place: Place) {
    let file = place.folder().join("plans.toml");
    let path = file.display().to_string();
    let settings = [("PLANS_FILE", path.as_str())];
    let caller = Caller::new();

    std::fs::write(&file, plans(10, "a", 1_000)).expect("written");
    let service = PROGRAM.start(&place, &settings).await;
    let _ = caller.ensure(service.address, "early").await;
    let begun = set_pro(service.address, "early").await;
    assert_eq!(begun["plan_config"]["price_monthly"], json!(19.99));
    service.kill();

    std::fs::write(&file, plans(99, "b", 2_000)).expect("written");
    let service = PROGRAM.start(&place, &settings).await;
    let _ = caller.ensure(service.address, "late").await;
    let _ = set_pro(service.address, "late").await;
    for (user, credits, feature, quota) in [("early", 10, "a", 1_000), ("late", 99, "b", 2_000)] {
        let get = async |rest: &str| {
            caller.get(service.address, &format!("/api/v1/users/{user}{rest}")).await.expect("an answer").body
        };
        let subscription = get("/subscription").await;
        assert_eq!(subscription["plan_config"]["credits"], json!(credits), "{user}");
        assert_eq!(get("/entitlements").await["data"]["features"], json!([feature]), "{user}");
        assert_eq!(get("/files").await["usage"]["quota"], json!(quota), "{user}");
        let balance = get("/credits/balance").await;
        assert_eq!(balance["data"], json!(1000 + credits), "{user}: killed, but what was acknowledged stays");
    }
    let catalogue = caller.get(service.address, "/api/v1/subscriptions/plans").await.expect("an answer").body;
    assert_eq!(catalogue["plans"]["pro"]["credits"], json!(99));
    assert_eq!(service.stop().await.code, Some(0));
    verify_ledger(&place).await;
}
