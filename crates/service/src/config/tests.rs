//! Every rule of the configuration, in the operator's words.

use super::source::{defaults, layered};
use super::*;
use std::{collections::HashMap, env::VarError, path::Path};

const SECRET: &str = "m3Yx0qVb7Tn2Lr9Kc5Wd8Hf4Jg6Pz1Sa";
const KEY: &str = "usk_9fQ2mX7cV4bN8kL3tR6w";

fn load(vars: &[(&str, &str)]) -> Result<(Config, Vec<Setting>), ConfigError> {
    let vars: HashMap<_, _> =
        vars.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
    Config::from_vars(|key| vars.get(key).map(|text| (text.clone(), Origin::Environment)))
}

/// The settings that come of these, or the sentence that refuses them.
pub(super) fn loaded(vars: &[(&str, &str)]) -> Result<Config, String> {
    load(vars).map(|(config, _)| config).map_err(|error| error.to_string())
}

fn config(vars: &[(&str, &str)]) -> Config {
    load(vars).expect("a good configuration").0
}

fn sentence(vars: &[(&str, &str)]) -> String {
    match load(vars) {
        Ok(_) => format!("no refusal of {vars:?}"),
        Err(error) => error.to_string(),
    }
}

fn production<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let base = [("ENVIRONMENT", "production"), ("SUPABASE_JWT_SECRET", SECRET)];
    base.iter().filter(|(key, _)| !more.iter().any(|(k, _)| k == key)).chain(more).copied().collect()
}

fn shown<'a>(settings: &'a [Setting], key: &str) -> (&'a str, Origin) {
    let setting = settings.iter().find(|s| s.key == key).expect("a known key");
    (&setting.value, setting.origin)
}

#[test]
fn with_nothing_set_it_is_a_desk_with_sqlite() {
    let config = config(&[]);
    assert_eq!(config.app_name, "User Service");
    assert_eq!(config.app_version, env!("CARGO_PKG_VERSION"));
    assert_eq!(config.environment, Environment::Development);
    assert_eq!((config.host.as_str(), config.port), ("127.0.0.1", 8100));
    assert_eq!((config.log_level.as_str(), config.log_format), ("info", LogFormat::Auto));
    assert_eq!(config.database.to_string(), "sqlite:./data/user-service.db");
    assert_eq!(config.database_pool_size, 10);
    assert_eq!(config.auth_provider, AuthProvider::Both);
    assert_eq!(config.auth0, None);
    assert!(config.supabase.and_then(|s| s.jwt_secret).expect("a secret").expose().len() >= 32);
    assert_eq!(config.admin_role, "admin");
    assert_eq!(config.user_service_api_key, None);
    assert!(config.allow_self_recharge && config.cors_allow_credentials && config.metrics_enabled);
    assert!(!config.debug);
    assert_eq!(config.cors_origins.to_string(), "http://localhost:3000,http://localhost:5173");
    assert_eq!(config.welcome_credits, Credits::whole(1000));
    assert_eq!(config.welcome_credits_life, Some(days(30)));
    assert_eq!(config.refund_credits_life, Some(days(30)));
    assert_eq!(config.json_body_limit_bytes, 1 << 20);
    assert_eq!(config.batch_body_limit_bytes, 16 << 20);
    assert_eq!(config.request_timeout, Duration::from_secs(30));
    assert_eq!(config.shutdown_delay, Duration::ZERO);
    assert_eq!(config.shutdown_grace, Duration::from_secs(30));
    assert_eq!(config.idempotency_life, days(30));
}

#[test]
fn contents_are_stored_and_stay_unless_somebody_says_otherwise() {
    let by_default = config(&[]);
    assert_eq!((by_default.contents, by_default.retention), (Contents::Stored, Retention::default()));
    let set = config(&[
        ("STORE_CONTENT", "false"),
        ("RETENTION_MESSAGES_DAYS", "7"),
        ("RETENTION_FILES_DAYS", "0"),
    ]);
    assert_eq!(set.contents, Contents::Dropped);
    assert_eq!(set.retention, Retention { messages: Some(days(7)), ..Retention::default() });
    for key in ["MESSAGES", "SESSIONS", "USAGE_CONTENT", "FILES", "STRIPE_EVENTS", "DELETED_USERS"] {
        let key = format!("RETENTION_{key}_DAYS");
        for bad in ["-1", "36501", "1.5", "a week"] {
            assert!(sentence(&[(&key, bad)]).starts_with(&format!("{key} must be ")), "{bad}");
        }
    }
}

#[test]
fn every_key_of_the_file_is_read_and_every_key_read_is_in_the_file() {
    let mut reader = Reader::new(|_| None).expect("defaults");
    // A key that the code reads and the file lacks is an error here.
    Config::read(&mut reader).expect("the defaults are good");
    assert_eq!(reader.unread(), Vec::<&str>::new());
}

#[test]
fn every_key_of_the_file_has_one_sentence_right_above_it() {
    // The tables of plans behind the keys are no settings.
    let lines = include_str!("../../config.default.toml").lines().take_while(|line| !line.starts_with('['));
    let lines: Vec<&str> = lines.collect();
    let keys: Vec<usize> =
        (0..lines.len()).filter(|at| lines[*at].contains(" = ") && !lines[*at].starts_with('#')).collect();
    assert_eq!(keys.len(), defaults().expect("defaults").len());
    for at in keys {
        let comment = lines[at - 1];
        assert!(comment.starts_with("# ") && comment.ends_with('.'), "{}", lines[at]);
        assert!(lines[at - 2].is_empty(), "{}", lines[at]);
        assert!(!comment[..comment.len() - 1].contains(". "), "{comment}");
    }
}

#[test]
fn the_environment_wins_over_dotenv_which_wins_over_the_defaults() {
    let folder = std::env::temp_dir().join(format!("user-service-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("folder");
    let file = folder.join("dotenv");
    let text = "\u{feff}# a comment\nPORT=1\nexport HOST='0.0.0.0'\nDEBUG=\nADMIN_ROLE=\"the boss\"\nADMIN_ROLE=chief\nANOTHER_PROGRAMS_KEY=x\n";
    std::fs::write(&file, text).expect("file");
    let environment = |key: &str| match key {
        "PORT" => Ok(" 2 ".to_owned()),
        "HOST" | "LOG_LEVEL" => Ok("  ".to_owned()),
        _ => Err(VarError::NotPresent),
    };
    let vars = layered(environment, &file).expect("vars");
    let (config, settings) = Config::from_vars(|key| vars.get(key).cloned()).expect("config");
    assert_eq!((config.port, config.host.as_str(), config.admin_role.as_str()), (2, "0.0.0.0", "chief"));
    assert_eq!(shown(&settings, "PORT"), ("2", Origin::Environment));
    assert_eq!(shown(&settings, "HOST"), ("0.0.0.0", Origin::DotEnv));
    assert_eq!(shown(&settings, "DEBUG"), ("false", Origin::Default));
    assert_eq!(shown(&settings, "LOG_LEVEL"), ("info", Origin::Default));

    std::fs::write(&file, "PORT=1\nSUPABASE_JWT_SECRET=two words\n").expect("file");
    let error = layered(environment, &file).expect_err("no value").to_string();
    assert_eq!(
        error,
        "The file .env must hold NAME=value lines, values with spaces in quotes, but the one after PORT is none."
    );
    std::fs::remove_dir_all(&folder).expect("cleaned");
}

#[test]
fn a_missing_dotenv_is_fine_and_an_unreadable_variable_is_not() {
    let missing = Path::new("/nonexistent/.env");
    assert!(layered(|_| Err(VarError::NotPresent), missing).expect("vars").is_empty());
    let error = layered(|_| Err(VarError::NotUnicode("x".into())), missing).expect_err("not UTF-8");
    assert_eq!(error.to_string(), "APP_NAME must be UTF-8, but the environment's value is not.");
}

#[test]
fn settings_come_in_the_order_of_the_file_and_show_what_is_in_force() {
    let (_, settings) = load(&[("DATA_DIR", "/var/lib/us"), ("ALLOW_SELF_RECHARGE", "NO")]).expect("config");
    let keys: Vec<&str> = settings.iter().map(|s| s.key.as_str()).collect();
    assert_eq!(keys[..3], ["APP_NAME", "APP_VERSION", "ENVIRONMENT"]);
    assert_eq!(keys.last(), Some(&"IDEMPOTENCY_DAYS"));
    assert_eq!(shown(&settings, "DATABASE_URL"), ("sqlite:/var/lib/us/user-service.db", Origin::Default));
    assert_eq!(shown(&settings, "ALLOW_SELF_RECHARGE"), ("false", Origin::Environment));
    assert_eq!(shown(&settings, "APP_VERSION"), (env!("CARGO_PKG_VERSION"), Origin::Default));
}

#[test]
fn no_secret_is_shown() {
    let vars = [
        ("SUPABASE_JWT_SECRET", SECRET),
        ("USER_SERVICE_API_KEY", KEY),
        ("DATABASE_URL", "postgresql://app:s3cret@db/users"),
    ];
    let (config, settings) = load(&vars).expect("config");
    assert_eq!(shown(&settings, "SUPABASE_JWT_SECRET").0, "***");
    assert_eq!(shown(&settings, "USER_SERVICE_API_KEY").0, "***");
    assert_eq!(shown(&settings, "DATABASE_URL").0, "postgresql://app:***@db/users");
    let everything = format!("{settings:?} {config:?}");
    assert!(![SECRET, KEY, "s3cret"].iter().any(|secret| everything.contains(secret)), "{everything}");
    assert_eq!(shown(&load(&[]).expect("config").1, "USER_SERVICE_API_KEY"), ("", Origin::Default));
}

#[test]
fn a_bad_value_is_named_with_its_key_and_its_rule() {
    for (key, text, expected) in [
        ("PORT", "abc", "PORT must be a whole number from 0 to 65535, but the environment says `abc`."),
        ("PORT", "65536", "PORT must be a whole number from 0 to 65535, but the environment says `65536`."),
        (
            "ENVIRONMENT",
            "prod",
            "ENVIRONMENT must be development, staging or production, but the environment says `prod`.",
        ),
        ("DEBUG", "maybe", "DEBUG must be true or false, but the environment says `maybe`."),
        (
            "AUTH_PROVIDER",
            "okta",
            "AUTH_PROVIDER must be auth0, supabase or both, but the environment says `okta`.",
        ),
        ("LOG_FORMAT", "xml", "LOG_FORMAT must be auto, json or text, but the environment says `xml`."),
        (
            "WELCOME_CREDITS",
            "-1",
            "WELCOME_CREDITS must be a number from 0 to 9000000000000 with at most 6 decimal places, but the environment says `-1`.",
        ),
        (
            "IDEMPOTENCY_DAYS",
            "29",
            "IDEMPOTENCY_DAYS must be a whole number from 30 to 3650, but the environment says `29`.",
        ),
        ("APP_NAME", "a\nb", "APP_NAME must be 1 to 100 characters, but the environment says `a\\nb`."),
        (
            "DATABASE_URL",
            "mysql://root:s3cret@db/users",
            "DATABASE_URL must be sqlite:path/to/file without parameters, or postgresql://user:password@host:port/database; the value comes from the environment and is not shown.",
        ),
        (
            "USER_SERVICE_API_KEY",
            "two words",
            "USER_SERVICE_API_KEY must be 1 to 255 visible ASCII characters without spaces; the value comes from the environment and is not shown.",
        ),
    ] {
        assert_eq!(sentence(&[(key, text)]), expected);
    }
}

#[test]
fn limits_hold_at_both_ends() {
    for (key, good, bad) in [
        ("PORT", ["0", "65535"], ["-1", "65536"]),
        ("DATABASE_POOL_SIZE", ["4", "1000"], ["3", "1001"]),
        ("WELCOME_CREDITS", ["0", "9000000000000"], ["0.0000001", "9000000000000.000001"]),
        ("WELCOME_CREDITS_DAYS", ["0", "36500"], ["-1", "36501"]),
        ("REFUND_CREDITS_DAYS", ["0", "36500"], ["1.5", "36501"]),
        ("JSON_BODY_LIMIT_BYTES", ["1024", "104857600"], ["1023", "104857601"]),
        ("BATCH_BODY_LIMIT_BYTES", ["1024", "1073741824"], ["1023", "1073741825"]),
        ("REQUEST_TIMEOUT_SECONDS", ["1", "3600"], ["0", "3601"]),
        ("SHUTDOWN_DELAY_SECONDS", ["0", "600"], ["-1", "601"]),
        ("SHUTDOWN_GRACE_SECONDS", ["0", "3600"], ["-1", "3601"]),
        ("IDEMPOTENCY_DAYS", ["30", "3650"], ["29", "3651"]),
    ] {
        for text in good {
            assert!(load(&[(key, text)]).is_ok(), "{key}={text}");
        }
        for text in bad {
            assert!(sentence(&[(key, text)]).starts_with(&format!("{key} must be a ")), "{key}={text}");
        }
    }
    assert_eq!(config(&[("WELCOME_CREDITS_DAYS", "0")]).welcome_credits_life, None);
    assert_eq!(config(&[("REFUND_CREDITS_DAYS", "0")]).refund_credits_life, None);
}

#[test]
fn log_levels_are_taken_in_the_words_of_other_loggers() {
    for (text, directives) in [
        ("INFO", "info"),
        ("Warning", "warn"),
        ("CRITICAL", "error"),
        ("off", "off"),
        ("info,user_service::db=DEBUG", "info,user_service::db=debug"),
        ("user_service=trace, hyper=warning", "user_service=trace,hyper=warn"),
    ] {
        assert_eq!(config(&[("LOG_LEVEL", text)]).log_level, directives);
    }
    assert_eq!(
        sentence(&[("LOG_LEVEL", "verbose")]),
        "LOG_LEVEL must be trace, debug, info, warn, error or off, or directives such as info,user_service::db=debug, but the environment says `verbose`."
    );
    for text in ["info,", "=debug", "user_service=loud", "a b=info,,"] {
        assert!(load(&[("LOG_LEVEL", text)]).is_err(), "{text}");
    }
}

#[test]
fn hosts_and_addresses_are_taken_as_people_paste_them() {
    for (text, host) in [("0.0.0.0", "0.0.0.0"), ("::", "::"), ("[::1]", "::1"), ("db-1.local", "db-1.local")]
    {
        assert_eq!(config(&[("HOST", text)]).host, host);
    }
    for text in ["0.0.0.0:80", "http://x", "a b", "[1.2.3.4]", ".", "a..b"] {
        assert!(load(&[("HOST", text)]).is_err(), "{text}");
    }
    for text in ["example.eu.auth0.com", "https://example.eu.auth0.com/", "https://example.eu.auth0.com"] {
        let auth0 = config(&[("AUTH0_DOMAIN", text)]).auth0.expect("Auth0");
        assert_eq!(auth0.issuer(), "https://example.eu.auth0.com/");
        assert_eq!(auth0.jwks_url(), "https://example.eu.auth0.com/.well-known/jwks.json");
    }
    assert_eq!(
        config(&[("AUTH0_DOMAIN", "http://127.0.0.1:4000")]).auth0.expect("Auth0").jwks_url(),
        "http://127.0.0.1:4000/.well-known/jwks.json"
    );
    for text in ["exa mple", "https://x/path", "ftp://x", "user@host", "https://x?y"] {
        assert!(load(&[("AUTH0_DOMAIN", text)]).is_err(), "{text}");
    }
    let supabase = config(&[("SUPABASE_URL", "https://abc.supabase.co/")]).supabase.expect("Supabase");
    assert_eq!(supabase.issuer().as_deref(), Some("https://abc.supabase.co/auth/v1"));
}

#[test]
fn origins_are_kept_as_browsers_send_them() {
    let vars = [("CORS_ORIGINS", " https://App.Example.com , http://[::1]:3000,,capacitor://localhost")];
    let origins = config(&vars).cors_origins.to_string();
    assert_eq!(origins, "https://app.example.com,http://[::1]:3000,capacitor://localhost");
    assert_eq!(
        sentence(&[("CORS_ORIGINS", "https://app.example.com/")]),
        "CORS_ORIGINS must be * or a comma list of origins without a path, such as https://app.example.com, but the environment says `https://app.example.com/`."
    );
    for text in ["app.example.com", "*,https://x", "https://x:0", "https://x:99999", "https://é", "null"] {
        assert!(load(&[("CORS_ORIGINS", text)]).is_err(), "{text}");
    }
}

#[test]
fn every_origin_with_credentials_is_refused_everywhere() {
    let any = config(&[("CORS_ORIGINS", "*")]);
    assert_eq!((any.cors_origins, any.cors_allow_credentials), (CorsOrigins::Any, false));
    assert_eq!(
        sentence(&[("CORS_ORIGINS", "*"), ("CORS_ALLOW_CREDENTIALS", "true")]),
        "CORS_ALLOW_CREDENTIALS must be false when CORS_ORIGINS is *, but the environment says `true`."
    );
}

#[test]
fn auth0_needs_its_domain_and_in_production_its_audience() {
    assert_eq!(sentence(&[("AUTH_PROVIDER", "auth0")]), "AUTH0_DOMAIN must be set when AUTH_PROVIDER=auth0.");
    let domain = ("AUTH0_DOMAIN", "example.eu.auth0.com");
    let alone = config(&[("AUTH_PROVIDER", "auth0"), domain]);
    assert!(alone.auth0.is_some() && alone.supabase.is_none());
    assert_eq!(config(&[("AUTH_PROVIDER", "supabase"), domain]).auth0, None);
    assert_eq!(
        sentence(&production(&[domain])),
        "AUTH0_AUDIENCE must be set when Auth0 is on and ENVIRONMENT=production."
    );
    assert!(load(&production(&[domain, ("AUTH0_AUDIENCE", "https://api")])).is_ok());
    assert_eq!(
        sentence(&production(&[("AUTH0_DOMAIN", "http://x"), ("AUTH0_AUDIENCE", "https://api")])),
        "AUTH0_DOMAIN must use https when ENVIRONMENT=production, but the environment says `http://x`."
    );
}

#[test]
fn staging_and_production_refuse_the_development_secret() {
    let known = source::development_secret().expect("a default");
    for environment in ["staging", "production"] {
        assert_eq!(
            sentence(&[("ENVIRONMENT", environment)]),
            format!(
                "SUPABASE_JWT_SECRET must be set when ENVIRONMENT={environment}, because its default is the development secret, which everybody knows."
            )
        );
        assert_eq!(
            sentence(&[("ENVIRONMENT", environment), ("SUPABASE_JWT_SECRET", &known)]),
            format!(
                "SUPABASE_JWT_SECRET must not be the development secret when ENVIRONMENT={environment}; the value comes from the environment and is not shown."
            )
        );
    }
    // Any other means to check tokens will do, and then the development secret checks none.
    for means in [
        &[("AUTH0_DOMAIN", "example.eu.auth0.com"), ("AUTH0_AUDIENCE", "https://api")][..],
        &[("SUPABASE_URL", "https://abc.supabase.co")],
        &[("OIDC_ISSUERS", "https://login.example.com audience=api")],
    ] {
        let config = config(&[&[("ENVIRONMENT", "production")], means].concat());
        assert!(config.supabase.and_then(|supabase| supabase.jwt_secret).is_none(), "{means:?}");
    }
    assert_eq!(
        sentence(&production(&[("SUPABASE_URL", "http://abc.supabase.co")])),
        "SUPABASE_URL must use https when ENVIRONMENT=production, but the environment says `http://abc.supabase.co`."
    );
}

#[test]
fn production_takes_random_secrets_of_some_length_only() {
    assert!(load(&production(&[("USER_SERVICE_API_KEY", KEY)])).is_ok());
    assert_eq!(
        sentence(&production(&[("SUPABASE_JWT_SECRET", &SECRET[1..])])),
        "SUPABASE_JWT_SECRET must have at least 32 characters when ENVIRONMENT=production; the value comes from the environment and is not shown."
    );
    assert_eq!(
        sentence(&production(&[("USER_SERVICE_API_KEY", &KEY[1..])])),
        "USER_SERVICE_API_KEY must have at least 24 characters when ENVIRONMENT=production; the value comes from the environment and is not shown."
    );
    for key in [
        "changeme-changeme-changeme",
        "usk_change_me_please_1234567",
        "dev-9fQ2mX7cV4bN8kL3tR6w",
        "usk_test_9fQ2mX7cV4bN8kL3tR6w",
        "your-secret-goes-here-0123456",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ] {
        assert_eq!(
            sentence(&production(&[("USER_SERVICE_API_KEY", key)])),
            "USER_SERVICE_API_KEY must be a random secret and no placeholder when ENVIRONMENT=production; the value comes from the environment and is not shown."
        );
        assert!(load(&[("USER_SERVICE_API_KEY", key)]).is_ok(), "a desk takes any key");
    }
    let vendors = "your-super-secret-jwt-token-with-at-least-32-characters-long";
    assert!(sentence(&production(&[("SUPABASE_JWT_SECRET", vendors)])).contains("no placeholder"));
}

#[test]
fn production_is_no_desk() {
    assert_eq!(
        sentence(&production(&[("DEBUG", "true")])),
        "DEBUG must be false when ENVIRONMENT=production, but the environment says `true`."
    );
    assert_eq!(
        sentence(&production(&[("ALLOW_SELF_RECHARGE", "1")])),
        "ALLOW_SELF_RECHARGE must be false when ENVIRONMENT=production, but the environment says `1`."
    );
    let config = config(&production(&[]));
    assert!(!config.allow_self_recharge);
    assert_eq!(config.cors_origins, CorsOrigins::These(Vec::new()));
}

#[test]
fn files_are_in_the_data_folder_or_in_one_bucket() {
    assert!(matches!(config(&[]).file_store, FileStore::Local));
    let key = [("S3_ACCESS_KEY_ID", "id"), ("S3_SECRET_ACCESS_KEY", "secret")];
    let s3 = |more: &[(&str, &str)]| match config(more).file_store {
        FileStore::S3(s3) => s3,
        FileStore::Local => panic!("no bucket"),
    };
    let amazon = s3(&[&[("S3_BUCKET", "files"), ("AWS_REGION", "eu-west-1")], &key[..]].concat());
    assert_eq!((amazon.region.as_str(), amazon.endpoint, amazon.path_style), ("eu-west-1", None, false));
    assert!(s3(&[("S3_BUCKET", "files")]).keys.is_none(), "the machine's own role");
    let aws = [
        ("S3_BUCKET", "files"),
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
        ("AWS_SESSION_TOKEN", "t"),
    ];
    let keys = s3(&aws).keys.expect("keys");
    assert_eq!((keys.id.as_str(), keys.session_token.expect("a token").expose()), ("a", "t"));
    let other =
        s3(&[&[("S3_BUCKET", "files"), ("S3_ENDPOINT", "https://s3.example.com/")], &key[..]].concat());
    assert_eq!((other.endpoint.as_deref(), other.path_style), (Some("https://s3.example.com"), true));
    let minio = [
        ("MINIO_ENDPOINT", "localhost:9000"),
        ("MINIO_ACCESS_KEY", "minioadmin"),
        ("MINIO_SECRET_KEY", "minioadmin"),
        ("MINIO_BUCKET_NAME", "files"),
    ];
    let found = s3(&minio);
    assert_eq!((found.endpoint.as_deref(), found.path_style), (Some("http://localhost:9000"), true));
    let secure = s3(&[&minio[..], &[("MINIO_SECURE", "true")]].concat());
    assert_eq!(secure.endpoint.as_deref(), Some("https://localhost:9000"));
    assert_eq!(
        sentence(&production(&minio)),
        "MINIO_SECRET_KEY must not be minioadmin, which everybody knows, when ENVIRONMENT=production; the value comes \
         from the environment and is not shown."
    );
}

#[test]
fn half_a_store_is_refused_by_the_name_of_what_is_missing() {
    for (vars, refusal) in [
        (
            &[("S3_BUCKET", "files"), ("S3_ACCESS_KEY_ID", "id")][..],
            "S3_SECRET_ACCESS_KEY must be set when S3_ACCESS_KEY_ID is",
        ),
        (
            &[("S3_BUCKET", "files"), ("S3_SECRET_ACCESS_KEY", "s")],
            "S3_ACCESS_KEY_ID must be set when S3_SECRET_ACCESS_KEY is",
        ),
        (
            &[("S3_BUCKET", "files"), ("AWS_ACCESS_KEY_ID", "id")],
            "AWS_SECRET_ACCESS_KEY must be set when AWS_ACCESS_KEY_ID is",
        ),
        (
            &[("S3_BUCKET", "files"), ("S3_ENDPOINT", "http://x")],
            "S3_ACCESS_KEY_ID must be set when S3_ENDPOINT is",
        ),
        (&[("MINIO_ENDPOINT", "x:9000")], "MINIO_BUCKET_NAME must be set when MINIO_ENDPOINT is"),
        (
            &[("MINIO_ENDPOINT", "x:9000"), ("MINIO_BUCKET_NAME", "files")],
            "MINIO_ACCESS_KEY must be set when MINIO_ENDPOINT is",
        ),
        (&[("S3_BUCKET", "a/b")], "S3_BUCKET must be a bucket's name"),
        (&[("S3_ENDPOINT", "s3.example.com")], "S3_ENDPOINT must be an address such as"),
        (&[("PUBLIC_URL", "users.example.com")], "PUBLIC_URL must be an address such as"),
        (&[("UPLOAD_MAX_SIZE", "50MB")], "UPLOAD_MAX_SIZE must be a whole number from 1024 to 5368709120"),
    ] {
        let said = sentence(vars);
        assert!(said.starts_with(refusal), "{said}");
    }
}

#[test]
fn a_quota_is_that_of_the_plan_or_of_every_other() {
    let quotas = config(&[("FILE_QUOTAS", "pro=20, *=10")]).file_quotas;
    assert_eq!((quotas.of("pro"), quotas.of("free"), quotas.of("*")), (20, 10, 10));
    assert_eq!(config(&[]).file_quotas.of("enterprise"), 107_374_182_400);
    for bad in ["pro=20", "*=-1", "*=x", "*", "*=1,*=2", "=1,*=1", "*=9007199254740992"] {
        assert!(
            sentence(&[("FILE_QUOTAS", bad)]).starts_with("FILE_QUOTAS must be a comma list of plan=bytes"),
            "{bad}"
        );
    }
}

#[test]
fn what_an_agent_acts_with_is_a_token_and_is_not_shown() {
    let (hosts, long) = ("a,".repeat(101), "x".repeat(8193));
    for (key, bad, refusal) in [
        ("MCP_ALLOWED_HOSTS", "http://users.example.com", "MCP_ALLOWED_HOSTS must be * or up to 100 hosts"),
        ("MCP_ALLOWED_HOSTS", &hosts, "MCP_ALLOWED_HOSTS must be * or up to 100 hosts"),
        ("MCP_TOKEN", "two words", "MCP_TOKEN must be at most 8192 visible ASCII characters without spaces"),
        ("MCP_TOKEN", &long, "MCP_TOKEN must be at most 8192 visible ASCII characters without spaces"),
    ] {
        let said = sentence(&[(key, bad)]);
        assert!(said.starts_with(refusal) && !(key == "MCP_TOKEN" && said.contains(bad)), "{said}");
    }
    assert!(config(&[("MCP_TOKEN", "usk_a")]).mcp_token.is_some_and(|token| token.expose() == "usk_a"));
}
