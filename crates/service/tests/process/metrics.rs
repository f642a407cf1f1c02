//! `/metrics` after traffic of every kind: Prometheus finds nothing to criticise, and no label tells of anybody.

use crate::PROGRAM;
use crate::routes::routes;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::{Duration, Instant};
use testkit::process::{Place, Running, SERVICE_KEY};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

either_engine!(what_is_counted_is_described_and_tells_of_nobody);

/// Asks every route, with good bodies, bad ones and none, as a program and as nobody.
async fn busy(http: &reqwest::Client, service: &Running) -> BTreeSet<String> {
    let ensure = json!({"auth0_id": "canary|ann", "name": "Canary Name", "email": "canary.mail@example.com"});
    let asked = http.post(service.url("/api/v1/users/ensure")).header("x-api-key", SERVICE_KEY).json(&ensure);
    assert_eq!(asked.send().await.expect("an answer").status(), 200);
    let things: Map<String, Value> =
        [("user_id".to_owned(), json!("canary|ann")), ("model".to_owned(), json!("canary-model"))]
            .into_iter()
            .collect();
    let all = routes(http, service).await;
    for route in &all {
        let method: reqwest::Method = route.method.parse().expect("a method");
        let url = service.url(&format!("{}?q=canary-query", route.path(&things)));
        for (key, body) in [("usk_canary", None), (SERVICE_KEY, None), (SERVICE_KEY, route.body.clone())] {
            let request = http.request(method.clone(), &url).header("x-api-key", key);
            let request = match body {
                Some(body) => request.json(&body),
                None => request,
            };
            request.send().await.expect("an answer");
        }
    }
    for (method, path) in
        [("BREW", "/health"), ("CANARY", "/canary-path"), ("GET", "/canary-path"), ("HEAD", "/health")]
    {
        http.request(method.parse().expect("a method"), service.url(path)).send().await.expect("an answer");
    }
    let pages = ["(none)", "/docs", "/docs/", "/docs/{*rest}", "/openapi.json", "/redoc"];
    all.into_iter().map(|route| route.template).chain(pages.map(str::to_owned)).collect()
}

/// The labels of a line, as names and values.
fn labels(line: &str) -> Vec<(&str, &str)> {
    let Some((_, rest)) = line.split_once('{') else { return Vec::new() };
    let (inside, _) = rest.rsplit_once('}').expect("an end of the labels");
    inside.split("\",").map(|pair| pair.trim_end_matches('"').split_once("=\"").expect("a pair")).collect()
}

/// What `docs/monitoring.md` says: the labels of each name.
pub fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/monitoring.md");
    let text = std::fs::read_to_string(path).expect("docs/monitoring.md");
    let rows = text.lines().filter(|line| line.starts_with("| `")).map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let words = |cell: &str| {
            cell.split(',')
                .map(|word| word.trim().trim_matches('`').to_owned())
                .filter(|word| !word.is_empty())
                .collect()
        };
        (cells[1].trim_matches('`').to_owned(), words(cells[3]))
    });
    rows.collect()
}

async fn promtool_finds_nothing(page: &str) {
    let promtool = std::env::var_os("TEST_PROMTOOL").expect("TEST_PROMTOOL names no promtool: run ./test");
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    let mut input = child.stdin.take().expect("piped");
    input.write_all(page.as_bytes()).await.expect("it reads");
    drop(input);
    let ended = child.wait_with_output().await.expect("it ends");
    let said =
        format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success() && said.trim().is_empty(), "promtool check metrics: {said}\n{page}");
}

async fn what_is_counted_is_described_and_tells_of_nobody(place: Place) {
    let service = PROGRAM.start(&place, &[("RATE_LIMIT_ENABLED", "false")]).await;
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let known = busy(&http, &service).await;
    let get = || async {
        let answer = http.get(service.url("/metrics")).send().await.expect("an answer");
        assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        answer.text().await.expect("a text")
    };
    // The jobs begin by and by.
    let until = Instant::now() + Duration::from_secs(20);
    let page = loop {
        let page = get().await;
        if page.contains("job_name=\"top_ups\"") || Instant::now() > until {
            break page;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    promtool_finds_nothing(&page).await;

    let documented = documented();
    let mut seen = BTreeMap::<&str, BTreeSet<&str>>::new();
    for line in page.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        assert!(!line.to_ascii_lowercase().contains("canary"), "{line}");
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let base =
            ["_bucket", "_sum", "_count"].into_iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let of = documented.get(base).or(documented.get(name));
        let of = of.unwrap_or_else(|| panic!("{name} is not in docs/monitoring.md"));
        for (label, value) in labels(line).into_iter().filter(|(label, _)| *label != "le") {
            assert!(of.contains(label), "the label {label} of {name} is not in docs/monitoring.md");
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-:/(){}*".contains(&b);
            assert!(value.len() <= 100 && value.bytes().all(plain), "{line}");
            if label == "route" {
                assert!(known.contains(&value.replace("{*", "{")) || known.contains(value), "{line}");
            }
            seen.entry(label).or_default().insert(value);
        }
    }
    assert!(seen["method"].contains("OTHER") && !seen["method"].contains("BREW"), "{:?}", seen["method"]);
    for (label, most) in [("method", 10), ("status", 30), ("kind", 30), ("job_name", 20)] {
        assert!(seen[label].len() <= most, "{label}: {:?}", seen[label]);
    }
    let value = |start: &str| {
        let line =
            page.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start} in\n{page}"));
        line.rsplit(' ').next().and_then(|number| number.parse::<f64>().ok()).expect("a number")
    };
    let engine = if place.is_postgres() { "postgres" } else { "sqlite" };
    let build = page.lines().find(|line| line.starts_with("user_service_build_info")).expect("the build");
    assert!(build.contains(&format!("engine=\"{engine}\"")), "{build}");
    assert_eq!(
        value("ledger_microcredits_total{kind=\"grant\"}") as i64 % 1_000_000,
        0,
        "whole credits were given"
    );
    assert!(value("ledger_entries_total{kind=\"grant\"}") >= 1.0);
    assert_eq!(value("http_requests_in_flight "), 1.0, "this request itself");
    assert_eq!(value("dependency_up{dependency=\"database\"}"), 1.0);
    assert_eq!(value("ledger_queue_commands "), 0.0);
    assert!(value("process_resident_memory_bytes ") > 1e6);
    let of_engine = if place.is_postgres() { "postgres_pool_max_connections " } else { "sqlite_wal_bytes " };
    assert!(value(of_engine) > 0.0);
    assert_eq!(service.stop().await.code, Some(0));
}
