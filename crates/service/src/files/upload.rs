//! Uploading a file in a form.

use super::address::{BaseUrl, download_url};
use super::keep::{self, Incoming};
use super::model::{Status, StoredFile};
use super::{name, receive, store};
use crate::app::App;
use crate::auth::grants::CanWriteFiles;
use crate::http::envelope::bytes as to_bytes;
use crate::http::{ApiError, Envelope, facts};
use crate::users::api::{UserPath, answered};
use crate::writer::{Answer, Ticket, WriteError};
use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use axum::response::Response;
use bytes::Bytes;
use kernel::{ExternalId, Timestamp};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// A file that was uploaded.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct UploadView {
    /// The public id, a UUID.
    #[schema(max_length = 36)]
    file_id: String,
    /// Its path: what the other routes take.
    #[schema(max_length = 700)]
    file_path: String,
    /// Its name as the client said it.
    #[schema(max_length = 255)]
    file_name: String,
    /// An address that needs no token, for an hour.
    #[schema(max_length = 8000)]
    download_url: String,
    /// How many bytes it has.
    #[schema(minimum = 1, maximum = 5_368_709_120_i64)]
    file_size: i64,
    /// What it is, by its bytes.
    #[schema(max_length = 100)]
    content_type: &'static str,
    /// The SHA-256 of its bytes in hex digits.
    #[schema(max_length = 64)]
    sha256: String,
    /// The store's ETag, without quotes.
    #[schema(max_length = 200)]
    etag: String,
    /// When it was uploaded.
    uploaded_at: Timestamp,
}

/// Answers with the body that tells of an uploaded file.
pub(super) fn respond(
    user: &ExternalId,
    download_url: String,
    now: Timestamp,
) -> impl Fn(&StoredFile) -> Bytes + Clone + Send + Sync + 'static {
    let user = user.clone();
    move |file| {
        let view = UploadView {
            file_id: file.file_id.clone(),
            file_path: name::public(&user, &file.path),
            file_name: file.file_name.clone(),
            download_url: download_url.clone(),
            file_size: file.size,
            content_type: file.kind.media_type(),
            sha256: file.sha256.clone(),
            etag: file.etag.clone(),
            uploaded_at: file.created_at,
        };
        to_bytes(&Envelope::new("File uploaded successfully", now, view))
    }
}

/// What was answered to the same request before, if anything.
///
/// # Errors
/// 422 when the key was used for another request.
pub(super) async fn replay(app: &App, ticket: &Ticket) -> Result<Option<Response>, ApiError> {
    let Some(key) = &ticket.key else { return Ok(None) };
    match store::first_answer(&app.db, &key.caller, &key.key).await? {
        Some(first) if first.fingerprint == key.fingerprint => {
            Ok(Some(answered(Answer { body: first.body.into(), replayed: true })))
        }
        Some(_) => Err(WriteError::IdempotencyMismatch.into()),
        None => Ok(None),
    }
}

/// A file in a form.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only described: `receive` streams the form")]
pub struct UploadForm {
    /// The file; other fields are ignored.
    #[schema(value_type = String, format = Binary, content_media_type = "application/octet-stream", max_length = 5_368_709_120_usize)]
    file: Vec<u8>,
}

/// Upload a file
///
/// PDF, CSV, Excel (xls, xlsx), JPEG, PNG, GIF, WebP, plain text or JSON, told by the bytes.
#[utoipa::path(
    post, path = "/api/v1/users/{user_id}/files/upload", tag = "Files", operation_id = "upload_file",
    params(UserPath), security(("bearer" = []), ("service_key" = ["files:write"])),
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, body = Envelope<UploadView>, description = "The file is stored", links(
            ("info" = (operation_id = "get_file_info", parameters(("file_path" = "$response.body#/data/file_path")))),
            ("download" = (operation_id = "download_file", parameters(("file_path" = "$response.body#/data/file_path")))),
            ("delete" = (operation_id = "delete_file", parameters(("file_path" = "$response.body#/data/file_path")))),
        )),
        (status = 413, body = crate::http::docs::Error, description = "The file is larger than `UPLOAD_MAX_SIZE`, or \
            the user's files would pass the plan's quota (`QuotaExceededException`)"),
        (status = 415, body = crate::http::docs::Error, description = "The body is no form, or the file is of no accepted type"),
    ),
)]
pub async fn upload_file(
    State(app): State<Arc<App>>,
    on: CanWriteFiles,
    base: BaseUrl,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let receive::Uploaded { spool, file_name, kind, once } =
        receive::receive(&app, on.user.row, request).await?;
    let ticket = once.ticket(on.caller.principal.caller());
    if let Some(first) = replay(&app, &ticket).await? {
        return Ok(first);
    }
    let now = app.clock.now();
    let file_id = facts::fresh_id().to_string();
    // The last digits of a fresh id are random.
    let unique = &file_id[file_id.len() - 8..];
    let file = StoredFile {
        id: 0,
        user: on.user.row,
        path: name::path(&file_name, kind, now, unique),
        file_id,
        file_name,
        kind,
        size: i64::try_from(spool.size).unwrap_or(i64::MAX),
        sha256: spool.hex(),
        etag: String::new(),
        status: Status::Storing,
        upload_id: None,
        staged_until: None,
        created_at: now,
    };
    let url = download_url(&app, &base, &on.user.auth0_id, &file).await?;
    let respond = respond(&on.user.auth0_id, url, now);
    let incoming = Incoming { file, auth0_id: on.user.auth0_id, spool, ticket };
    keep::keep(&app, incoming, respond).await.map(answered)
}
