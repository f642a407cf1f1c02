//! Receiving a file from a form: one field, streamed to the disk, bounded in every way.
//!
//! Memory does not grow with the file. A body that is refused is passed over as far as that is
//! bearable, so that its sender reads why.

use super::kind::{self, ACCEPTED, Kind, KindError};
use super::name;
use super::spool::{Receiving, Spool};
use crate::app::App;
use crate::http::ApiError;
use crate::http::input::{Once, PASSED_OVER_MAX, PASSED_OVER_PAUSE, StreamKey, announced, pass_over};
use axum::RequestExt as _;
use axum::body::Body;
use axum::extract::multipart::Field;
use axum::extract::{DefaultBodyLimit, FromRequest as _, Multipart};
use axum::http::header::{CONTENT_TYPE, EXPECT};
use axum::http::{HeaderMap, Request, StatusCode};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt as _;
use kernel::UserRowId;
use std::fs::File;
use std::time::Duration;

/// The field that holds the file.
const FIELD: &str = "file";
/// How many bytes a form may have beside the file.
const BESIDE_MAX: u64 = 64 * 1024;
/// How much of a body the form's reader gets at a time.
const PIECE_BYTES: usize = 16 * 1024;
/// How many fields a form may have.
const FIELDS_MAX: usize = 32;

/// A file as a form brought it.
pub struct Uploaded {
    /// Its bytes.
    pub spool: Spool,
    /// Its name as it is kept.
    pub file_name: String,
    /// What it is.
    pub kind: Kind,
    /// What is needed to do it once.
    pub once: Once,
}

/// Reads the form of an upload.
///
/// # Errors
/// 400, 408, 413, 415, or 503 when there is no turn or no room on the disk.
pub async fn receive(app: &App, user: UserRowId, request: Request<Body>) -> Result<Uploaded, ApiError> {
    let limit = app.config.upload_max_size;
    let (parts, mut body) = request.into_parts();
    let key = StreamKey::of(&parts)?;
    let length = announced(&parts.headers, &body);
    let too_long = length.is_some_and(|length| length as u64 > limit + BESIDE_MAX);
    if too_long || !is_form(&parts.headers) {
        // Whoever waits for a word before sending the body gets the answer instead.
        if !parts.headers.contains_key(EXPECT) {
            pass_over(&mut body).await;
        }
        return Err(if too_long { too_large(limit) } else { no_form() });
    }
    let _turn = app.files.turns.take(user).await?;
    let mut request = Request::from_parts(parts, in_pieces(body));
    // The limit is ours: it counts the file and answers in our words.
    DefaultBodyLimit::disable().apply(&mut request);
    let mut form = Multipart::from_request(request.with_limited_body(), &()).await.map_err(|_| no_form())?;
    let (receiving, given) = file_of(app, &mut form, limit).await?;
    let spool = receiving.finish().await.map_err(|error| not_stored(&error))?;
    if spool.size == 0 {
        return Err(ApiError::invalid(["body", FIELD], "must not be empty"));
    }
    let file_name = name::kept(&given);
    let (spool, kind) = look(app, spool, &file_name).await?;
    let content = [&spool.sha256[..], file_name.as_bytes()].concat();
    Ok(Uploaded { spool, file_name, kind, once: key.once(&content) })
}

/// The same body in small pieces, with a pause between them: the form's reader copies whatever is
/// ready before it hands anything on, and from a fast sender that is megabytes.
fn in_pieces(body: Body) -> Body {
    Body::from_stream(stream::unfold((body, Bytes::new()), |(mut body, mut rest)| async move {
        tokio::task::yield_now().await;
        while rest.is_empty() {
            match body.frame().await?.map(hyper::body::Frame::into_data) {
                Ok(Ok(bytes)) => rest = bytes,
                // Trailers say nothing of a form.
                Ok(Err(_)) => {}
                Err(error) => return Some((Err(error), (body, rest))),
            }
        }
        let piece = rest.split_to(rest.len().min(PIECE_BYTES));
        Some((Ok(piece), (body, rest)))
    }))
}

/// The first field of that name; all others are passed over.
async fn file_of(app: &App, form: &mut Multipart, limit: u64) -> Result<(Receiving, String), ApiError> {
    let mut found = None;
    let (mut beside, mut others) = (0, 0);
    let pause = app.config.request_timeout;
    loop {
        let next = within(pause, form.next_field()).await?;
        let Some(mut field) = next.map_err(|_| not_whole())? else {
            return found.ok_or_else(|| ApiError::missing(["body", FIELD]));
        };
        if field.name() == Some(FIELD) && found.is_none() {
            let given = field.file_name().unwrap_or_default().to_owned();
            found = Some((stream(app, &mut field, limit).await?, given));
            continue;
        }
        others += 1;
        if others > FIELDS_MAX {
            drop(field);
            pass_over_form(form).await;
            let rule = format!("must come with at most {FIELDS_MAX} other fields");
            return Err(ApiError::invalid(["body", FIELD], rule));
        }
        while let Some(bytes) = within(pause, field.chunk()).await?.map_err(|_| not_whole())? {
            beside += bytes.len() as u64;
            if beside > BESIDE_MAX {
                pass_over_field(&mut field).await;
                return Err(ApiError::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "PayloadTooLargeException",
                    format!("The form must have at most {BESIDE_MAX} bytes beside the file"),
                ));
            }
        }
    }
}

/// Waits for the next bytes, but not for ever: an upload may take long, silence may not.
///
/// # Errors
/// 408 when nothing comes.
pub async fn within<T>(pause: Duration, next: impl Future<Output = T>) -> Result<T, ApiError> {
    let waited = tokio::time::timeout(pause, next).await;
    waited.map_err(|_| ApiError::of_status(StatusCode::REQUEST_TIMEOUT))
}

async fn stream(app: &App, field: &mut Field<'_>, limit: u64) -> Result<Receiving, ApiError> {
    let mut receiving = app.files.spools.receive().await.map_err(|error| not_stored(&error))?;
    let pause = app.config.request_timeout;
    while let Some(bytes) = within(pause, field.chunk()).await?.map_err(|_| not_whole())? {
        if receiving.size() + bytes.len() as u64 > limit {
            // What is on the disk goes before the rest of the body is waited for.
            drop(receiving);
            pass_over_field(field).await;
            return Err(too_large(limit));
        }
        receiving.push(&bytes).await.map_err(|error| not_stored(&error))?;
    }
    Ok(receiving)
}

async fn pass_over_field(field: &mut Field<'_>) {
    let mut passed = 0;
    while passed < PASSED_OVER_MAX {
        match tokio::time::timeout(PASSED_OVER_PAUSE, field.chunk()).await {
            Ok(Ok(Some(bytes))) => passed += Bytes::len(&bytes),
            _ => return,
        }
    }
}

async fn pass_over_form(form: &mut Multipart) {
    let mut passed = 0;
    while passed < PASSED_OVER_MAX {
        match tokio::time::timeout(PASSED_OVER_PAUSE, form.next_field()).await {
            Ok(Ok(Some(mut field))) => {
                passed += 1024;
                pass_over_field(&mut field).await;
            }
            _ => return,
        }
    }
}

/// Tells what a received file is.
///
/// # Errors
/// 415 when it is not accepted.
pub async fn look(app: &App, spool: Spool, file_name: &str) -> Result<(Spool, Kind), ApiError> {
    let _turn = app.files.look().await?;
    let given = file_name.to_owned();
    let looked = tokio::task::spawn_blocking(move || {
        let kind =
            File::open(spool.path()).map_err(KindError::Io).and_then(|file| kind::detect(file, &given));
        (spool, kind)
    });
    match looked.await.map_err(|error| ApiError::internal(error.to_string()))? {
        (spool, Ok(kind)) => Ok((spool, kind)),
        (_, Err(KindError::Refused(why))) => Err(not_accepted(&why)),
        (_, Err(KindError::Io(error))) => Err(not_stored(&error)),
    }
}

/// 415: the file is of no accepted kind.
#[must_use]
pub fn not_accepted(why: &str) -> ApiError {
    let message = format!("The file's type is not accepted: {why}. Accepted are {ACCEPTED}");
    ApiError { message, ..ApiError::of_status(StatusCode::UNSUPPORTED_MEDIA_TYPE) }
}

/// 413: the file is too large.
#[must_use]
pub fn too_large(limit: u64) -> ApiError {
    let message = format!("The file must be at most {limit} bytes");
    ApiError { message, ..ApiError::of_status(StatusCode::PAYLOAD_TOO_LARGE) }.detail("limit", limit.into())
}

/// 503: the disk that uploads wait on does not take it.
#[must_use]
pub fn not_stored(error: &std::io::Error) -> ApiError {
    ApiError::unavailable("The file cannot be stored now; try again", error.to_string())
}

fn not_whole() -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "ValidationException", "The body is no whole multipart/form-data")
}

fn no_form() -> ApiError {
    let message = "The body must be multipart/form-data with the file in the field `file`".to_owned();
    ApiError { message, ..ApiError::of_status(StatusCode::UNSUPPORTED_MEDIA_TYPE) }
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("multipart/form-data")
}
