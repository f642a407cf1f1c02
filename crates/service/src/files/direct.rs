//! Direct uploads: an address to `PUT` a file to, and a word when it is there.
//!
//! The address leads to a staging key, never to the file's own: what was checked is copied away from
//! where the client can still write, so what is stored is what was checked.

use super::address::{BaseUrl, download_url};
use super::api::not_found;
use super::keep::{self, Incoming};
use super::kind::Kind;
use super::model::{Status, StoredFile};
use super::objects::{ObjectError, Objects, staging_key};
use super::upload::{UploadView, replay, respond};
use super::{edits, name, receive, store};
use crate::app::App;
use crate::auth::grants::CanWriteFiles;
use crate::http::envelope::{bytes as to_bytes, json_bytes};
use crate::http::{ApiError, Envelope, Input, facts};
use crate::users::api::{UserPath, answered};
use crate::writer::{Command, WriteError};
use axum::extract::State;
use axum::response::Response;
use kernel::{Text, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};

/// How long an address to upload to works.
pub const UPLOAD_LIFE: Duration = Duration::from_secs(15 * 60);

/// What is going to be uploaded.
#[derive(Debug, Deserialize, ToSchema)]
pub struct UploadUrlRequest {
    /// The file's name; its extension says what the bytes will be.
    #[schema(value_type = String, min_length = 1, max_length = 255)]
    file_name: Text<1, 255>,
    /// How many bytes it will have; refused at once when that is too many.
    #[schema(minimum = 1, maximum = 5_368_709_120_i64)]
    file_size: Option<u64>,
}

/// Where to upload to.
#[derive(Debug, Serialize, ToSchema)]
pub struct UploadUrlView {
    /// The public id: what `complete` takes.
    #[schema(max_length = 36)]
    file_id: String,
    /// The path that the file will have.
    #[schema(max_length = 700)]
    file_path: String,
    /// The address.
    #[schema(max_length = 8000)]
    upload_url: String,
    /// Always `PUT`; the body is the file.
    #[schema(max_length = 10)]
    method: &'static str,
    /// The headers that the request must have.
    #[schema(schema_with = headers)]
    headers: BTreeMap<String, String>,
    /// Until when the address works.
    expires_at: Timestamp,
}

/// Headers by name.
fn headers() -> ObjectBuilder {
    let text = ObjectBuilder::new().schema_type(Type::String).max_length(Some(1000));
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .additional_properties(Some(Schema::from(text)))
        .max_properties(Some(10))
}

/// Ask for an address to upload to
///
/// `PUT` the file's bytes there within 15 minutes, then call `complete`.
#[utoipa::path(
    post, path = "/api/v1/users/{user_id}/files/upload-url", tag = "Files", operation_id = "create_upload_url",
    params(UserPath), security(("bearer" = []), ("service_key" = ["files:write"])),
    request_body(content = UploadUrlRequest, example = json!({"file_name": "document.pdf", "file_size": 2_048_576})),
    responses(
        (status = 200, body = Envelope<UploadUrlView>, description = "The address", links(
            ("complete" = (operation_id = "complete_upload", parameters(("user_id" = "$request.path.user_id")))),
        )),
        (status = 413, body = crate::http::docs::Error, description = "The file would be larger than `UPLOAD_MAX_SIZE`, or \
            the user's files would pass the plan's quota (`QuotaExceededException`)"),
        (status = 415, body = crate::http::docs::Error, description = "The body is not JSON, or the name's extension is of no accepted type"),
    ),
)]
pub async fn create_upload_url(
    State(app): State<Arc<App>>,
    on: CanWriteFiles,
    base: BaseUrl,
    Input { value, once }: Input<UploadUrlRequest>,
) -> Result<Response, ApiError> {
    let file_name = name::kept(value.file_name.as_str());
    let kind = Kind::promised(&file_name)
        .ok_or_else(|| receive::not_accepted("the name's extension is none of theirs"))?;
    let size = value.file_size.unwrap_or_default();
    if size > app.config.upload_max_size {
        return Err(receive::too_large(app.config.upload_max_size));
    }
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    room(&app, &on, size).await?;
    let now = app.clock.now();
    let file_id = facts::fresh_id().to_string();
    let unique = &file_id[file_id.len() - 8..];
    let expires_at = now.plus(UPLOAD_LIFE);
    let file = StoredFile {
        id: 0,
        user: on.user.row,
        path: name::path(&file_name, kind, now, unique),
        file_id,
        file_name,
        kind,
        size,
        sha256: String::new(),
        etag: String::new(),
        status: Status::Expected,
        upload_id: None,
        staged_until: Some(expires_at),
        created_at: now,
    };
    let file_path = name::public(&on.user.auth0_id, &file.path);
    let upload_url = upload_url(&app, &base, &file, &file_path, expires_at).await?;
    let view = UploadUrlView {
        file_id: file.file_id.clone(),
        file_path,
        upload_url,
        method: "PUT",
        headers: BTreeMap::new(),
        expires_at,
    };
    let body = to_bytes(&Envelope::new("Upload address created successfully", now, view));
    let ticket = once.ticket(on.caller.principal.caller());
    match app.writer.submit(Command::Edit(edits::expect(&file)), ticket, move |_| body.clone()).await {
        Err(WriteError::Refused(0)) => Err(ApiError::user_not_found(on.user.auth0_id.as_str())),
        Err(WriteError::Refused(_)) => Err(ApiError::conflict(format!(
            "At most {} direct uploads may be open; complete one, or wait an hour",
            edits::EXPECTED_MAX
        ))),
        other => Ok(answered(other?)),
    }
}

/// Refuses at once what the quota would refuse later; the word is with the reservation.
async fn room(app: &App, on: &CanWriteFiles, size: i64) -> Result<(), ApiError> {
    let quota = store::quota(app, on.user.row).await?;
    let used = store::totals(&app.db, on.user.row).await?.bytes;
    if used.saturating_add(size) > quota { Err(keep::quota_exceeded(quota, used, size)) } else { Ok(()) }
}

async fn upload_url(
    app: &App,
    base: &BaseUrl,
    file: &StoredFile,
    file_path: &str,
    until: Timestamp,
) -> Result<String, ApiError> {
    match &app.files.objects {
        Objects::Local(_) => Ok(format!("{}{}", base.0, app.files.signer.address("PUT", file_path, until))),
        Objects::S3(s3) => s3
            .address_to_put(&staging_key(file.user, &file.file_id), UPLOAD_LIFE)
            .await
            .map_err(|error| ApiError::unavailable("The object store is not available", error.to_string())),
    }
}

/// Which direct upload is complete.
#[derive(Debug, Deserialize, ToSchema)]
pub struct CompleteRequest {
    /// `file_id` of the answer that had the address.
    #[schema(value_type = String, min_length = 1, max_length = 36)]
    file_id: Text<1, 36>,
}

/// Complete a direct upload
///
/// Checks size, quota and type, and stores the file. Completing it again answers the same.
#[utoipa::path(
    post, path = "/api/v1/users/{user_id}/files/complete", tag = "Files", operation_id = "complete_upload",
    params(UserPath), security(("bearer" = []), ("service_key" = ["files:write"])),
    request_body(content = CompleteRequest, example = json!({"file_id": "0198491a-9c5f-7b3e-8d2a-5f1e1a2b3c4d"})),
    responses(
        (status = 200, body = Envelope<UploadView>, description = "The file is stored", links(
            ("info" = (operation_id = "get_file_info", parameters(("file_path" = "$response.body#/data/file_path")))),
        )),
        (status = 413, body = crate::http::docs::Error, description = "The file is larger than `UPLOAD_MAX_SIZE`, or \
            the user's files would pass the plan's quota (`QuotaExceededException`)"),
        (status = 415, body = crate::http::docs::Error, description = "The body is not JSON, or the file is of no accepted type"),
    ),
)]
pub async fn complete_upload(
    State(app): State<Arc<App>>,
    on: CanWriteFiles,
    base: BaseUrl,
    Input { value, once }: Input<CompleteRequest>,
) -> Result<Response, ApiError> {
    let ticket = once.ticket(on.caller.principal.caller());
    if let Some(first) = replay(&app, &ticket).await? {
        return Ok(first);
    }
    let file_id = value.file_id.as_str();
    let unknown = || not_found(file_id);
    let found =
        if file_id.contains('\0') { None } else { store::find_id(&app.db, on.user.row, file_id).await? };
    let mut file = found.ok_or_else(unknown)?;
    let url = download_url(&app, &base, &on.user.auth0_id, &file).await?;
    let respond = respond(&on.user.auth0_id, url, app.clock.now());
    match file.status {
        Status::Stored => return Ok(json_bytes(respond(&file))),
        Status::Deleting => return Err(unknown()),
        Status::Storing => return Err(ApiError::conflict("The upload is being completed; try again")),
        Status::Expected => {}
    }
    let _turn = app.files.turns.take(on.user.row).await?;
    let limit = app.config.upload_max_size;
    let staged = app.files.objects.fetch(&staging_key(file.user, file_id), limit, &app.files.spools).await;
    let spool = staged.map_err(|error| match error {
        ObjectError::NotFound => ApiError::conflict("Nothing has been uploaded to the address yet"),
        ObjectError::TooLarge => receive::too_large(limit),
        ObjectError::Unavailable(inside) => {
            ApiError::unavailable("The object store is not available", inside)
        }
    })?;
    if spool.size == 0 {
        return Err(ApiError::invalid(["body", "file_id"], "must be of a file that is not empty"));
    }
    let (spool, kind) = receive::look(&app, spool, &file.file_name).await?;
    if !kind.keeps(file.kind) {
        let why = format!("its name promises {}, but it is {}", file.kind.media_type(), kind.media_type());
        return Err(receive::not_accepted(&why));
    }
    file.size = i64::try_from(spool.size).unwrap_or(i64::MAX);
    file.sha256 = spool.hex();
    file.created_at = app.clock.now();
    let incoming = Incoming { file, auth0_id: on.user.auth0_id, spool, ticket };
    keep::keep(&app, incoming, respond).await.map(answered)
}
