//! `/files/…`: files on this machine's disk, for whoever has a signed address.
//!
//! The signature is the permission; no token is looked at. A file is handed out as something to
//! save, never to show: a page that somebody uploaded must not run as a page of ours.

use super::api::not_found;
use super::model::{Status, StoredFile};
use super::objects::{Objects, key, staging_key};
use super::{keep, name, receive, store};
use crate::app::App;
use crate::http::input::{announced, pass_over};
use crate::http::{ApiError, Query};
use crate::measure;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use serde::Deserialize;
use std::sync::Arc;
use tower_http::services::ServeFile;
use utoipa::IntoParams;

/// The file that an address leads to.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only described: the handler takes the path")]
pub struct LocalPath {
    /// The file's path.
    #[param(
        max_length = 700,
        example = "users/auth0|test123/files/2025/07/document_20250726070000_1a2b3c4d.pdf"
    )]
    file_path: String,
}

/// What an address is signed with.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Signed {
    /// Until when it works, in seconds since 1970.
    #[param(max_length = 20, value_type = Option<String>, example = "1753578686")]
    #[serde(default)]
    expires: String,
    /// The signature.
    #[param(max_length = 100, value_type = Option<String>)]
    #[serde(default)]
    signature: String,
}

/// The file that a signed address leads to.
async fn find(app: &App, method: &str, path: &str, signed: &Signed) -> Result<StoredFile, ApiError> {
    let now = app.clock.now();
    if !app.files.signer.allows(method, path, &signed.expires, &signed.signature, now) {
        return Err(ApiError::forbidden("This address is not valid, or not any more"));
    }
    let (user, below) = name::split(path).ok_or_else(|| not_found(path))?;
    store::find_public(&app.db, user, below).await?.ok_or_else(|| not_found(path))
}

/// Download a file by a signed address
///
/// The addresses come from other answers. Ranges and conditions work as for any static file.
#[utoipa::path(
    get, path = "/files/{*file_path}", tag = "Files", operation_id = "get_local_file",
    params(LocalPath, Signed), security(()),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream", description = "The file"),
        (status = 206, body = Vec<u8>, content_type = "application/octet-stream", description = "A part of the file"),
        (status = 304, description = "The caller has it already"),
        (status = 403, body = crate::http::docs::Error, description = "The address was changed, or its time is over"),
        (status = 404, body = crate::http::docs::Error, description = "The file was deleted"),
        (status = 412, body = crate::http::docs::Error, description = "`If-Match` names another file"),
        (status = 416, body = crate::http::docs::Error, description = "The range is not within the file"),
    ),
)]
pub async fn get_local_file(
    State(app): State<Arc<App>>,
    Path(path): Path<String>,
    Query(signed): Query<Signed>,
    mut request: Request<Body>,
) -> Result<Response, ApiError> {
    let file = find(&app, "GET", &path, &signed).await?;
    let (Objects::Local(local), Status::Stored) = (&app.files.objects, file.status) else {
        return Err(not_found(&path));
    };
    let etag = format!("\"{}\"", file.etag);
    if names(request.headers(), IF_NONE_MATCH, &etag) {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        describe(response.headers_mut(), &file, &etag);
        return Ok(response);
    }
    let headers = request.headers_mut();
    if headers.contains_key(IF_MATCH) {
        if !names(headers, IF_MATCH, &etag) {
            return Err(ApiError::new(
                StatusCode::PRECONDITION_FAILED,
                "PreconditionFailedException",
                "The file is another one than the caller has",
            ));
        }
        // It was compared with our ETag, which the server below does not know.
        headers.remove(IF_MATCH);
    }
    let another = headers.get(IF_RANGE).is_some_and(|value| value.as_bytes() != etag.as_bytes());
    if another || !headers.get(RANGE).is_some_and(is_one_range) {
        headers.remove(RANGE);
    }
    headers.remove(IF_RANGE);
    let at = local.path(&key(file.user, &file.path)).map_err(|_| not_found(&path))?;
    let served = ServeFile::new(at).try_call(request).await;
    let served =
        served.map_err(|error| ApiError::unavailable("The file cannot be read now", error.to_string()))?;
    let (parts, body) = served.into_parts();
    let mut response = Response::from_parts(parts, Body::new(body.map_err(axum::Error::new)));
    match response.status() {
        StatusCode::NOT_FOUND => return Err(not_found(&path)),
        _ => describe(response.headers_mut(), &file, &etag),
    }
    if response.status().is_success() {
        let length = response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        measure::file("out", length.and_then(|length| length.parse().ok()).unwrap_or(0));
    }
    Ok(response)
}

/// Whether a condition names the file.
fn names(headers: &HeaderMap, condition: HeaderName, etag: &str) -> bool {
    let known = headers.get_all(condition).iter().filter_map(|value| value.to_str().ok());
    known
        .flat_map(|known| known.split(','))
        .map(|one| one.trim().trim_start_matches("W/"))
        .any(|one| one == etag || one == "*")
}

/// Whether a range is a single one that can be understood; any other asks for the whole file.
fn is_one_range(range: &HeaderValue) -> bool {
    let number = |text: &str| text.len() <= 19 && text.bytes().all(|b| b.is_ascii_digit());
    let bounds = range.to_str().ok().and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    bounds.is_some_and(|(from, to)| {
        let ordered = match (from.parse::<u64>(), to.parse::<u64>()) {
            (Ok(from), Ok(to)) => from <= to,
            _ => !(from.is_empty() && to.is_empty()),
        };
        number(from) && number(to) && ordered
    })
}

fn describe(headers: &mut HeaderMap, file: &StoredFile, etag: &str) {
    let text = |text: &str| HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("attachment"));
    let kind = if file.kind.media_type().starts_with("text/") {
        format!("{}; charset=utf-8", file.kind.media_type())
    } else {
        file.kind.media_type().to_owned()
    };
    headers.insert(CONTENT_TYPE, text(&kind));
    headers.insert(CONTENT_DISPOSITION, text(&name::disposition(&file.file_name)));
    headers.insert(ETAG, text(etag));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private"));
    // Pages of other origins show what users uploaded; whoever has the address may.
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("cross-origin"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
}

/// Upload a file to a signed address
///
/// The body is the file. Its type is looked at when the upload is completed; until then it may be
/// sent again.
#[utoipa::path(
    put, path = "/files/{*file_path}", tag = "Files", operation_id = "put_local_file",
    params(LocalPath, Signed), security(()),
    responses(
        (status = 200, description = "The bytes are here; complete the upload"),
        (status = 403, body = crate::http::docs::Error, description = "The address was changed, or its time is over"),
        (status = 404, body = crate::http::docs::Error, description = "The upload is not expected any more"),
        (status = 409, body = crate::http::docs::Error, description = "The upload is complete already"),
        (status = 413, body = crate::http::docs::Error, description = "The file is larger than `UPLOAD_MAX_SIZE`, or \
            the user's files would pass the plan's quota (`QuotaExceededException`)"),
    ),
)]
pub async fn put_local_file(
    State(app): State<Arc<App>>,
    Path(path): Path<String>,
    Query(signed): Query<Signed>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let file = find(&app, "PUT", &path, &signed).await?;
    let Objects::Local(local) = &app.files.objects else { return Err(not_found(&path)) };
    if file.status != Status::Expected {
        return Err(ApiError::conflict("The upload is complete already"));
    }
    let quota = store::quota(&app, file.user).await?;
    let used = store::totals(&app.db, file.user).await?.bytes;
    let limit = app.config.upload_max_size;
    let refuse = |size: u64| {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        let over = used.saturating_add(size) > quota;
        if size.unsigned_abs() > limit {
            Some(receive::too_large(limit))
        } else {
            over.then(|| keep::quota_exceeded(quota, used, size))
        }
    };
    let (parts, mut body) = request.into_parts();
    let length = announced(&parts.headers, &body).unwrap_or_default() as u64;
    if let Some(error) = refuse(length) {
        pass_over(&mut body).await;
        return Err(error);
    }
    let _turn = app.files.turns.take(file.user).await?;
    let mut receiving = app.files.spools.receive().await.map_err(|error| receive::not_stored(&error))?;
    while let Some(frame) = receive::within(app.config.request_timeout, body.frame()).await? {
        let frame = frame.map_err(|_| {
            ApiError::new(StatusCode::BAD_REQUEST, "ValidationException", "The body did not arrive whole")
        })?;
        let Ok(bytes) = frame.into_data() else { continue };
        if let Some(error) = refuse(receiving.size() + bytes.len() as u64) {
            drop(receiving);
            pass_over(&mut body).await;
            return Err(error);
        }
        receiving.push(&bytes).await.map_err(|error| receive::not_stored(&error))?;
    }
    let spool = receiving.finish().await.map_err(|error| receive::not_stored(&error))?;
    // It may have been completed, given up or swept while its bytes were under way.
    let file = find(&app, "PUT", &path, &signed).await?;
    if file.status != Status::Expected {
        return Err(ApiError::conflict("The upload is complete already"));
    }
    let put = local.put(&staging_key(file.user, &file.file_id), spool).await;
    let etag =
        put.map_err(|error| ApiError::unavailable("The file cannot be stored now", error.to_string()))?;
    let etag = HeaderValue::from_str(&format!("\"{etag}\""))
        .map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(([(ETAG, etag)], ()).into_response())
}
