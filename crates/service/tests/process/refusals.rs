//! Not starting: code 2, and one sentence that names the setting.

use crate::PROGRAM;
use std::net::TcpListener;
use testkit::process::{Ended, JWT_SECRET, Place};
use user_service::db::Location;

fn assert_refusal(ended: &Ended, key: &str) {
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let sentence = ended.stderr.trim_end();
    assert!(!sentence.contains('\n') && sentence.starts_with("user-service: "), "one sentence: {sentence}");
    assert!(sentence.contains(key), "it names {key}: {sentence}");
    assert!(!ended.stdout.contains("address"), "no banner: {}", ended.stdout);
}

#[tokio::test]
async fn a_taken_port_is_refused() {
    let place = Place::sqlite();
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = taken.local_addr().expect("an address").port().to_string();
    assert_refusal(&PROGRAM.refused(&place, &[("PORT", &port)]).await, "PORT");
    assert_refusal(&PROGRAM.refused(&place, &[("HOST", "203.0.113.7")]).await, "HOST");
}

#[tokio::test]
async fn an_unreachable_database_is_refused() {
    let place = Place::sqlite();
    let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|free| free.local_addr()).expect("a free port");
    let url = format!("postgresql://ann:canary-password@{free}/users");
    for arguments in [&["serve"][..], &["migrate"], &["verify-ledger"]] {
        let ended = PROGRAM.run(&place, arguments, &[("DATABASE_URL", &url)]).await;
        assert_refusal(&ended, "DATABASE_URL");
        assert!(!(ended.stdout + &ended.stderr).contains("canary"), "the password is not shown");
    }
}

#[tokio::test]
async fn an_unknown_database_is_refused() {
    let place = Place::postgres().await;
    let Location::Postgres(url, _) = place.location() else { panic!("a database of PostgreSQL") };
    let missing = format!("{url}_missing");
    assert_refusal(&PROGRAM.refused(&place, &[("DATABASE_URL", &missing)]).await, "DATABASE_URL");
}

#[tokio::test]
async fn a_data_folder_that_cannot_be_one_is_refused() {
    // A file in its place stops root too, whom modes do not.
    let place = Place::sqlite();
    std::fs::write(place.folder().join("data"), "in the way").expect("written");
    assert_refusal(&PROGRAM.refused(&place, &[]).await, "DATA_DIR");

    let place = Place::sqlite();
    std::fs::create_dir_all(place.file()).expect("a folder where the file should be");
    assert_refusal(&PROGRAM.refused(&place, &[]).await, "DATABASE_URL");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let place = Place::sqlite();
    std::fs::create_dir(place.folder().join("data")).expect("a folder");
    let other = "somebody's letters, not a database. ".repeat(200);
    std::fs::write(place.file(), &other).expect("written");
    assert_refusal(&PROGRAM.run(&place, &["serve"], &[]).await, "DATABASE_URL");
    // Where a ledger should be, it is a fault of the ledger: one damaged byte may make a file look like that.
    let ended = PROGRAM.run(&place, &["verify-ledger"], &[]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stdout.contains("NOT sound") && ended.stdout.contains("file is not a database"),
        "{ended:?}"
    );
    assert_eq!(std::fs::read_to_string(place.file()).expect("still there"), other);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_on_one_file_is_refused() {
    let place = Place::sqlite();
    let mut first = PROGRAM.start(&place, &[]).await;
    assert_refusal(&PROGRAM.refused(&place, &[]).await, "DATABASE_URL");
    assert!(first.is_alive());
    // A killed one leaves no claim behind.
    first.kill();
    assert_eq!(PROGRAM.start(&place, &[]).await.stop().await.code, Some(0));
}

#[tokio::test]
async fn a_bad_setting_is_refused_by_its_name() {
    let place = Place::sqlite();
    for (key, value) in [
        ("PORT", "none"),
        ("ENVIRONMENT", "moon"),
        ("DATABASE_URL", "mysql://ann:canary@localhost/users"),
        ("WELCOME_CREDITS", "0.0000001"),
        ("REQUEST_TIMEOUT_SECONDS", "0"),
        ("LOG_FORMAT", "xml"),
        ("AUTH_PROVIDER", "nobody"),
        ("CORS_ORIGINS", "example.com/path"),
        ("USER_SERVICE_API_KEY", "canary with spaces"),
    ] {
        let ended = PROGRAM.refused(&place, &[(key, value)]).await;
        assert_refusal(&ended, key);
        assert!(!ended.stderr.contains("canary"), "{}", ended.stderr);
    }
    assert!(!place.folder().join("data").exists(), "nothing was touched");
}

#[tokio::test]
async fn production_refuses_what_is_only_safe_on_a_desk() {
    let place = Place::sqlite();
    let production = ("ENVIRONMENT", "production");
    for (key, value) in [
        ("SUPABASE_JWT_SECRET", ""),
        ("SUPABASE_JWT_SECRET", "development-only-secret-never-use-in-production"),
        ("SUPABASE_JWT_SECRET", "short"),
        ("USER_SERVICE_API_KEY", "usk_changeme_changeme_changeme"),
        ("ALLOW_SELF_RECHARGE", "true"),
        ("DEBUG", "true"),
    ] {
        assert_refusal(&PROGRAM.refused(&place, &[production, (key, value)]).await, key);
    }
    let service = PROGRAM.start(&place, &[production, ("SUPABASE_JWT_SECRET", JWT_SECRET)]).await;
    let asked = reqwest::Client::new().post(service.url("/auth/dev-token?user_id=ann")).send().await;
    assert_eq!(asked.expect("an answer").status(), 404, "no development tokens");
    assert!(!service.stdout().contains("Try it"), "{}", service.stdout());
}
