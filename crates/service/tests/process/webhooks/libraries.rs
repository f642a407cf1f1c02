//! The official libraries verify what is sent, and nothing else.

use super::{HASTE, attempted, register, subscribe};
use crate::PROGRAM;
use crate::caller::Caller;
use serde_json::json;
use std::time::{Duration, Instant};
use testkit::process::Place;
use testkit::standard_webhooks::{Library, Receiver};

either_engine!(both_libraries_verify_every_delivery, a_secret_can_be_rotated_without_a_gap);

const LIMIT: Duration = Duration::from_secs(30);

async fn both_libraries_verify_every_delivery(place: Place) {
    let service = PROGRAM.start(&place, &HASTE).await;
    let (to, caller) = (service.address, Caller::new());
    let mut python = Receiver::start(Library::Python).await;
    let mut javascript = Receiver::start(Library::JavaScript).await;
    subscribe(to, &mut python, "/all", &["*"]).await;
    subscribe(to, &mut javascript, "/all", &["*"]).await;

    // Whoever verifies with another secret refuses, so that it means something that nobody else does.
    let (other, _) = register(to, &javascript.url("/other"), &["user.created"]).await;
    javascript.trust("/other", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").await;

    let user = "auth0|Zoë".replace('ë', "e");
    caller.ensure(to, &user).await;
    let path = format!("/api/v1/users/{user}");
    let spent = json!({"amount": "0.000001", "description": "“quotes”, ünïcode, \\ and \u{1f4b3}"});
    let usage =
        json!({"event_type": "call", "model_name": "gpt-4", "tokens_used": 7, "metadata": {"é": "\u{2028}"}});
    for (rest, body) in
        [("/credits/consume", spent), ("/usage", usage), ("/sessions", json!({"title": "Ünï"}))]
    {
        let answer = caller.post(to, &format!("{path}{rest}"), &body, None).await.expect("an answer");
        assert_eq!(answer.status, 200, "{rest}: {}", answer.body);
    }
    let wanted = ["credit.consumed", "credit.granted", "session.created", "usage.recorded", "user.created"];
    for receiver in [&python, &javascript] {
        let types = |all: &[testkit::standard_webhooks::Received]| {
            let mut types: Vec<String> =
                all.iter().map(|one| one.payload["type"].as_str().unwrap_or_default().to_owned()).collect();
            types.sort();
            types
        };
        receiver.until(LIMIT, "each happening is told", |all| types(all).len() >= wanted.len()).await;
        assert_eq!(types(&receiver.received()), wanted);
    }
    // Both got the same bytes under the same ids.
    let told = |receiver: &Receiver| {
        let mut told: Vec<_> = receiver.received().into_iter().map(|one| (one.id, one.body)).collect();
        told.sort();
        told
    };
    assert_eq!(told(&python), told(&javascript));

    let told = attempted(to, &other).await;
    assert_eq!(
        (&told["status"], &told["attempts"][0]["status_code"]),
        (&json!("pending"), &json!(401)),
        "{told}"
    );
    assert_eq!(python.refused(), Vec::<String>::new());
    assert!(javascript.refused().iter().all(|line| line.contains("/other")), "{:?}", javascript.refused());
    assert!(!javascript.refused().is_empty(), "another secret verifies nothing");
    assert_eq!(service.stop().await.code, Some(0));
}

async fn a_secret_can_be_rotated_without_a_gap(place: Place) {
    let service = PROGRAM.start(&place, &HASTE).await;
    let (to, caller) = (service.address, Caller::new());
    let mut old = Receiver::start(Library::Python).await;
    let endpoint = subscribe(to, &mut old, "/hook", &["credit.*"]).await;
    caller.ensure(to, "one").await;
    old.until(LIMIT, "the welcome", |all| all.len() == 1).await;

    let path = format!("/api/v1/webhooks/endpoints/{endpoint}/rotate-secret");
    let answer = caller.post(to, &path, &json!({"overlap_seconds": 3600}), None).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let secret =
        answer.body["data"]["secret"].as_str().unwrap_or_else(|| panic!("{}", answer.body)).to_owned();
    let spend = || async {
        let path = "/api/v1/users/one/credits/consume";
        let answer = caller.post(to, path, &json!({"amount": 1}), None).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
    };
    // Soon there are two signatures, so whoever verifies with the old one still does, and with the new one does already.
    let until = Instant::now() + LIMIT;
    while old.received().iter().all(|one| one.signatures < 2) {
        assert!(Instant::now() < until, "the new secret does not sign");
        let before = old.received().len();
        spend().await;
        old.until(LIMIT, "the old secret still verifies", |all| all.len() > before).await;
    }
    old.trust("/hook", &secret).await;
    let before = old.received().len();
    spend().await;
    old.until(LIMIT, "the new secret verifies", |all| all.len() > before).await;
    assert_eq!(old.refused(), Vec::<String>::new());
    assert_eq!(service.stop().await.code, Some(0));
}
