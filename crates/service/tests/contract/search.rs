//! Finding messages by their words, the same on both engines.

use crate::support::{column, session};
use serde_json::{Value, json};
use testkit::{Actor, both_engines};

async fn say(actor: &Actor, path: &str, contents: &[&str]) {
    let messages: Vec<Value> =
        contents.iter().map(|content| json!({"role": "user", "content": content})).collect();
    let _ = actor.post(&format!("{path}/messages/batch"), json!({"messages": messages})).await.ok();
}

/// What a user finds, newest first.
async fn found(actor: &Actor, q: &str) -> Vec<Value> {
    let encoded: String = q.bytes().map(|b| format!("%{b:02X}")).collect();
    column(
        &actor.get(&actor.own(&format!("/messages/search?limit=1000&q={encoded}"))).await.data(),
        "content",
    )
}

/// The dialogues of `tests/data`: role and content of each message.
fn dialogues() -> Vec<Vec<(String, String)>> {
    let lines = include_str!("../data/dialogues.jsonl").lines();
    lines.map(|line| serde_json::from_str(line).expect("a dialogue")).collect()
}

both_engines! {
    async fn words_and_phrases_are_found(app: TestApp) {
        app.alice.ensure().await;
        let path = session(&app.alice).await;
        say(&app.alice, &path, &["The tallest mountain", "Mountain BIKES, don't rust!", "a mountainous land", "Café Größe ＡＢＣ", "C++ and 3.14"]).await;
        for (q, hits) in [
            ("mountain", &["Mountain BIKES, don't rust!", "The tallest mountain"][..]),
            ("MOUNTAIN", &["Mountain BIKES, don't rust!", "The tallest mountain"]),
            ("mountain tallest", &["The tallest mountain"]),
            ("tallest mountain the", &["The tallest mountain"]),
            ("\"tallest mountain\"", &["The tallest mountain"]),
            ("\"mountain tallest\"", &[]),
            ("mountainous*", &["a mountainous land"]),
            ("_1 mountain", &[]),
            ("mount", &[]),
            ("don't", &["Mountain BIKES, don't rust!"]),
            ("bikes-don", &["Mountain BIKES, don't rust!"]),
            ("cafe\u{301}", &["Café Größe ＡＢＣ"]),
            ("abc größe", &["Café Größe ＡＢＣ"]),
            ("c++", &["C++ and 3.14"]),
            ("3.14", &["C++ and 3.14"]),
            ("nothing", &[]),
            ("the OR bikes", &[]),
            ("mountain NOT the", &[]),
            ("' : & | ! ( ) the", &["The tallest mountain"]),
            ("\"the", &["The tallest mountain"]),
        ] {
            assert_eq!(found(&app.alice, q).await, hits, "{q}");
        }
    }

    async fn chinese_japanese_and_thai_need_no_spaces(app: TestApp) {
        app.alice.ensure().await;
        let path = session(&app.alice).await;
        say(&app.alice, &path, &["我明天去北京旅行", "京都は北にある", "東京タワーに行きたい", "ฉันรักกรุงเทพ", "서울에 가고 싶어요"]).await;
        for (q, hits) in [
            ("北京", &["我明天去北京旅行"][..]),
            ("旅行", &["我明天去北京旅行"]),
            ("京北", &[]),
            ("北", &["京都は北にある", "我明天去北京旅行"]),
            ("タワー", &["東京タワーに行きたい"]),
            ("กรุงเทพ", &["ฉันรักกรุงเทพ"]),
            ("싶어요", &["서울에 가고 싶어요"]),
        ] {
            assert_eq!(found(&app.alice, q).await, hits, "{q}");
        }
    }

    async fn nobody_finds_what_others_said(app: TestApp) {
        app.alice.ensure().await;
        app.bob.ensure().await;
        say(&app.alice, &session(&app.alice).await, &["a secret of alice"]).await;
        say(&app.bob, &session(&app.bob).await, &["a secret of bob"]).await;
        assert_eq!(found(&app.alice, "secret").await, ["a secret of alice"]);
        assert_eq!(found(&app.bob, "secret").await, ["a secret of bob"]);
        assert_eq!(found(&app.bob, "alice").await, Vec::<Value>::new());
        assert_eq!(app.bob.get(&app.alice.own("/messages/search?q=secret")).await.status, 403);
        assert_eq!(column(&app.backend.get(&app.alice.own("/messages/search?q=secret")).await.data(), "content"), ["a secret of alice"]);
    }

    async fn the_hits_are_newest_first_in_pages_and_of_one_session(app: TestApp) {
        app.alice.ensure().await;
        let (first, second) = (session(&app.alice).await, session(&app.alice).await);
        for n in 0..12 {
            if n % 5 == 0 {
                app.advance(std::time::Duration::from_secs(1));
            }
            say(&app.alice, if n % 2 == 0 { &first } else { &second }, &[&format!("apple {n}")]).await;
        }
        let expected: Vec<Value> = (0..12).rev().map(|n| json!(format!("apple {n}"))).collect();
        assert_eq!(found(&app.alice, "apple").await, expected);
        let (mut walked, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = app.alice.get(&app.alice.own(&format!("/messages/search?q=apple&limit=5{cursor}"))).await.ok();
            walked.extend(column(&page["data"], "content"));
            match page["pagination"]["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(walked, expected);
        let id = first.rsplit('/').next().expect("an id");
        let of_first = app.alice.get(&app.alice.own(&format!("/messages/search?q=apple&limit=2&session_id={id}"))).await.ok();
        assert_eq!(column(&of_first["data"], "content"), ["apple 10", "apple 8"]);
        assert_eq!(of_first["data"][0]["session_id"], id);
        assert_eq!(app.alice.get(&app.alice.own("/messages/search?q=apple&session_id=x")).await.status, 404);
    }

    async fn real_dialogues_are_loaded_paged_and_searched(app: TestApp) {
        app.alice.ensure().await;
        let dialogues = dialogues();
        let calls: Vec<_> = dialogues.chunks(50).map(|part| {
            let (alice, part) = (app.alice.clone(), part.to_vec());
            tokio::spawn(async move {
                let mut paths = Vec::new();
                for dialogue in part {
                    let path = session(&alice).await;
                    let messages: Vec<Value> = dialogue.iter().map(|(role, content)| json!({"role": role, "content": content})).collect();
                    let _ = alice.post(&format!("{path}/messages/batch"), json!({"messages": messages})).await.ok();
                    paths.push(path);
                }
                paths
            })
        }).collect();
        let mut paths = Vec::new();
        for call in calls {
            paths.extend(call.await.expect("loaded"));
        }
        // What was said comes back, in order and to the last character.
        for (path, dialogue) in paths.iter().zip(&dialogues).step_by(29) {
            let rows = app.alice.get(&format!("{path}/messages")).await.data();
            let said: Vec<(Value, Value)> = column(&rows, "role").into_iter().zip(column(&rows, "content")).collect();
            let expected: Vec<(Value, Value)> = dialogue.iter().map(|(role, content)| (json!(role), json!(content))).collect();
            assert_eq!(said, expected);
        }
        let texts: Vec<&String> = dialogues.iter().flatten().map(|(_, content)| content).collect();
        for word in ["lmsys", "hawaii", "the", "microsoft", "probability", "sorry", "xylophone"] {
            let expected = texts.iter().filter(|text| {
                text.to_lowercase().split(|c: char| !c.is_alphanumeric()).any(|part| part == word)
            }).count();
            let (mut hits, mut cursor) = (0, String::new());
            loop {
                let page = app.alice.get(&app.alice.own(&format!("/messages/search?q={word}&limit=300{cursor}"))).await.ok();
                hits += page["data"].as_array().map_or(0, Vec::len);
                match page["pagination"]["next_cursor"].as_str() {
                    Some(next) => cursor = format!("&cursor={next}"),
                    None => break,
                }
            }
            assert_eq!(hits, expected, "{word}");
        }
        let all = app.alice.get(&app.alice.own("/sessions?limit=1000")).await.data();
        assert_eq!(all.as_array().map(Vec::len), Some(dialogues.len()));
    }

    async fn what_is_no_question_is_refused(app: TestApp) {
        app.alice.ensure().await;
        let path = app.alice.own("/messages/search");
        app.alice.get(&path).await.refuses_field(&["query", "q"], "required");
        app.alice.get(&format!("{path}?q=")).await.refuses_field(&["query", "q"], "1 to 200");
        app.alice.get(&format!("{path}?q=...")).await.refuses_field(&["query", "q"], "must have a letter or a digit");
        app.alice.get(&format!("{path}?q={}", "a+".repeat(33))).await.refuses_field(&["query", "q"], "at most 32 words");
        app.alice.get(&format!("{path}?q={}", "a".repeat(201))).await.refuses_field(&["query", "q"], "1 to 200");
        app.alice.get(&format!("{path}?q=%00a")).await.refuses_field(&["query", "q"], "NUL");
        for odd in ["%27%22%5C*", "a%22*%22b", "%E2%80%AEa", "NEAR(a b)", "a:b", "words:a", "-a", "%5Ea", "a%20%2B%20b", "{a b}"] {
            assert_eq!(app.alice.get(&format!("{path}?q={}", odd.replace(' ', "+"))).await.status, if odd == "%27%22%5C*" { 400 } else { 200 }, "{odd}");
        }
    }
}
