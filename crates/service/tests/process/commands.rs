//! What can be asked of the binary beside serving.

use crate::caller::Caller;
use crate::{PROGRAM, verify_ledger};
use serde_json::Value;
use testkit::process::{JWT_SECRET, Place, SERVICE_KEY};

either_engine!(migrate_comes_before_serve, the_ledger_is_verified_while_it_is_written);

#[tokio::test]
async fn help_and_version_end_well() {
    let place = Place::sqlite();
    for (argument, said) in [("--help", "verify-ledger"), ("--version", env!("CARGO_PKG_VERSION"))] {
        // Even where the settings are bad.
        let ended = PROGRAM.run(&place, &[argument], &[("PORT", "none")]).await;
        assert_eq!(ended.code, Some(0), "{argument}");
        assert!(ended.stdout.contains(said), "{}", ended.stdout);
    }
    assert_eq!(PROGRAM.run(&place, &["explode"], &[]).await.code, Some(2));
    assert!(!place.folder().join("data").exists(), "asking leaves nothing behind");
}

#[tokio::test]
async fn the_settings_are_shown_without_their_secrets() {
    let place = Place::sqlite();
    let database = "postgresql://ann:canary-password@db.example.com:5432/users";
    let ended = PROGRAM.run(&place, &["config"], &[("DATABASE_URL", database), ("DEBUG", "true")]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let said = ended.stdout + &ended.stderr;
    for secret in [SERVICE_KEY, JWT_SECRET, "canary-password"] {
        assert!(!said.contains(secret), "{said}");
    }
    for key in ["USER_SERVICE_API_KEY", "SUPABASE_JWT_SECRET"] {
        let line = said.lines().find(|line| line.starts_with(key)).expect("every key has a line");
        assert!(line.ends_with("***") && line.contains("environment"), "{line}");
    }
    assert!(said.contains("db.example.com:5432"), "{said}");
}

async fn migrate_comes_before_serve(place: Place) {
    for _ in 0..2 {
        let ended = PROGRAM.run(&place, &["migrate"], &[]).await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(ended.stdout.contains("is up to date"), "{}", ended.stdout);
    }
    verify_ledger(&place).await;
    let service = PROGRAM.start(&place, &[]).await;
    Caller::new().ensure(service.address, "ann").await;
    assert_eq!(service.stop().await.code, Some(0));
}

async fn the_ledger_is_verified_while_it_is_written(place: Place) {
    let service = PROGRAM.start(&place, &[]).await;
    Caller::new().ensure(service.address, "ann").await;
    verify_ledger(&place).await;
    let ended = PROGRAM.run(&place, &["verify-ledger", "--json", "--user", "ann"], &[]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let report: Value = serde_json::from_str(&ended.stdout).expect("one JSON object");
    assert_eq!(
        (&report["accounts"], &report["entries"], &report["first_bad"]),
        (&1.into(), &1.into(), &Value::Null)
    );
    let ended = PROGRAM.run(&place, &["verify-ledger", "--user", "nobody"], &[]).await;
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
}
