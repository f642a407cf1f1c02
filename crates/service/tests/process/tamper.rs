//! Changing the books behind the service's back: `verify-ledger` names the first row that was.

use crate::caller::Caller;
use crate::{PROGRAM, verify_ledger};
use serde_json::json;
use std::net::SocketAddr;
use testkit::process::Place;
use user_service::credits::verify::verify;

/// Two users, and every kind of entry that the routes can make.
async fn keep_books(to: SocketAddr) {
    let caller = Caller::new();
    for user in ["ann", "bob"] {
        caller.ensure(to, user).await;
        let send = async |what: &str, body: serde_json::Value| {
            let path = format!("/api/v1/users/{user}/credits/{what}");
            let answer =
                caller.post(to, &path, &body, Some(&format!("{user}-{what}"))).await.expect("an answer");
            assert_eq!(answer.status, 200, "{path}: {}", answer.body);
            answer.body
        };
        let consume = json!({"amount": 250.5, "description": "a call", "metadata": {"model": "m"},
            "usage_record_id": 7});
        let consumed = send("consume", consume).await;
        send("recharge", json!({"amount": 100, "reference_id": format!("pi_{user}")})).await;
        send("refund", json!({"transaction_id": consumed["transaction_id"], "amount": 5})).await;
        let grant = json!({"amount": 10, "priority": 3, "expires_at": "2099-01-01", "reference_id": "promo"});
        send("grants", grant).await;
    }
}

/// The tables of the ledger, and a row of each that has others before and after it.
const TABLES: [(&str, &str); 6] = [
    ("credit_accounts", "user_id = 1"),
    ("credit_grants", "user_id = 1 AND seq = 1"),
    ("credit_entries", "user_id = 1 AND seq = 2"),
    ("credit_references", "user_id = 1 AND seq = 3"),
    ("credit_refunds", "user_id = 1"),
    ("credit_expiries", "user_id = 1 AND seq = 1"),
];

/// What says nothing about money: a counter of changes, a time of change, and who is deleted.
const FREE: [(&str, &str); 3] =
    [("credit_accounts", "version"), ("credit_accounts", "updated_at"), ("credit_accounts", "closed")];

/// Ways to change a column, by its type on both engines.
fn changes(kind: &str) -> &'static [&'static str] {
    match kind {
        "integer" | "bigint" => &["COALESCE({c}, 0) + 1000"],
        "text" => &["COALESCE({c}, '') || 'x'", "COALESCE({c}, '') || ' '", "NULLIF({c}, {c})"],
        "blob" => &["x'00'", "substr({c}, 1, 31) || x'00'"],
        "bytea" => &["'\\x00'::bytea", "substr({c}, 1, 31) || '\\x00'::bytea"],
        other => panic!("no change for {other}"),
    }
}

async fn columns(place: &Place, table: &str) -> Vec<(String, String)> {
    let sql = if place.is_postgres() {
        format!("SELECT column_name, data_type FROM information_schema.columns WHERE table_name = '{table}'")
    } else {
        format!("SELECT name, type FROM pragma_table_info('{table}')")
    };
    let rows = place.rows(&sql).await;
    rows.into_iter().map(|row| (row[0].clone(), row[1].to_ascii_lowercase())).collect()
}

/// Every statement that changes one column of one row, with its table.
async fn statements(place: &Place) -> Vec<(&'static str, String)> {
    let mut statements = Vec::new();
    for (table, row) in TABLES {
        for (column, kind) in columns(place, table).await {
            if kind == "boolean" || FREE.contains(&(table, column.as_str())) {
                continue;
            }
            for change in changes(&kind) {
                let change = change.replace("{c}", &column);
                let changed = format!("{column} IS DISTINCT FROM {change}");
                let sql = format!("UPDATE {table} SET {column} = {change} WHERE {row} AND {changed}");
                statements.push((table, sql));
            }
        }
        statements.push((table, format!("DELETE FROM {table} WHERE {row}")));
    }
    // Two entries change places: all that they say, but not where they stand.
    let said = "amount, balance_before, balance_after, description, prev_hash, hash";
    let swap = format!(
        "UPDATE credit_entries SET ({said}) = (SELECT {said} FROM credit_entries other \
         WHERE other.user_id = 1 AND other.seq = 5 - credit_entries.seq) WHERE user_id = 1 AND seq IN (2, 3)"
    );
    statements.push(("credit_entries", swap));
    // Spent credits come back, in the grant alone and in the account too.
    let forged = "UPDATE credit_grants SET remaining = amount WHERE user_id = 2 AND seq = 1";
    statements.push(("credit_grants", forged.to_owned()));
    let forged = "UPDATE credit_accounts SET balance = balance + 1, credits_total = credits_total + 1";
    statements.push(("credit_accounts", forged.to_owned()));
    statements
}

either_engine!(every_change_of_the_books_is_found);

async fn every_change_of_the_books_is_found(place: Place) {
    let service = PROGRAM.start(&place, &[]).await;
    keep_books(service.address).await;
    assert_eq!(service.stop().await.code, Some(0));
    for (table, _) in TABLES {
        place.tamper(&format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}")).await.expect("a copy");
    }
    let (mut missed, mut found) = (Vec::new(), 0);
    for (table, sql) in statements(&place).await {
        // What the engine's own constraints refuse needs no finding, nor what changes nothing.
        let Ok(1..) = place.tamper(&sql).await else { continue };
        match verify(&place.location(), None).await.map(|report| report.first_bad) {
            // Where the owner is gone, what it owned may be named first.
            Ok(Some(fault)) if fault.table == table || fault.table == "users" => found += 1,
            other => missed.push(format!("{sql}: {other:?}")),
        }
        place.tamper(&format!("DELETE FROM {table}")).await.expect("emptied");
        place.tamper(&format!("INSERT INTO {table} SELECT * FROM kept_{table}")).await.expect("as before");
    }
    assert!(missed.is_empty(), "{} of {} were not: {missed:#?}", missed.len(), missed.len() + found);
    assert!(found > 60, "only {found} changes were made");

    verify_ledger(&place).await;
    place
        .tamper("UPDATE credit_entries SET amount = amount + 1 WHERE user_id = 1 AND seq = 2")
        .await
        .expect("done");
    let ended = PROGRAM.run(&place, &["verify-ledger"], &[]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.contains("credit_entries txn_1_2"), "{}", ended.stdout);
    let ended = PROGRAM.run(&place, &["verify-ledger", "--user", "bob"], &[]).await;
    assert_eq!(ended.code, Some(0), "the other account is as it was: {ended:?}");
    let ended = PROGRAM.run(&place, &["verify-ledger", "--json"], &[]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).expect("one JSON object");
    assert_eq!(
        (&report["first_bad"]["table"], &report["first_bad"]["row"]),
        (&json!("credit_entries"), &json!("txn_1_2"))
    );
}
