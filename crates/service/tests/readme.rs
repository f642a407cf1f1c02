//! The documents say what is true: settings, files and dependencies are compared with the repository.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The repository's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The rows that the table of settings must have: key, default, and the comment above the key.
fn wanted_settings() -> Vec<String> {
    let text = read("crates/service/config.default.toml");
    let defaults: toml::Table = text.parse().expect("TOML");
    let mut rows = Vec::new();
    let mut meaning = Vec::new();
    // The tables of plans behind the keys are no settings.
    for line in text.lines().take_while(|line| !line.starts_with('[')) {
        if let Some(sentence) = line.strip_prefix("# ") {
            meaning.push(sentence);
            continue;
        }
        if let Some((key, _)) = line.split_once(" = ") {
            let default = match &defaults[key] {
                toml::Value::String(text) if text.is_empty() => String::new(),
                toml::Value::String(text) => format!("`{text}`"),
                other => format!("`{other}`"),
            };
            let default = if default.is_empty() { default } else { format!("{default} ") };
            rows.push(format!("| `{}` | {default}| {} |", key.to_uppercase(), meaning.join(" ")));
        }
        meaning.clear();
    }
    let settings = defaults.values().filter(|value| !value.is_table()).count();
    assert_eq!(rows.len(), settings, "every key stands at the start of a line");
    rows
}

#[test]
fn the_readme_lists_every_setting_with_its_default_and_no_other() {
    let readme = read("README.md");
    let (_, section) = readme.split_once("\n## Configuration\n").expect("the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let found: Vec<&str> = section.lines().filter(|line| line.starts_with("| `")).collect();
    let wanted = wanted_settings();
    let differ = found.iter().zip(&wanted).find(|(found, wanted)| found != wanted);
    assert!(found == wanted, "first difference: {differ:?}; the table should read:\n{}", wanted.join("\n"));
}

/// The documents that are checked.
fn documents() -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("README.md"), "CHANGELOG.md".into(), "CONTRIBUTING.md".into()];
    for folder in ["docs", "docs/decisions"] {
        let entries = std::fs::read_dir(root().join(folder)).expect("a folder");
        let names = entries.map(|entry| Path::new(folder).join(entry.expect("an entry").file_name()));
        found.extend(names.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    found.sort();
    found
}

/// What stands between single backticks, code blocks left aside.
fn code_spans(text: &str) -> Vec<String> {
    let mut in_block = false;
    let mut spans = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            spans.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    spans
}

/// Whether a text in backticks names one file or folder of this repository.
fn names_a_path(span: &str) -> bool {
    let plain = span.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/".contains(&b));
    let from_root = ["crates/", "docs/", "bench/", ".ci/"].iter().any(|start| span.starts_with(start))
        || span == "./test";
    let by_kind = [".rs", ".md", ".toml", ".sql"].iter().any(|end| span.ends_with(end));
    // `api.rs` and `engine/sqlite.rs` name a kind of file, of which each slice has one.
    let of_each_slice = (!span.contains('/') && span.ends_with(".rs")) || span.starts_with("engine/");
    // Results come with the first measurement, and the repository may have none.
    let made_later = span.starts_with("bench/results");
    plain && (from_root || by_kind) && !of_each_slice && !made_later
}

#[test]
fn every_path_that_the_documents_name_exists() {
    let places = ["", "crates/service/src", "crates/service", "crates/service/tests"];
    let mut missing = Vec::new();
    for document in documents() {
        for span in code_spans(&read(&document)) {
            let there = || places.iter().any(|place| root().join(place).join(&span).exists());
            if names_a_path(&span) && !there() {
                missing.push(format!("{}: {span}", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "not there:\n{}", missing.join("\n"));
}

#[test]
fn every_dependency_has_a_reason_and_every_reason_a_dependency() {
    let text = read("docs/decisions/0009-dependencies.md");
    let rows = text.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split('|').nth(1));
    let explained: BTreeSet<String> =
        rows.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect();
    let mut used = BTreeSet::new();
    for member in ["crates/kernel", "crates/service", "crates/testkit", "bench"] {
        let manifest: toml::Table = read(format!("{member}/Cargo.toml")).parse().expect("TOML");
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let names = manifest.get(section).and_then(toml::Value::as_table).into_iter().flatten();
            used.extend(names.map(|(name, _)| name.clone()));
        }
    }
    for own in ["kernel", "user-service", "testkit"] {
        used.remove(own);
    }
    let unexplained: Vec<_> = used.difference(&explained).collect();
    let unused: Vec<_> = explained.difference(&used).collect();
    assert!(
        unexplained.is_empty() && unused.is_empty(),
        "without a reason: {unexplained:?}; gone: {unused:?}"
    );
}
