//! Objects in an S3 bucket: Amazon's, MinIO's, or any other that signs with version 4.
//!
//! Up to 5 MiB an object is one request; above, it is uploaded in parts of 5 MiB that are read from
//! the spool, and at most two parts of the whole process are in memory at a time. Every wait and
//! every retry has an end.

use super::{About, ObjectError};
use crate::config::S3 as Settings;
use crate::files::spool::{Spool, Spools};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::multipart::{MultipartStore as _, PartId};
use object_store::path::Path as Key;
use object_store::signer::{Method, Signer as _};
use object_store::{
    Attribute, Attributes, BackoffConfig, ClientOptions, ObjectStore as _, ObjectStoreExt as _,
};
use object_store::{PutMultipartOptions, PutOptions, PutPayload, RetryConfig};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// The size of a part, but for the last: the least that S3 takes.
const PART_BYTES: u64 = 5 * 1024 * 1024;
/// How many parts of the whole process are in memory.
const PARTS_AT_ONCE: usize = 2;
/// How long one request may take, and how long connecting may.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How often and how long a request is tried again.
const RETRIES: usize = 2;
const RETRY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the check for health may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);

/// The bucket.
pub struct S3 {
    store: AmazonS3,
    parts: Semaphore,
}

impl S3 {
    /// The bucket that the settings name.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn open(settings: &Settings) -> Result<Self, String> {
        let client = ClientOptions::new()
            .with_timeout(REQUEST_TIMEOUT)
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_allow_http(settings.endpoint.as_ref().is_some_and(|address| address.starts_with("http:")));
        let retry = RetryConfig {
            backoff: BackoffConfig { max_backoff: Duration::from_secs(1), ..BackoffConfig::default() },
            max_retries: RETRIES,
            retry_timeout: RETRY_TIMEOUT,
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&settings.bucket)
            .with_region(&settings.region)
            .with_virtual_hosted_style_request(!settings.path_style)
            .with_client_options(client)
            .with_retry(retry);
        if let Some(endpoint) = &settings.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(keys) = &settings.keys {
            builder = builder.with_access_key_id(&keys.id).with_secret_access_key(keys.secret.expose());
            if let Some(token) = &keys.session_token {
                builder = builder.with_token(token.expose());
            }
        }
        let store = builder.build().map_err(|error| format!("S3_BUCKET: {error}"))?;
        Ok(Self { store, parts: Semaphore::new(PARTS_AT_ONCE) })
    }

    /// Begins an upload in parts for whatever is larger than one part.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn begin(&self, key: &str, size: u64, about: &About) -> Result<Option<String>, ObjectError> {
        if size <= PART_BYTES {
            return Ok(None);
        }
        let options = PutMultipartOptions { attributes: attributes(about), ..PutMultipartOptions::default() };
        Ok(Some(self.store.create_multipart_opts(&parse(key)?, options).await?))
    }

    /// Stores a file, in parts where `upload` was begun.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn put(
        &self,
        key: &str,
        file: &Spool,
        about: &About,
        upload: Option<&str>,
    ) -> Result<String, ObjectError> {
        let key = parse(key)?;
        let put = match upload {
            None => {
                let _room = self.parts.acquire().await;
                let payload = read(file.path().to_owned(), 0, file.size).await?;
                let options = PutOptions { attributes: attributes(about), ..PutOptions::default() };
                self.store.put_opts(&key, payload, options).await?
            }
            Some(upload) => {
                let upload = upload.to_owned();
                let count = usize::try_from(file.size.div_ceil(PART_BYTES)).unwrap_or(usize::MAX);
                let parts: Vec<PartId> = stream::iter(0..count)
                    .map(|number| self.part(&key, &upload, file, number))
                    .buffered(PARTS_AT_ONCE)
                    .try_collect()
                    .await?;
                self.store.complete_multipart(&key, &upload, parts).await?
            }
        };
        Ok(put.e_tag.unwrap_or_default().trim_matches('"').to_owned())
    }

    async fn part(
        &self,
        key: &Key,
        upload: &String,
        file: &Spool,
        number: usize,
    ) -> Result<PartId, ObjectError> {
        let _room = self.parts.acquire().await;
        let from = number as u64 * PART_BYTES;
        let payload = read(file.path().to_owned(), from, PART_BYTES.min(file.size - from)).await?;
        Ok(self.store.put_part(key, upload, number, payload).await?)
    }

    /// Ends an upload in parts.
    ///
    /// # Errors
    /// [`ObjectError::Unavailable`].
    pub async fn abort(&self, key: &str, upload: &str) -> Result<(), ObjectError> {
        match self.store.abort_multipart(&parse(key)?, &upload.to_owned()).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            // Some stores say so of an upload that has ended already. Where the key may really not end
            // uploads, nothing here can.
            Err(
                object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. },
            ) => {
                tracing::debug!(
                    "the store does not let an upload in parts be ended; it may have ended before"
                );
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Removes an object.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        Ok(self.store.delete(&parse(key)?).await?)
    }

    /// Downloads an object of at most `limit` bytes.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn fetch(&self, key: &str, limit: u64, spools: &Spools) -> Result<Spool, ObjectError> {
        let found = self.store.get(&parse(key)?).await?;
        if found.meta.size > limit {
            return Err(ObjectError::TooLarge);
        }
        let mut receiving = spools.receive().await?;
        let mut bytes = found.into_stream();
        while let Some(chunk) = bytes.try_next().await? {
            receiving.push(&chunk).await?;
            if receiving.size() > limit {
                return Err(ObjectError::TooLarge);
            }
        }
        Ok(receiving.finish().await?)
    }

    /// Lists a folder that is empty: that takes the endpoint, the bucket and the key to be right.
    ///
    /// # Errors
    /// [`ObjectError::Unavailable`].
    pub async fn check(&self) -> Result<(), ObjectError> {
        let none = Key::from("health");
        let listed = tokio::time::timeout(CHECK_TIMEOUT, self.store.list_with_delimiter(Some(&none))).await;
        match listed {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(ObjectError::Unavailable(error.to_string())),
            Err(_) => Err(ObjectError::Unavailable("the object store does not answer".to_owned())),
        }
    }

    /// An address that lets anybody read an object for that long.
    ///
    /// # Errors
    /// [`ObjectError::Unavailable`] when the credentials cannot be had.
    pub async fn address_to_get(&self, key: &str, life: Duration) -> Result<String, ObjectError> {
        Ok(self.store.signed_url(Method::GET, &parse(key)?, life).await?.into())
    }

    /// An address that lets anybody write an object for that long.
    ///
    /// # Errors
    /// [`ObjectError::Unavailable`] when the credentials cannot be had.
    pub async fn address_to_put(&self, key: &str, life: Duration) -> Result<String, ObjectError> {
        Ok(self.store.signed_url(Method::PUT, &parse(key)?, life).await?.into())
    }
}

fn parse(key: &str) -> Result<Key, ObjectError> {
    Key::parse(key).map_err(|_| ObjectError::NotFound)
}

fn attributes(about: &About) -> Attributes {
    let mut attributes = Attributes::new();
    attributes.insert(Attribute::ContentType, about.kind.media_type().into());
    attributes.insert(Attribute::ContentDisposition, about.disposition.clone().into());
    attributes
}

/// A part of a file, in memory.
async fn read(path: PathBuf, from: u64, length: u64) -> Result<PutPayload, ObjectError> {
    let bytes = spawn_blocking(move || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = vec![0; usize::try_from(length).map_err(std::io::Error::other)?];
        file.read_exact(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    });
    let bytes = bytes.await.map_err(|error| ObjectError::Unavailable(error.to_string()))??;
    Ok(bytes.into())
}
