//! Changing the books behind the service's back: `verify-ledger` names the first row that was.
//!
//! Every column of a row of each table, by statements; and any byte of the file, by hand. `TAMPER_FLIPS` asks
//! for more of those, `TAMPER_SEED` for those of a failure.

use crate::caller::Caller;
use crate::{PROGRAM, verify_ledger};
use serde_json::json;
use std::net::SocketAddr;
use testkit::process::Place;
use user_service::credits::verify::verify;

/// Two users with every kind of entry that the routes can make, holds in every state, limits and scopes.
async fn keep_books(to: SocketAddr) {
    let caller = Caller::new();
    for user in ["ann", "bob"] {
        caller.ensure(to, user).await;
        let send = async |what: &str, body: serde_json::Value| {
            let path = format!("/api/v1/users/{user}/credits/{what}");
            let key = format!("{user}-{what}-{body}");
            let answer = caller.post(to, &path, &body, Some(&key[..key.len().min(200)])).await;
            let answer = answer.expect("an answer");
            assert!((200..300).contains(&answer.status), "{path}: {}", answer.body);
            answer.body
        };
        let hold = async |amount: i64| {
            let body = json!({"amount": amount, "on_expiry": "capture_ticked", "model_name": "m", "expires_in": 604_800,
                "description": "a stream", "metadata": {"n": amount}});
            send("holds", body).await["data"]["hold_id"].as_str().expect("an id").to_owned()
        };
        let consume = json!({"amount": 250.5, "description": "a call", "metadata": {"model": "m"},
            "usage_record_id": 7});
        let consumed = send("consume", consume).await;
        send("recharge", json!({"amount": 100, "reference_id": format!("pi_{user}")})).await;
        send("refund", json!({"transaction_id": consumed["transaction_id"], "amount": 5})).await;
        let grant = json!({"amount": 10, "priority": 3, "expires_at": "2099-01-01", "reference_id": "promo",
            "scope": {"models": ["m*"]}, "rollover": {"max": 4, "days": 9}});
        send("grants", grant).await;
        let (captured, released) = (hold(7).await, hold(8).await);
        send(&format!("holds/{captured}/tick"), json!({"amount": 3})).await;
        send(&format!("holds/{captured}/capture"), json!({"amount": 5})).await;
        send(&format!("holds/{released}/release"), json!({})).await;
        let open = hold(9).await;
        send(&format!("holds/{open}/tick"), json!({"amount": 2})).await;
        hold(11).await;
        send("adjust", json!({"amount": -1.5, "description": "counted twice"})).await;
        send("adjust", json!({"amount": 2, "description": "a courtesy"})).await;
        let given = send("grants", json!({"amount": 6})).await;
        let grant = given["data"]["transaction_id"].as_str().expect("an id").replace("txn_", "grt_");
        send(&format!("grants/{grant}/void"), json!({})).await;
    }
}

/// The tables of the ledger.
const TABLES: [&str; 7] = [
    "credit_accounts",
    "credit_grants",
    "credit_entries",
    "credit_references",
    "credit_refunds",
    "credit_expiries",
    "credit_holds",
];

/// A row of each that has others before or after it; of holds one that was charged, one that was
/// released and one that is open.
const ROWS: [(&str, &str); 10] = [
    ("credit_accounts", "user_id = 1"),
    ("credit_grants", "user_id = 1 AND seq = 1"),
    ("credit_grants", "user_id = 1 AND seq = 5"),
    ("credit_entries", "user_id = 1 AND seq = 2"),
    ("credit_references", "user_id = 1 AND seq = 3"),
    ("credit_refunds", "user_id = 1"),
    ("credit_expiries", "user_id = 1 AND seq = 1"),
    ("credit_holds", "user_id = 1 AND n = 1"),
    ("credit_holds", "user_id = 1 AND n = 2"),
    ("credit_holds", "user_id = 1 AND n = 3"),
];

/// Ways to change a column, by its type on both engines.
fn changes(kind: &str) -> &'static [&'static str] {
    match kind {
        "integer" | "bigint" => &["COALESCE({c}, 0) + 1000", "NULLIF({c}, {c})"],
        "boolean" => &["NOT {c}"],
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
    for (table, row) in ROWS {
        for (column, kind) in columns(place, table).await {
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
    for table in TABLES {
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
    eprintln!("{found} changes were found");
    assert!(found > 130, "only {found} changes were made");

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

/// What there is to read in the ledger's tables of a file, also by way of their indexes; an error where
/// the engine cannot read it.
fn contents(path: &std::path::Path) -> rusqlite::Result<Vec<String>> {
    let connection = rusqlite::Connection::open(path)?;
    let mut read = Vec::new();
    let mut take = |sql: &str| -> rusqlite::Result<()> {
        let mut select = connection.prepare(sql)?;
        let columns = select.column_count();
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let values = (0..columns).map(|at| row.get_ref(at).map(|value| format!("{value:?}")));
            read.push(format!("{sql}: {:?}", values.collect::<rusqlite::Result<Vec<_>>>()?));
        }
        Ok(())
    };
    for table in TABLES {
        take(&format!("SELECT * FROM {table}"))?;
    }
    take(
        "SELECT user_id, transaction_type, seq FROM credit_entries INDEXED BY credit_entries_rare \
          WHERE transaction_type <> 'consume'",
    )?;
    take("SELECT user_id, n FROM credit_holds INDEXED BY credit_holds_open WHERE status = 'open'")?;
    take("SELECT expires_at FROM credit_holds INDEXED BY credit_holds_ending WHERE status = 'open'")?;
    Ok(read)
}

/// Pages of the file by number, those of the ledger's tables and indexes alone or all of them.
fn pages(path: &std::path::Path, of_ledger: bool) -> (usize, Vec<usize>) {
    let connection = rusqlite::Connection::open(path).expect("the file opens");
    let number = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0).map(|number| number as usize);
    let size = connection.query_row("PRAGMA page_size", [], number).expect("a size");
    let sql = if of_ledger {
        "SELECT pageno FROM dbstat WHERE name LIKE 'credit_%'"
    } else {
        "SELECT pageno FROM dbstat"
    };
    let mut select = connection.prepare(sql).expect("dbstat is built in");
    let pages = select.query_map([], number).expect("pages").collect::<rusqlite::Result<_>>();
    (size, pages.expect("numbers"))
}

/// The same numbers for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % end
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the environment says how much to do, as for the ledger's stories"
)]
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// Flips one byte after the other; gives how many were found and how many changed nothing that can be read.
async fn flip_bytes(place: &Place, of_ledger: bool) -> (usize, usize) {
    let path = place.file();
    let seed = setting("TAMPER_SEED", 1);
    let flips = setting("TAMPER_FLIPS", 200);
    eprintln!("TAMPER_SEED={seed}");
    let (sound, before) = (std::fs::read(&path).expect("the file"), contents(&path).expect("sound"));
    let (size, pages) = pages(&path, of_ledger);
    let (mut random, mut found, mut free) = (Random(seed), 0, 0);
    for _ in 0..flips {
        // Much of a page is free; three flips of four are of a byte that says something.
        let begin = (pages[random.below(pages.len())] - 1) * size;
        let mut at = begin + random.below(size);
        while random.below(4) > 0 && sound[at] == 0 {
            at = begin + random.below(size);
        }
        let mut flipped = sound.clone();
        flipped[at] ^= (random.below(255) + 1) as u8;
        std::fs::write(&path, &flipped).expect("written");
        let verified = verify(&place.location(), None).await;
        let around = String::from_utf8_lossy(&sound[at.saturating_sub(30)..(at + 30).min(sound.len())]);
        let what = || {
            let (page, byte) = (at / size + 1, flipped[at]);
            format!("byte {at} of page {page}, {byte} for {} in {around:?}", sound[at])
        };
        match verified {
            Ok(report) if report.is_sound() => {
                let now = contents(&path).unwrap_or_else(|error| panic!("{} was not found: {error}", what()));
                assert_eq!(now, before, "{} was not found", what());
                free += 1;
            }
            Ok(report) => {
                let fault = report.first_bad.expect("a fault");
                let table = fault.table;
                // Where the key of an account is another, its user has none.
                let named = TABLES.contains(&table) || table == "users" || !of_ledger && table == "database";
                assert!(named, "{}: {fault:?}", what());
                found += 1;
            }
            Err(error) => assert!(!of_ledger && at < size, "{}: {error}", what()),
        }
        for ending in ["db-wal", "db-shm"] {
            let _ = std::fs::remove_file(path.with_extension(ending));
        }
    }
    std::fs::write(&path, &sound).expect("as before");
    (found, free)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_is_found_or_says_nothing() {
    let place = Place::sqlite();
    let service = PROGRAM.start(&place, &[]).await;
    keep_books(service.address).await;
    assert_eq!(service.stop().await.code, Some(0));
    verify_ledger(&place).await;
    let (found, free) = flip_bytes(&place, true).await;
    eprintln!("in the ledger's pages: {found} found, {free} in free space");
    assert!(found * 4 > free, "only {found} were found, {free} changed nothing");
    let (found, free) = flip_bytes(&place, false).await;
    eprintln!("in all pages: {found} found, {free} of other tables or in free space");

    // What the engine itself calls malformed, or no database, is a fault in its words.
    let sound = std::fs::read(place.file()).expect("the file");
    let (size, pages) = pages(&place.file(), true);
    for (at, words) in [(0, "database"), ((pages[0] - 1) * size, "credit_")] {
        let mut flipped = sound.clone();
        flipped[at] ^= 0xff;
        std::fs::write(place.file(), &flipped).expect("written");
        let ended = PROGRAM.run(&place, &["verify-ledger"], &[]).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stdout.contains(&format!("NOT sound: {words}")), "{}", ended.stdout);
    }
}
