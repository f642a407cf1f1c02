//! The price book on the command line.

use crate::PROGRAM;
use testkit::process::{Ended, Place};

either_engine!(a_list_is_imported_once);

/// A part of LiteLLM's list, in a file of its own.
fn list(place: &Place) -> String {
    let path = place.folder().join("list.json");
    std::fs::write(&path, include_str!("../data/prices.json")).expect("written");
    path.display().to_string()
}

/// The first line of what was said, which counts.
fn counted(ended: &Ended) -> &str {
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.stdout.lines().next().unwrap_or_default()
}

async fn a_list_is_imported_once(place: Place) {
    let file = list(&place);
    // Before anything is there, as the first start will find it, and nothing is made.
    let rehearsed = PROGRAM.run(&place, &["prices", "import", &file, "--dry-run"], &[]).await;
    assert_eq!(
        counted(&rehearsed),
        "14 models: 4 would be imported, 6 would be unchanged, 4 would be skipped."
    );
    assert!(!place.file().exists());
    let done = PROGRAM.run(&place, &["prices", "import", &file, "--verbose"], &[]).await;
    assert_eq!(counted(&done), "14 models: 4 imported, 6 unchanged, 4 skipped.");
    for said in [
        "      1  the layout's own example\n           sample_spec\n",
        "only input_cost_per_pixel\n           azure/hd/1024-x-1024/dall-e-3\n",
        "Rounded to 15 decimal places:\n",
        "      5  input_cost_per_token_batches\n",
    ] {
        assert!(done.stdout.contains(said), "{said:?} is not in {}", done.stdout);
    }
    assert!(done.stderr.contains("14 of 14 models"), "{}", done.stderr);
    let again = PROGRAM.run(&place, &["prices", "import", &file], &[]).await;
    assert_eq!(counted(&again), "14 models: 0 imported, 10 unchanged, 4 skipped.");
    let listed = PROGRAM.run(&place, &["prices", "list", "QWEN"], &[]).await;
    assert_eq!(counted(&listed), "dashscope/qwen-flash  v1  input 0.00000005, output 0.0000004");
    let rows = "SELECT COUNT(*) FROM model_prices WHERE source = 'import' AND actor = 'command'";
    assert_eq!(place.value(rows).await, "4");
    // The service finds what was imported.
    let service = PROGRAM.start(&place, &[]).await;
    assert_eq!(place.value("SELECT COUNT(*) FROM model_prices WHERE version > 1").await, "0");
    assert_eq!(service.stop().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_imported_is_said_in_one_sentence() {
    let place = Place::sqlite();
    let file = list(&place);
    let run = async |file: &str| PROGRAM.run(&place, &["prices", "import", file], &[]).await;
    let missing = run("nowhere.json").await;
    assert_eq!(missing.code, Some(1));
    assert!(missing.stderr.contains("nowhere.json: cannot be read"), "{}", missing.stderr);
    std::fs::write(place.folder().join("bad.json"), "[1, 2]").expect("written");
    let bad = run("bad.json").await;
    assert_eq!(bad.code, Some(1));
    assert!(bad.stderr.contains("bad.json: is no price list"), "{}", bad.stderr);
    let huge = std::fs::File::create(place.folder().join("huge.json")).expect("a file");
    huge.set_len(64 * 1024 * 1024 + 1).expect("a length");
    let huge = run("huge.json").await;
    assert_eq!(huge.code, Some(1));
    assert!(huge.stderr.contains("huge.json: has 67108865 bytes, more than 67108864"), "{}", huge.stderr);
    assert_eq!(PROGRAM.run(&place, &["prices", "import"], &[]).await.code, Some(2));
    assert_eq!(PROGRAM.run(&place, &["prices", "import", &file], &[("PORT", "none")]).await.code, Some(2));
    // While the service runs, its file is its own; looking is allowed.
    let service = PROGRAM.start(&place, &[]).await;
    let locked = run(&file).await;
    assert_eq!(locked.code, Some(2));
    assert!(locked.stderr.contains("already serves"), "{}", locked.stderr);
    assert!(locked.stderr.contains("POST /api/v1/prices/import"), "{}", locked.stderr);
    assert_eq!(locked.stderr.trim().lines().count(), 1, "{}", locked.stderr);
    let rehearsed = PROGRAM.run(&place, &["prices", "import", &file, "--dry-run"], &[]).await;
    assert!(counted(&rehearsed).contains("4 would be imported"));
    assert_eq!(service.stop().await.code, Some(0));
}
