//! Routes of files that are there: list, look, download, delete.

use super::address::{BaseUrl, DOWNLOAD_LIFE, download_url};
use super::model::StoredFile;
use super::{edits, keep, name, store};
use crate::app::App;
use crate::auth::grants::{CanReadFiles, CanWriteFiles, UserRef};
use crate::http::page::{Page, PageQuery, Pagination};
use crate::http::{ApiError, Envelope, Query, json};
use crate::users::api::UserPath;
use crate::writer::{Command, WriteError};
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use kernel::{ExternalId, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// How many rows a list has by default.
const LIMIT_DEFAULT: i64 = 100;

/// A file in a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct FileView {
    /// The public id, a UUID.
    #[schema(max_length = 36)]
    file_id: String,
    /// Its path.
    #[schema(max_length = 700)]
    file_path: String,
    /// Its name as the client said it.
    #[schema(max_length = 255)]
    file_name: String,
    /// How many bytes it has.
    #[schema(minimum = 1, maximum = 5_368_709_120_i64)]
    file_size: i64,
    /// What it is, by its bytes.
    #[schema(max_length = 100)]
    content_type: &'static str,
    /// When it was uploaded; a file never changes.
    last_modified: Timestamp,
    /// The store's ETag, without quotes.
    #[schema(max_length = 200)]
    etag: String,
    /// The SHA-256 of its bytes in hex digits.
    #[schema(max_length = 64)]
    sha256: String,
    /// An address that needs no token, for an hour.
    #[schema(max_length = 8000)]
    download_url: String,
}

async fn view(app: &App, base: &BaseUrl, user: &ExternalId, file: StoredFile) -> Result<FileView, ApiError> {
    Ok(FileView {
        download_url: download_url(app, base, user, &file).await?,
        file_path: name::public(user, &file.path),
        file_id: file.file_id,
        file_name: file.file_name,
        file_size: file.size,
        content_type: file.kind.media_type(),
        last_modified: file.created_at,
        etag: file.etag,
        sha256: file.sha256,
    })
}

/// What a user's files come to.
#[derive(Debug, Serialize, ToSchema)]
pub struct FileUsage {
    /// How many files there are.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    files: i64,
    /// Their bytes.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    bytes: i64,
    /// How many bytes there may be.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991_i64)]
    quota: i64,
}

/// A page of files.
#[derive(Debug, Serialize, ToSchema)]
pub struct FileList {
    /// Always true.
    success: bool,
    /// Always `success`.
    #[schema(max_length = 20)]
    status: &'static str,
    /// One sentence for people.
    #[schema(max_length = 300)]
    message: String,
    /// When the answer was made.
    timestamp: Timestamp,
    /// The files.
    data: Vec<FileView>,
    /// Where the list stands.
    pagination: Pagination,
    /// What all of the user's files come to.
    usage: FileUsage,
}

/// Which files are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// How their paths begin, with or without `users/{user_id}/files/`; taken literally.
    #[param(max_length = 700, example = "2025/07/")]
    prefix: Option<String>,
}

/// List files
///
/// Newest first.
#[utoipa::path(
    get, path = "/api/v1/users/{user_id}/files", tag = "Files", operation_id = "list_files",
    params(UserPath, ListQuery, PageQuery), security(("bearer" = []), ("service_key" = ["files:read"])),
    responses((status = 200, body = FileList, description = "The files")),
)]
pub async fn list_files(
    State(app): State<Arc<App>>,
    on: CanReadFiles,
    base: BaseUrl,
    Query(query): Query<ListQuery>,
    page: Page,
) -> Result<Response, ApiError> {
    let UserRef { row, auth0_id } = &on.user;
    let prefix = prefix(auth0_id, query.prefix.as_deref().unwrap_or_default())?;
    let found = store::list(&app.db, *row, &prefix, &page, page.limit(LIMIT_DEFAULT)).await?;
    let pagination = page.of(&found, LIMIT_DEFAULT, |file| (file.created_at.micros(), file.id));
    let totals = store::totals(&app.db, *row).await?;
    let quota = store::quota(&app, *row).await?;
    let mut data = Vec::with_capacity(found.rows.len());
    for file in found.rows {
        data.push(view(&app, &base, auth0_id, file).await?);
    }
    Ok(json(&FileList {
        success: true,
        status: "success",
        message: format!("Retrieved {} files", data.len()),
        timestamp: app.clock.now(),
        data,
        pagination,
        usage: FileUsage { files: totals.files, bytes: totals.bytes, quota },
    }))
}

/// A prefix below the user, from one with or without the user's own folder.
fn prefix(user: &ExternalId, given: &str) -> Result<String, ApiError> {
    if given.contains('\0') {
        return Err(ApiError::invalid(["query", "prefix"], "must not have a NUL, which no path has"));
    }
    // An unencoded `+` of an id arrives as a space, and no path has a space.
    let given = given.replace(' ', "+");
    let root = format!("users/{user}/");
    if !given.starts_with("users/") {
        return Ok(format!("files/{}", given.trim_start_matches('/')));
    }
    match given.strip_prefix(&root) {
        Some(rest) => Ok(rest.to_owned()),
        None if root.starts_with(&given) || root.trim_end_matches('/') == given => Ok(String::new()),
        None => Err(not_yours()),
    }
}

fn not_yours() -> ApiError {
    ApiError::forbidden("This path is not among the user's files")
}

/// Which file is meant.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct FileQuery {
    /// `file_path` of the upload's answer.
    #[param(
        max_length = 700,
        min_length = 1,
        example = "users/auth0|test123/files/2025/07/document_20250726070000_1a2b3c4d.pdf"
    )]
    file_path: String,
}

/// The user's stored file of that path.
async fn find(app: &App, user: &UserRef, query: &FileQuery) -> Result<StoredFile, ApiError> {
    let given = query.file_path.replace(' ', "+");
    let (owner, path) = name::split(&given).ok_or_else(not_yours)?;
    if owner != user.auth0_id.as_str() {
        return Err(not_yours());
    }
    // A NUL is in no path, and PostgreSQL takes none in a text.
    let found = if path.contains('\0') { None } else { store::find(&app.db, user.row, path).await? };
    found.ok_or_else(|| not_found(&given))
}

/// 404: there is no such file.
#[must_use]
pub fn not_found(path: &str) -> ApiError {
    let shown: String = path.chars().take(700).collect();
    ApiError::new(StatusCode::NOT_FOUND, "FileNotFoundException", format!("File not found: {shown}"))
}

/// Look at a file
#[utoipa::path(
    get, path = "/api/v1/users/{user_id}/files/info", tag = "Files", operation_id = "get_file_info",
    params(UserPath, FileQuery), security(("bearer" = []), ("service_key" = ["files:read"])),
    responses((status = 200, body = Envelope<FileView>, description = "The file")),
)]
pub async fn get_file_info(
    State(app): State<Arc<App>>,
    on: CanReadFiles,
    base: BaseUrl,
    Query(query): Query<FileQuery>,
) -> Result<Response, ApiError> {
    let file = find(&app, &on.user, &query).await?;
    let view = view(&app, &base, &on.user.auth0_id, file).await?;
    Ok(json(&Envelope::new("File retrieved successfully", app.clock.now(), view)))
}

/// Where a file can be downloaded.
#[derive(Debug, Serialize, ToSchema)]
pub struct DownloadView {
    /// Its path.
    #[schema(max_length = 700)]
    file_path: String,
    /// An address that needs no token.
    #[schema(max_length = 8000)]
    download_url: String,
    /// For how long the address works, in seconds.
    #[schema(minimum = 1, maximum = 3600)]
    expires_in: u64,
}

/// Download a file
///
/// Sends on to an address that needs no token and works for an hour.
#[utoipa::path(
    get, path = "/api/v1/users/{user_id}/files/download", tag = "Files", operation_id = "download_file",
    params(UserPath, FileQuery), security(("bearer" = []), ("service_key" = ["files:read"])),
    responses((status = 302, body = Envelope<DownloadView>, description = "Where the file is")),
)]
pub async fn download_file(
    State(app): State<Arc<App>>,
    on: CanReadFiles,
    base: BaseUrl,
    Query(query): Query<FileQuery>,
) -> Result<Response, ApiError> {
    let file = find(&app, &on.user, &query).await?;
    let url = download_url(&app, &base, &on.user.auth0_id, &file).await?;
    let location = HeaderValue::from_str(&url).map_err(|error| ApiError::internal(error.to_string()))?;
    let file_path = name::public(&on.user.auth0_id, &file.path);
    let view = DownloadView { file_path, download_url: url, expires_in: DOWNLOAD_LIFE.as_secs() };
    let mut response = json(&Envelope::new("The file is at download_url", app.clock.now(), view));
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

/// A file that was deleted.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeletedFile {
    /// Its path.
    #[schema(max_length = 700)]
    file_path: String,
    /// Always true.
    deleted: bool,
}

/// Delete a file
#[utoipa::path(
    delete, path = "/api/v1/users/{user_id}/files", tag = "Files", operation_id = "delete_file",
    params(UserPath, FileQuery), security(("bearer" = []), ("service_key" = ["files:write"])),
    responses((status = 200, body = Envelope<DeletedFile>, description = "The file is gone")),
)]
pub async fn delete_file(
    State(app): State<Arc<App>>,
    on: CanWriteFiles,
    Query(query): Query<FileQuery>,
) -> Result<Response, ApiError> {
    let file = find(&app, &on.user, &query).await?;
    let file_path = name::public(&on.user.auth0_id, &file.path);
    match app.writer.execute(Command::Edit(edits::delete(&file, app.clock.now()))).await {
        Err(WriteError::Refused(_)) => return Err(not_found(&file_path)),
        other => other.map(drop)?,
    }
    // From here on the file is gone for everybody; what fails now the sweeper does again.
    let row = file.id;
    let background = Arc::clone(&app);
    let removed = tokio::spawn(async move { keep::discard(&background, &file).await }).await;
    if let Ok(Err(error)) = removed {
        tracing::warn!(file = row, %error, "a deleted file's bytes were not removed; the sweeper will");
    }
    let view = DeletedFile { file_path, deleted: true };
    Ok(json(&Envelope::new("File deleted successfully", app.clock.now(), view)))
}
