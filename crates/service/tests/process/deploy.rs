//! What `deploy/` has for operators is what the service tells: alerts that fire and are silent when they should, a dashboard
//! whose every question can be asked, and no name that is not a number of the service.

use crate::metrics::documented;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

fn deploy(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy")).join(path)
}

fn promtool(arguments: &[&str], file: PathBuf) {
    let promtool = std::env::var_os("TEST_PROMTOOL").expect("TEST_PROMTOOL names no promtool: run ./test");
    let ended = Command::new(promtool).args(arguments).arg(&file).output().expect("promtool starts");
    let said =
        format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{arguments:?} {}: {said}", file.display());
}

/// The metrics that a question asks for.
fn asked(expr: &str) -> BTreeSet<String> {
    // Neither labels nor texts are names.
    let mut plain = String::new();
    let (mut depth, mut quoted) = (0_u32, false);
    for c in expr.chars() {
        match c {
            '"' => quoted = !quoted,
            '{' if !quoted => depth += 1,
            '}' if !quoted => depth -= 1,
            _ if quoted || depth > 0 => {}
            _ => plain.push(c),
        }
    }
    for word in ["by", "without", "on", "ignoring"] {
        while let Some(at) = plain.find(&format!(" {word} (")) {
            let end = plain[at..].find(')').expect("an end") + at;
            plain.replace_range(at..=end, " ");
        }
    }
    let words = plain.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.contains('_') && !word.starts_with("__") && !is_a_function(word))
        .map(str::to_owned)
        .collect()
}

/// Whether it is a word of the language of the questions.
fn is_a_function(word: &str) -> bool {
    word == "histogram_quantile" || word.ends_with("_over_time")
}

fn are_known(exprs: &[String]) {
    let documented = documented();
    assert!(exprs.len() > 15, "{}", exprs.len());
    for expr in exprs {
        for name in asked(expr) {
            let base = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| name.strip_suffix(end));
            let known =
                documented.contains_key(&name) || base.is_some_and(|base| documented.contains_key(base));
            assert!(known, "{name} of `{expr}` is no number of the service");
        }
    }
}

#[test]
fn the_alerts_fire_when_they_should() {
    promtool(&["check", "config"], deploy("prometheus/prometheus.yml"));
    promtool(&["test", "rules"], deploy("prometheus/alerts_test.yml"));
    let text = std::fs::read_to_string(deploy("prometheus/alerts.yml")).expect("the alerts");
    let exprs: Vec<String> =
        text.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).map(str::to_owned).collect();
    are_known(&exprs);
    let document = std::fs::read_to_string(deploy("../docs/monitoring.md")).expect("docs/monitoring.md");
    let tests = std::fs::read_to_string(deploy("prometheus/alerts_test.yml")).expect("the tests");
    for name in text.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(document.contains(&format!("| `{name}` |")), "{name} is not in docs/monitoring.md");
        assert!(tests.matches(name).count() >= 2, "{name} has no test that it fires and is silent");
    }
}

#[test]
fn the_dashboard_asks_for_what_there_is() {
    let text = std::fs::read_to_string(deploy("grafana/user-service.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    let mut taken = BTreeSet::new();
    let mut exprs = Vec::new();
    for panel in panels {
        let at = |name: &str| panel["gridPos"][name].as_u64().unwrap_or_else(|| panic!("{name} of {panel}"));
        for (x, y) in
            (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)))
        {
            assert!(x < 24 && taken.insert((x, y)), "{} lies over another panel or the edge", panel["title"]);
        }
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        for target in panel["targets"].as_array().expect("questions") {
            exprs.push(target["expr"].as_str().expect("a question").to_owned());
        }
    }
    are_known(&exprs);
    // Prometheus itself reads each question.
    let rules: Vec<Value> = exprs
        .iter()
        .enumerate()
        .map(|(n, expr)| {
            let expr = expr.replace("$__rate_interval", "1m").replace("$instance", ".*");
            serde_json::json!({"record": format!("question_{n}"), "expr": expr})
        })
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("questions.yml");
    let rules = serde_json::json!({"groups": [{"name": "questions", "rules": rules}]});
    std::fs::write(&file, rules.to_string()).expect("written");
    promtool(&["check", "rules"], file);
}
