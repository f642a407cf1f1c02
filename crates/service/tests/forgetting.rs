//! Idempotency keys are forgotten when they are past their time, and not before.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use kernel::{Clock, Timestamp};
use std::time::Duration;
use tower::ServiceExt as _;
use user_service::boot::{self, Service};
use user_service::config::{Config, Origin};
use user_service::credits::sweeper;

const KEY: &str = "usk_a_key_for_this_test_alone";

async fn ensure(service: &Service, user: &str) -> (StatusCode, bool) {
    let request = Request::post("/api/v1/users/ensure")
        .header("x-api-key", KEY)
        .header("content-type", "application/json")
        .header("idempotency-key", "k")
        .body(Body::from(format!(r#"{{"auth0_id":"{user}"}}"#)))
        .expect("a request");
    let answer = service.router.clone().oneshot(request).await.expect("an answer");
    (answer.status(), answer.headers().contains_key("idempotent-replayed"))
}

#[tokio::test]
async fn a_key_is_kept_for_its_days_and_then_forgotten() {
    let folder = std::env::temp_dir().join(format!("user-service-forgetting-{}", std::process::id()));
    let vars = |key: &str| match key {
        "DATA_DIR" => Some((folder.display().to_string(), Origin::Environment)),
        "USER_SERVICE_API_KEY" => Some((KEY.to_owned(), Origin::Environment)),
        _ => None,
    };
    let clock = Clock::manual(Timestamp::from_micros(1_700_000_000_000_000));
    let (config, _) = Config::from_vars(vars).expect("settings");
    let service = boot::build(config, clock.clone(), None).await.expect("a service");

    assert_eq!(ensure(&service, "a").await, (StatusCode::OK, false));
    clock.advance(Duration::from_secs(30 * 86_400));
    sweeper::forget_keys(&service.app).await.expect("swept");
    assert_eq!(ensure(&service, "a").await, (StatusCode::OK, true), "30 days are kept whole");
    assert_eq!(ensure(&service, "b").await, (StatusCode::UNPROCESSABLE_ENTITY, false));
    clock.advance(Duration::from_micros(1));
    sweeper::forget_keys(&service.app).await.expect("swept");
    assert_eq!(ensure(&service, "b").await, (StatusCode::OK, false), "the key is free again");

    drop(service);
    let _ = std::fs::remove_dir_all(&folder);
}
