//! §1: pages of lists.

use crate::support::column;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use testkit::{Actor, TestApp, both_engines};

/// Gives alice 25 usage records, 25 transactions and 25 grants; some share one instant.
async fn filled(app: &TestApp) {
    app.alice.ensure().await;
    for n in 0..24_u64 {
        if n % 3 == 0 {
            app.advance(std::time::Duration::from_secs(1));
        }
        let _ = app.backend.post(&app.alice.own("/credits/grants"), json!({"amount": n + 1})).await.ok();
        let _ = app.alice.post(&app.alice.own("/usage"), json!({"event_type": "n"})).await.ok();
    }
    let _ = app
        .alice
        .post(&app.alice.own("/usage"), json!({"event_type": "n", "created_at": "2024-01-01"}))
        .await
        .ok();
}

const LISTS: [(&str, &str); 3] =
    [("/usage", "id"), ("/credits/transactions", "transaction_id"), ("/credits/grants", "grant_id")];

/// Follows the cursor from the first page to the last.
async fn follow(actor: &Actor, path: &str, key: &str, limit: usize) -> Vec<Value> {
    let (mut keys, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = actor.get(&format!("{path}?limit={limit}{cursor}")).await.ok();
        let rows = column(&page["data"], key);
        let pagination = &page["pagination"];
        assert_eq!(pagination["returned"], rows.len());
        assert_eq!(pagination["limit"], limit);
        assert_eq!(pagination["has_more"], pagination["next_cursor"].is_string());
        assert!(!rows.is_empty(), "a page that a cursor points to has rows");
        keys.extend(rows);
        match pagination["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return keys,
        }
    }
}

both_engines! {
    async fn a_page_ends_before_its_rows_weigh_too_much(app: TestApp) {
        app.alice.ensure().await;
        let large = json!({"x": "y".repeat(60_000)});
        for n in 0..80 {
            let record = json!({"event_type": "heavy", "request_data": large, "response_data": large, "created_at": format!("2025-07-2{}", n % 6)});
            let _ = app.alice.post(&app.alice.own("/usage"), record).await.ok();
            let _ = app.alice.post(&app.alice.own("/credits/consume"), json!({"amount": 1, "metadata": large})).await.ok();
        }
        for (list, key, rows, page) in [
            ("/usage", "id", 80, 34), ("/usage?event_type=heavy", "id", 80, 34), ("/credits/transactions", "transaction_id", 81, 69),
        ] {
            let path = app.alice.own(list);
            let join = if list.contains('?') { '&' } else { '?' };
            let first = app.alice.get(&format!("{path}{join}limit=1000")).await.ok();
            assert_eq!((&first["pagination"]["returned"], &first["pagination"]["has_more"]), (&json!(page), &json!(true)), "{list}");
            let mut keys = column(&first["data"], key);
            let mut next = first["pagination"]["next_cursor"].clone();
            while let Some(cursor) = next.as_str() {
                let more = app.alice.get(&format!("{path}{join}limit=1000&cursor={cursor}")).await.ok();
                keys.extend(column(&more["data"], key));
                next = more["pagination"]["next_cursor"].clone();
            }
            assert_eq!(keys.iter().map(Value::to_string).collect::<BTreeSet<_>>().len(), rows, "{list}");
            assert_eq!(keys.len(), rows, "{list}");
        }
        // An offset within an hour, whole or ragged.
        for query in ["event_type=heavy", "event_type=heavy&start_date=2025-07-20T00:00:00.000000Z"] {
            let by_offset = app.alice.get(&app.alice.own(&format!("/usage?{query}&limit=5&offset=77"))).await.data();
            let all: Vec<Value> = column(&by_offset, "created_at");
            assert_eq!(all, vec![json!("2025-07-20T00:00:00.000000Z"); 3], "{query}");
        }
    }

    async fn a_cursor_walks_the_whole_list_without_gaps_or_repeats(app: TestApp) {
        filled(&app).await;
        for (list, key) in LISTS {
            let path = app.alice.own(list);
            let all = column(&app.alice.get(&format!("{path}?limit=1000")).await.data(), key);
            assert_eq!(all.len(), 25, "{list}");
            assert_eq!(all.iter().map(Value::to_string).collect::<BTreeSet<_>>().len(), 25, "{list}");
            for limit in [1, 4, 5, 24, 25, 26] {
                assert_eq!(follow(&app.alice, &path, key, limit).await, all, "{list} by {limit}");
            }
        }
    }

    async fn a_cursor_is_not_moved_by_what_is_added_meanwhile(app: TestApp) {
        filled(&app).await;
        for (list, key) in LISTS {
            let path = app.alice.own(list);
            let all = column(&app.alice.get(&format!("{path}?limit=25")).await.data(), key);
            let first = app.alice.get(&format!("{path}?limit=10")).await.ok();
            let _ = app.backend.post(&app.alice.own("/credits/grants"), json!({"amount": 1})).await.ok();
            let _ = app.alice.post(&app.alice.own("/usage"), json!({"event_type": "n"})).await.ok();
            let cursor = first["pagination"]["next_cursor"].as_str().expect("more rows");
            let second = app.alice.get(&format!("{path}?limit=10&cursor={cursor}")).await.data();
            assert_eq!(column(&second, key), all[10..20], "{list}");
        }
    }

    async fn an_offset_passes_rows_over(app: TestApp) {
        filled(&app).await;
        for (list, key) in LISTS {
            let path = app.alice.own(list);
            let all = column(&app.alice.get(&path).await.data(), key);
            for (limit, offset) in [(10, 0), (10, 10), (10, 20), (10, 25), (1000, 24), (1, 1_000_000)] {
                let page = app.alice.get(&format!("{path}?limit={limit}&offset={offset}")).await.ok();
                let wanted: Vec<Value> = all.iter().skip(offset).take(limit).cloned().collect();
                assert_eq!(column(&page["data"], key), wanted, "{list} {limit} {offset}");
                assert_eq!(page["pagination"]["offset"], offset);
                assert_eq!(page["pagination"]["has_more"], offset + limit < 25, "{list} {limit} {offset}");
            }
        }
    }

    async fn bounds_of_pages_are_refused_past_their_edge(app: TestApp) {
        app.alice.ensure().await;
        for (list, _) in LISTS {
            let path = app.alice.own(list);
            for good in ["limit=1", "limit=1000", "offset=0", "limit=050"] {
                assert_eq!(app.alice.get(&format!("{path}?{good}")).await.status, 200, "{list}?{good}");
            }
            for (bad, field) in [
                ("limit=0", "limit"), ("limit=1001", "limit"), ("limit=-1", "limit"), ("limit=ten", "limit"), ("limit=", "limit"),
                ("limit=1.5", "limit"), ("limit=99999999999999999999", "limit"), ("offset=-1", "offset"), ("offset=x", "offset"),
                ("offset=1000001", "offset"), ("cursor=x", "cursor"), ("cursor=", "cursor"), ("cursor=1_", "cursor"),
                ("cursor=-1_1", "cursor"), ("cursor=1_2_3", "cursor"), ("cursor=99999999999999999999_1", "cursor"), ("cursor=5_5&offset=5", "cursor"),
            ] {
                app.alice.get(&format!("{path}?{bad}")).await.refuses_field(&["query", field], "must");
            }
        }
    }
}
