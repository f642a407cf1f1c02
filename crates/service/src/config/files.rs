//! Settings of files: where they are kept, how large they may be, how much a plan may keep.

use super::source::{ConfigError, Reader};
use super::{Config, value};
use kernel::Secret;
use std::collections::BTreeMap;

const BUCKET_RULE: &str = "be a bucket's name: 3 to 63 of a-z, A-Z, 0-9, dots, hyphens and underscores";
const REGION_RULE: &str = "be a region such as eu-central-1";
const ENDPOINT_RULE: &str = "be a host with an optional port, such as localhost:9000";
const QUOTAS_RULE: &str =
    "be a comma list of plan=bytes with a number of bytes up to 9007199254740991, and * for every other plan";
/// The most bytes that a quota can say: what a JSON number holds exactly.
pub(super) const QUOTA_MAX: i64 = 9_007_199_254_740_991;

/// Where files are kept.
#[derive(Debug, Clone)]
pub enum FileStore {
    /// In the data folder.
    Local,
    /// In a bucket.
    S3(S3),
}

/// A bucket and how to reach it.
#[derive(Debug, Clone)]
pub struct S3 {
    /// `S3_BUCKET` or `MINIO_BUCKET_NAME`.
    pub bucket: String,
    /// `S3_REGION`, or `AWS_REGION`.
    pub region: String,
    /// `S3_ENDPOINT` or `MINIO_ENDPOINT`, as an address; Amazon's when absent.
    pub endpoint: Option<String>,
    /// The key; the machine's own role when absent, which only Amazon has.
    pub keys: Option<S3Keys>,
    /// Whether the bucket stands in the path instead of the host.
    pub path_style: bool,
}

/// A key of S3.
#[derive(Debug, Clone)]
pub struct S3Keys {
    /// Its public half.
    pub id: String,
    /// Its secret half.
    pub secret: Secret,
    /// What goes with a key of limited life.
    pub session_token: Option<Secret>,
}

/// How many bytes a user's files may have together, by plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileQuotas {
    plans: BTreeMap<String, i64>,
    other: i64,
}

impl FileQuotas {
    /// The quota of a plan in bytes.
    #[must_use]
    pub fn of(&self, plan: &str) -> i64 {
        self.plans.get(plan).copied().unwrap_or(self.other)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut plans = BTreeMap::new();
        for part in text.split(',') {
            let (plan, bytes) = part.split_once('=')?;
            let bytes = bytes.trim().parse().ok().filter(|bytes| (0..=QUOTA_MAX).contains(bytes))?;
            let plan = plan.trim();
            if plan.is_empty() || plans.insert(plan.to_owned(), bytes).is_some() {
                return None;
            }
        }
        let other = plans.remove("*")?;
        Some(Self { plans, other })
    }
}

pub(super) fn quotas(reader: &mut Reader) -> Result<FileQuotas, ConfigError> {
    reader.parse("FILE_QUOTAS", QUOTAS_RULE, FileQuotas::parse)
}

/// Reads every key of the stores, used or not, so that a wrong one is named at once.
pub(super) fn store(reader: &mut Reader) -> Result<FileStore, ConfigError> {
    let bucket = reader.optional("S3_BUCKET", BUCKET_RULE, bucket)?;
    let region = reader.optional("S3_REGION", REGION_RULE, region)?;
    let endpoint = reader.optional("S3_ENDPOINT", value::WEB_ADDRESS_RULE, value::web_address)?;
    let path_style = reader.flag_or("S3_PATH_STYLE", endpoint.is_some())?;
    let own = keys(reader, "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY")?;
    let aws = keys(reader, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")?;
    let token = reader.secret("AWS_SESSION_TOKEN", "be visible ASCII characters", visible)?;
    let aws_region = reader.optional("AWS_REGION", REGION_RULE, self::region)?;
    let minio = minio(reader)?;
    match (bucket, minio) {
        (Some(_), Some(_)) => Err(reader.refusal("MINIO_ENDPOINT", "not be set when S3_BUCKET is")),
        (None, Some(minio)) => Ok(FileStore::S3(minio)),
        (None, None) => Ok(FileStore::Local),
        (Some(bucket), None) => {
            let keys = match own.complete(reader)? {
                Some(keys) => Some(keys),
                None => aws.complete(reader)?.map(|keys| S3Keys { session_token: token, ..keys }),
            };
            if keys.is_none() && endpoint.is_some() {
                return Err(reader.refusal("S3_ACCESS_KEY_ID", "be set when S3_ENDPOINT is"));
            }
            let region = region.or(aws_region).unwrap_or_else(|| "us-east-1".to_owned());
            Ok(FileStore::S3(S3 { bucket, region, endpoint, keys, path_style }))
        }
    }
}

fn minio(reader: &mut Reader) -> Result<Option<S3>, ConfigError> {
    let secure = reader.flag("MINIO_SECURE")?;
    let scheme = if secure { "https" } else { "http" };
    let address = |text: &str| {
        let address = if text.contains("://") { text.to_owned() } else { format!("{scheme}://{text}") };
        value::web_address(&address)
    };
    let endpoint = reader.optional("MINIO_ENDPOINT", ENDPOINT_RULE, address)?;
    let bucket = reader.optional("MINIO_BUCKET_NAME", BUCKET_RULE, bucket)?;
    let keys = keys(reader, "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY")?;
    let Some(endpoint) = endpoint else { return Ok(None) };
    let needed = "be set when MINIO_ENDPOINT is";
    let bucket = bucket.ok_or_else(|| reader.refusal("MINIO_BUCKET_NAME", needed))?;
    let keys = keys.complete(reader)?.ok_or_else(|| reader.refusal("MINIO_ACCESS_KEY", needed))?;
    let region = "us-east-1".to_owned();
    Ok(Some(S3 { bucket, region, endpoint: Some(endpoint), keys: Some(keys), path_style: true }))
}

/// The two halves of a key, each under its name.
struct Halves {
    id: (&'static str, Option<String>),
    secret: (&'static str, Option<Secret>),
}

fn keys(reader: &mut Reader, id: &'static str, secret: &'static str) -> Result<Halves, ConfigError> {
    let fits = |text: &str| visible(text).then(|| text.to_owned());
    let id_text = reader.optional(id, value::KEY_RULE, fits)?;
    let secret_text = reader.secret(secret, value::KEY_RULE, visible)?;
    Ok(Halves { id: (id, id_text), secret: (secret, secret_text) })
}

impl Halves {
    /// The key, where there is one; half of one is refused by the name of what is missing.
    fn complete(self, reader: &Reader) -> Result<Option<S3Keys>, ConfigError> {
        let missing = |key: &str, other: &str| Err(reader.refusal(key, &format!("be set when {other} is")));
        match (self.id.1, self.secret.1) {
            (Some(id), Some(secret)) => Ok(Some(S3Keys { id, secret, session_token: None })),
            (None, None) => Ok(None),
            (Some(_), None) => missing(self.secret.0, self.id.0),
            (None, Some(_)) => missing(self.id.0, self.secret.0),
        }
    }
}

/// Production takes no store whose key everybody knows.
pub(super) fn production(config: &Config, reader: &Reader) -> Result<(), ConfigError> {
    let FileStore::S3(S3 { keys: Some(keys), .. }) = &config.file_store else { return Ok(()) };
    if keys.id != "minioadmin" && keys.secret.expose() != "minioadmin" {
        return Ok(());
    }
    let key = if reader.given("MINIO_ENDPOINT") { "MINIO_SECRET_KEY" } else { "S3_SECRET_ACCESS_KEY" };
    Err(reader.refusal(key, "not be minioadmin, which everybody knows, when ENVIRONMENT=production"))
}

fn bucket(text: &str) -> Option<String> {
    let fits = (3..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    fits.then(|| text.to_owned())
}

fn region(text: &str) -> Option<String> {
    let fits = text.len() <= 63 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    fits.then(|| text.to_owned())
}

fn visible(text: &str) -> bool {
    text.len() <= 4096 && text.bytes().all(|b| b.is_ascii_graphic())
}
