//! §5: statistics, held against a naive recount.

use crate::support::{Dice, envelope, masked};
use kernel::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use testkit::{TestApp, both_engines};

/// One record, as the recount sees it.
struct Record {
    at: i64,
    event_type: String,
    model: Option<String>,
    provider: Option<String>,
    micro: i128,
    nano: i128,
    tokens: i64,
}

fn made(dice: &mut Dice, from: i64, to: i64) -> Record {
    const HOUR: i64 = 3_600_000_000;
    let mut at =
        from + i64::try_from(dice.below(u64::try_from(to - from).expect("a span"))).expect("an instant");
    // Many records stand exactly on the borders of hours, where roll-ups are cut.
    match dice.below(4) {
        0 => at -= at % HOUR,
        1 => at = at - at % HOUR + HOUR - 1,
        _ => {}
    }
    Record {
        at,
        event_type: (*dice.pick(&["ai_chat", "api_call", "embed"])).to_owned(),
        model: dice.pick(&[None, Some("gpt-4"), Some("gpt-3.5-turbo")]).map(str::to_owned),
        provider: dice.pick(&[None, Some("openai"), Some("anthropic")]).map(str::to_owned),
        micro: dice.below(5_000_000_000).into(),
        nano: dice.below(90_000_000_000).into(),
        tokens: i64::try_from(dice.below(2_147_483_648)).expect("a count"),
    }
}

fn decimal(value: i128, places: u32) -> String {
    let unit = 10_i128.pow(places);
    let fraction = format!("{:0width$}", value % unit, width = places as usize);
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { (value / unit).to_string() } else { format!("{}.{fraction}", value / unit) }
}

fn recount<'a>(records: impl Iterator<Item = &'a Record>) -> (String, Value) {
    let (mut count, mut micro, mut nano, mut tokens) = (0, 0, 0, 0);
    let mut by: [BTreeMap<String, i64>; 3] = Default::default();
    for record in records {
        count += 1;
        micro += record.micro;
        nano += record.nano;
        tokens += record.tokens;
        for (map, name) in
            by.iter_mut().zip([Some(&record.event_type), record.model.as_ref(), record.provider.as_ref()])
        {
            if let Some(name) = name {
                *map.entry(name.clone()).or_default() += 1;
            }
        }
    }
    let exact = format!(
        "\"total_credits_charged\":{},\"total_cost_usd\":{},\"total_tokens_used\":{tokens},",
        decimal(micro, 6),
        decimal(nano, 9)
    );
    let [by_event_type, by_model, by_provider] = by;
    (
        exact,
        json!({"total_records": count, "by_event_type": by_event_type, "by_model": by_model, "by_provider": by_provider}),
    )
}

async fn record_all(app: &TestApp, records: &[Record]) {
    for chunk in records.chunks(500) {
        let rows: Vec<Value> = chunk.iter().map(|record| json!({
            "user_id": "auth0|alice", "event_type": record.event_type, "model_name": record.model, "provider": record.provider,
            "credits_charged": decimal(record.micro, 6), "cost_usd": decimal(record.nano, 9), "tokens_used": record.tokens,
            "created_at": Timestamp::from_micros(record.at).to_string(),
        })).collect();
        let done = app.backend.post("/api/v1/usage/batch", json!({"records": rows})).await.data();
        assert_eq!(done["recorded"], chunk.len());
    }
}

both_engines! {
    async fn the_documented_statistics(app: TestApp) {
        app.alice.ensure().await;
        for (kind, model, provider) in [("ai_chat", "gpt-4", "openai"), ("ai_chat", "gpt-4", "openai"), ("api_call", "gpt-3.5-turbo", "anthropic")] {
            let _ = app.alice.post(&app.alice.own("/usage"), json!({
                "event_type": kind, "model_name": model, "provider": provider, "credits_charged": 250.25, "cost_usd": 5.005, "tokens_used": 75_000,
            })).await.ok();
        }
        let path = app.alice.own("/usage/stats?start_date=2025-01-01T00:00:00Z&end_date=2025-07-28T23:59:59Z");
        let answer = app.alice.get(&path).await.ok();
        assert_eq!(masked(answer), envelope("Statistics retrieved successfully", json!({
            "total_records": 3, "total_credits_charged": 750.75, "total_cost_usd": 15.015, "total_tokens_used": 225_000,
            "by_event_type": {"ai_chat": 2, "api_call": 1}, "by_model": {"gpt-3.5-turbo": 1, "gpt-4": 2}, "by_provider": {"anthropic": 1, "openai": 2},
            "date_range": {"start_date": "2025-01-01T00:00:00.000000Z", "end_date": "2025-07-28T23:59:59.000000Z"},
        })));
        let empty = app.alice.get(&app.alice.own("/usage/stats?start_date=2025-07-29")).await.data();
        assert_eq!(empty, json!({
            "total_records": 0, "total_credits_charged": 0, "total_cost_usd": 0, "total_tokens_used": 0,
            "by_event_type": {}, "by_model": {}, "by_provider": {},
            "date_range": {"start_date": "2025-07-29T00:00:00.000000Z", "end_date": null},
        }));
    }

    async fn statistics_of_any_range_equal_a_recount(app: TestApp) {
        app.alice.ensure().await;
        app.bob.ensure().await;
        let mut dice = Dice::new(20_250_727);
        let (from, to) = ("2025-01-15T00:00:00Z", "2025-07-26T23:00:00Z");
        let (from, to) = (from.parse::<Timestamp>().expect("an instant").micros(), to.parse::<Timestamp>().expect("an instant").micros());
        let records: Vec<Record> = (0..1_500).map(|_| made(&mut dice, from, to)).collect();
        record_all(&app, &records).await;
        // Somebody else's records never count.
        let _ = app.bob.post(&app.bob.own("/usage"), json!({"event_type": "ai_chat", "tokens_used": 1, "created_at": "2025-03-01"})).await.ok();
        for round in 0..120 {
            let (a, b) = (made(&mut dice, from, to).at, made(&mut dice, from, to).at);
            let (start, end) = (dice.below(8) > 0).then_some(a.min(b)).map_or((None, Some(b)), |start| (Some(start), (dice.below(8) > 0).then_some(a.max(b))));
            let kind = dice.pick(&[None, None, Some("ai_chat")]);
            let model = dice.pick(&[None, None, Some("gpt-4")]);
            let mut query = String::new();
            for (name, value) in [
                ("start_date", start.map(|at| Timestamp::from_micros(at).to_string())), ("end_date", end.map(|at| Timestamp::from_micros(at).to_string())),
                ("event_type", kind.map(str::to_owned)), ("model_name", model.map(str::to_owned)),
            ] {
                if let Some(value) = value {
                    query.push_str(&format!("{name}={value}&"));
                }
            }
            let within = |record: &&Record| {
                start.is_none_or(|start| record.at >= start) && end.is_none_or(|end| record.at <= end)
                    && kind.is_none_or(|kind| record.event_type == kind) && model.is_none_or(|model| record.model.as_deref() == Some(model))
            };
            let (exact, counts) = recount(records.iter().filter(within));
            let answer = app.alice.get(&app.alice.own(&format!("/usage/stats?{query}"))).await;
            assert!(answer.text().contains(&exact), "{round} {query}: {exact} is not in {}", answer.text());
            let data = answer.data();
            for name in ["total_records", "by_event_type", "by_model", "by_provider"] {
                assert_eq!(data[name], counts[name], "{round} {query}");
            }
        }
    }

    async fn sums_beyond_any_single_amount_stay_exact(app: TestApp) {
        app.alice.ensure().await;
        for _ in 0..2 {
            let _ = app.alice.post_text(&app.alice.own("/usage"), r#"{"event_type":"big","credits_charged":9000000000000,"tokens_used":2147483647}"#).await.ok();
        }
        let _ = app.alice.post(&app.alice.own("/usage"), json!({"event_type": "small", "credits_charged": "0.000001"})).await.ok();
        let text = app.alice.get(&app.alice.own("/usage/stats")).await.text();
        assert!(text.contains("\"total_credits_charged\":18000000000000.000001,"), "{text}");
        assert!(text.contains("\"total_tokens_used\":4294967294,"), "{text}");
    }
}
