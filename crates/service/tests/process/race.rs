//! Many at once: exactly as many succeed as the balance can pay for, and a user is made once.

use crate::caller::Caller;
use crate::{PROGRAM, verify_ledger};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Instant;
use testkit::process::Place;
use tokio::task::JoinSet;

either_engine!(the_last_credit_is_spent_once, a_user_is_made_once, a_balance_for_k_calls_pays_for_k);

/// A success with the time in which it happened.
struct Spent {
    asked: Instant,
    answered: Instant,
    before: f64,
    after: f64,
}

/// Sends `calls` consumes of one credit at once, in turn to each of the targets.
async fn spend(targets: &[SocketAddr], user: &str, calls: usize) -> Vec<Spent> {
    let caller = Caller::new();
    let path = format!("/api/v1/users/{user}/credits/consume");
    let mut racing = JoinSet::new();
    for call in 0..calls {
        let (caller, path, target) = (caller.clone(), path.clone(), targets[call % targets.len()]);
        racing.spawn(async move {
            let asked = Instant::now();
            let answer = caller.post(target, &path, &json!({"amount": 1}), None).await.expect("an answer");
            (asked, Instant::now(), answer)
        });
    }
    let mut spent = Vec::new();
    for (asked, answered, answer) in racing.join_all().await {
        let data = &answer.body["data"];
        match answer.status {
            200 => spent.push(Spent {
                asked,
                answered,
                before: data["balance_before"].as_f64().expect("a number"),
                after: data["balance_after"].as_f64().expect("a number"),
            }),
            status => {
                assert_eq!(answer.body["error_code"], "InsufficientCreditsException", "{status}");
                assert_eq!(answer.body["message"], "Insufficient credits. Available: 0, Required: 1");
            }
        }
    }
    spent
}

/// One chain from `balance` down to nothing, and never against the order in real time.
fn assert_chain(mut spent: Vec<Spent>, balance: f64) {
    spent.sort_by(|a, b| b.before.total_cmp(&a.before));
    let mut left = balance;
    for one in &spent {
        assert_eq!((one.before, one.after), (left, left - 1.0));
        left = one.after;
    }
    assert_eq!(left, 0.0);
    for (at, earlier) in spent.iter().enumerate() {
        let late = spent[at + 1..].iter().find(|later| later.answered < earlier.asked);
        assert!(late.is_none(), "the {at}th was asked for after a later one was answered");
    }
}

async fn the_last_credit_is_spent_once(place: Place) {
    let service = PROGRAM.start(&place, &[("WELCOME_CREDITS", "1")]).await;
    Caller::new().ensure(service.address, "one").await;
    let spent = spend(&[service.address], "one", 200).await;
    assert_eq!(spent.len(), 1);
    assert_chain(spent, 1.0);
    assert_eq!(Caller::new().balance(service.address, "one").await, 0.0);
    assert_eq!(service.stop().await.code, Some(0));
    verify_ledger(&place).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_spend_one_account_together() {
    let place = Place::postgres().await;
    let a = PROGRAM.start(&place, &[("WELCOME_CREDITS", "120")]).await;
    let b = PROGRAM.start(&place, &[("WELCOME_CREDITS", "120")]).await;
    Caller::new().ensure(a.address, "shared").await;
    let spent = spend(&[a.address, b.address], "shared", 300).await;
    assert_eq!(spent.len(), 120);
    assert_chain(spent, 120.0);
    verify_ledger(&place).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_on_one_process_is_read_on_the_other() {
    let place = Place::postgres().await;
    let a = PROGRAM.start(&place, &[]).await;
    let b = PROGRAM.start(&place, &[]).await;
    let caller = Caller::new();
    caller.ensure(a.address, "reader").await;
    assert_eq!(caller.balance(b.address, "reader").await, 1000.0);
    for round in 0..60 {
        let (here, there) = if round % 3 == 0 { (&b, &a) } else { (&a, &b) };
        let path = "/api/v1/users/reader/credits/consume";
        let answer = caller.post(here.address, path, &json!({"amount": 0.5}), None).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
        let read = caller.balance(there.address, "reader").await;
        assert_eq!(answer.body["balance"].as_f64(), Some(read), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_count_the_messages_of_one_session() {
    let place = Place::postgres().await;
    let a = PROGRAM.start(&place, &[]).await;
    let b = PROGRAM.start(&place, &[]).await;
    let caller = Caller::new();
    caller.ensure(a.address, "talker").await;
    let made =
        caller.post(a.address, "/api/v1/users/talker/sessions", &json!({}), None).await.expect("an answer");
    let path = format!("/api/v1/sessions/{}", made.body["session_id"].as_str().expect("an id"));
    let mut racing = JoinSet::new();
    for call in 0..200_usize {
        let (caller, path) = (caller.clone(), format!("{path}/messages"));
        let target = [a.address, b.address][call % 2];
        let body = json!({"role": "user", "content": call.to_string(), "tokens_used": 2, "cost_usd": 0.5});
        racing.spawn(async move { caller.post(target, &path, &body, None).await.expect("an answer").status });
    }
    assert!(racing.join_all().await.iter().all(|status| *status == 200));
    let mut orders = Vec::new();
    for process in [&a, &b] {
        let row = caller.get(process.address, &path).await.expect("an answer").body["data"].clone();
        let totals = ["message_count", "total_tokens", "total_cost"].map(|name| row[name].clone());
        assert_eq!(totals, [json!(200), json!(400), json!(100)]);
        let list =
            caller.get(process.address, &format!("{path}/messages?limit=1000")).await.expect("an answer");
        orders.push(list.body["data"].as_array().expect("rows").clone());
    }
    assert_eq!((orders[0].len(), &orders[0]), (200, &orders[1]), "both see the same order");
    // Numbered without gaps.
    assert_eq!(
        place.value("SELECT MIN(seq) || '-' || MAX(seq) || '-' || COUNT(DISTINCT seq) FROM messages").await,
        "1-200-200"
    );
}

/// Makes one user a hundred times at once.
async fn ensure_together(targets: &[SocketAddr], user: &'static str) {
    let caller = Caller::new();
    let mut racing = JoinSet::new();
    for call in 0..100 {
        let (caller, target) = (caller.clone(), targets[call % targets.len()]);
        racing.spawn(async move { caller.ensure(target, user).await });
    }
    let answers: Vec<Value> = racing.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer["created"] == true).count(), 1, "made once");
    for answer in &answers {
        assert_eq!(answer["user_id"], answers[0]["user_id"], "one user");
        assert_eq!(answer["credits"], json!(1000), "{answer}");
        assert_eq!(answer["credits_total"], json!(1000), "{answer}");
    }
}

async fn assert_one_user(place: &Place) {
    for table in ["users", "credit_accounts", "credit_grants", "credit_entries"] {
        assert_eq!(place.value(&format!("SELECT COUNT(*) FROM {table}")).await, "1", "{table}");
    }
    verify_ledger(place).await;
}

async fn a_user_is_made_once(place: Place) {
    let service = PROGRAM.start(&place, &[]).await;
    ensure_together(&[service.address], "fresh").await;
    assert_eq!(service.stop().await.code, Some(0));
    assert_one_user(&place).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_make_a_user_once() {
    let place = Place::postgres().await;
    let a = PROGRAM.start(&place, &[]).await;
    let b = PROGRAM.start(&place, &[]).await;
    ensure_together(&[a.address, b.address], "fresh").await;
    assert_one_user(&place).await;
}

/// A balance for 40 calls of 25.5 credits.
const FOR_FORTY: (&str, &str) = ("WELCOME_CREDITS", "1020");

/// 64 clients charge the same account for two calls each, in turn to each of the targets; says how many were paid.
async fn charge_together(targets: &[SocketAddr], user: &str) -> usize {
    let path = format!("/api/v1/users/{user}/charges");
    let mut racing = JoinSet::new();
    for client in 0..64 {
        let (caller, path, target) = (Caller::without_reuse(), path.clone(), targets[client % targets.len()]);
        racing.spawn(async move {
            let mut paid = 0;
            for call in 0..2 {
                let body = json!({"event_type": "chat", "model_name": "gpt-4", "prompt_tokens": 800, "completion_tokens": 450,
                    "event_id": format!("{client}-{call}")});
                let answer = caller.post(target, &path, &body, None).await.expect("an answer");
                match answer.status {
                    200 => {
                        assert_eq!(answer.body["data"]["credits"], 25.5);
                        paid += 1;
                    }
                    status => {
                        assert_eq!((status, &answer.body["error_code"]), (402, &json!("InsufficientCreditsException")));
                        let details = &answer.body["error_details"];
                        assert_eq!((&details["available"], &details["required"]), (&json!(0), &json!(25.5)));
                    }
                }
            }
            paid
        });
    }
    racing.join_all().await.into_iter().sum()
}

/// Forty calls are recorded and paid, wherever one looks.
async fn assert_forty(place: &Place, target: SocketAddr, user: &str) {
    let caller = Caller::new();
    assert_eq!(caller.balance(target, user).await, 0.0);
    let stats =
        caller.get(target, &format!("/api/v1/users/{user}/usage/stats")).await.expect("an answer").body;
    assert_eq!(stats["data"]["total_records"], 40);
    assert_eq!(stats["data"]["total_credits_charged"], 1020);
    for (sql, wanted) in [
        ("SELECT COUNT(*) FROM usage_records", "40"),
        ("SELECT COUNT(*) FROM credit_entries WHERE transaction_type = 'consume'", "40"),
        (
            "SELECT COUNT(DISTINCT usage_record_id) FROM credit_entries WHERE transaction_type = 'consume'",
            "40",
        ),
    ] {
        assert_eq!(place.value(sql).await, wanted, "{sql}");
    }
    verify_ledger(place).await;
}

async fn a_balance_for_k_calls_pays_for_k(place: Place) {
    let service = PROGRAM.start(&place, &[FOR_FORTY]).await;
    Caller::new().ensure(service.address, "one").await;
    assert_eq!(charge_together(&[service.address], "one").await, 40);
    assert_forty(&place, service.address, "one").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_pay_for_k_calls_together() {
    let place = Place::postgres().await;
    let a = PROGRAM.start(&place, &[FOR_FORTY]).await;
    let b = PROGRAM.start(&place, &[FOR_FORTY]).await;
    Caller::new().ensure(a.address, "shared").await;
    assert_eq!(charge_together(&[a.address, b.address], "shared").await, 40);
    assert_forty(&place, b.address, "shared").await;
}
