//! Messages over standard input and output, one in a line: each is sent to `/mcp`, of this process or of a running
//! service, and what comes back is written out.
//!
//! So a message over standard input meets the same checks, limits and audit log as one over HTTP. Standard output
//! carries messages and nothing else; the log goes to standard error.

use super::message::Message;
use super::transport::VERSION;
use crate::mcp::ROUTE;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use kernel::Secret;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tower::ServiceExt as _;

/// The most bytes of a line; the service's own limit for a body is smaller by default.
pub const LINE_MAX_BYTES: usize = 16 * 1024 * 1024;
/// How many messages are answered at once; the next line is read when one of them is.
pub const AT_ONCE_MAX: usize = 32;
/// How many answers wait to be written.
const ANSWERS_WAITING_MAX: usize = 32;
/// The most bytes of an answer.
const ANSWER_MAX_BYTES: usize = 64 * 1024 * 1024;
/// How long a running service may take to answer, and to be connected to.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(120), Duration::from_secs(10));

const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");

/// The code of JSON-RPC for what the service refused as a whole.
const REFUSED: i32 = -32_000;
/// The code of JSON-RPC for what is no message.
const INVALID_REQUEST: i32 = -32_600;

/// Where messages are sent.
#[derive(Debug, Clone)]
pub enum Service {
    /// To this process.
    Here(Router),
    /// To a running service, at its `/mcp`.
    There(reqwest::Client, String),
}

impl Service {
    /// A running service at an address such as `http://localhost:8100`, with or without `/mcp`.
    ///
    /// # Errors
    /// No client can be made.
    pub fn at(url: &str) -> Result<Self, reqwest::Error> {
        let (whole, connect) = PATIENCE;
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        let client = client.timeout(whole).connect_timeout(connect).build()?;
        let url = url.trim_end_matches('/');
        let url = if url.ends_with(ROUTE) { url.to_owned() } else { format!("{url}{ROUTE}") };
        Ok(Self::There(client, url))
    }

    async fn send(&self, headers: HeaderMap, body: Bytes) -> Result<(StatusCode, Bytes), String> {
        match self {
            Self::Here(router) => {
                let mut request =
                    Request::post(ROUTE).body(Body::from(body)).map_err(|error| error.to_string())?;
                *request.headers_mut() = headers;
                request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
                let Ok(response) = router.clone().oneshot(request).await;
                let (parts, body) = response.into_parts();
                let bytes = to_bytes(body, ANSWER_MAX_BYTES).await.map_err(|error| error.to_string())?;
                Ok((parts.status, bytes))
            }
            Self::There(client, url) => {
                let sent = client.post(url).headers(headers).body(body).send().await;
                let mut answer =
                    sent.map_err(|error| format!("{url} does not answer: {}", causes(&error)))?;
                let status = answer.status();
                let mut bytes = Vec::new();
                while let Some(part) = answer.chunk().await.map_err(|error| causes(&error))? {
                    if bytes.len() + part.len() > ANSWER_MAX_BYTES {
                        return Err(format!("{url} answers with more than {ANSWER_MAX_BYTES} bytes"));
                    }
                    bytes.extend_from_slice(&part);
                }
                Ok((status, bytes.into()))
            }
        }
    }
}

/// An error with what caused it, without the address, which may have something secret in it.
fn causes(error: &reqwest::Error) -> String {
    let mut source = std::error::Error::source(error);
    let mut last = String::from("no connection");
    while let Some(cause) = source {
        last = cause.to_string();
        source = cause.source();
    }
    last
}

/// The way between the lines and the service.
pub struct Bridge {
    service: Service,
    authorization: HeaderValue,
    /// The revision that was agreed on, where there was a handshake.
    agreed: Mutex<Option<HeaderValue>>,
    /// What is being answered, by the id of its message, so that it can be cancelled.
    running: Mutex<HashMap<String, AbortHandle>>,
}

impl Bridge {
    /// One to a service, with the caller's token or key; nothing where that is no text for a header.
    #[must_use]
    pub fn new(service: Service, token: &Secret) -> Option<Arc<Self>> {
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", token.expose())).ok()?;
        authorization.set_sensitive(true);
        Some(Arc::new(Self { service, authorization, agreed: Mutex::default(), running: Mutex::default() }))
    }

    /// Carries messages until the lines end, and then until the last one is answered.
    ///
    /// # Errors
    /// The lines cannot be read, or the answers not written.
    pub async fn run(
        self: Arc<Self>,
        mut lines: impl AsyncBufRead + Unpin,
        out: impl AsyncWrite + Unpin + Send + 'static,
    ) -> io::Result<()> {
        let (answers, waiting) = mpsc::channel(ANSWERS_WAITING_MAX);
        let writing = tokio::spawn(write(waiting, out));
        let turns = Arc::new(Semaphore::new(AT_ONCE_MAX));
        let mut tasks = JoinSet::new();
        while !answers.is_closed() {
            let line = match next_line(&mut lines).await? {
                Line::End => break,
                Line::TooLong => {
                    let message = format!("A message must be at most {LINE_MAX_BYTES} bytes");
                    let _ = answers.send(error(None, INVALID_REQUEST, &message, Value::Null)).await;
                    continue;
                }
                Line::Of(line) => line,
            };
            while tasks.try_join_next().is_some() {}
            self.cancel_what_it_names(&line);
            if message(&line).method() == "initialize" {
                // What comes after speaks the revision that is agreed on.
                if let Some(answer) = self.answer(line).await {
                    let _ = answers.send(answer).await;
                }
                continue;
            }
            let id = message(&line).id();
            if id.as_ref().is_some_and(|id| self.running.lock().contains_key(&id.to_string())) {
                let said = "id: is that of a message that is being answered";
                let _ = answers.send(error(id, INVALID_REQUEST, said, Value::Null)).await;
                continue;
            }
            let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { break };
            let id = id.map(|id| id.to_string());
            let (bridge, answers, kept) = (Arc::clone(&self), answers.clone(), id.clone());
            // Held until it is noted, so that it is not struck off before.
            let mut running = self.running.lock();
            let task = tasks.spawn(async move {
                if let Some(answer) = bridge.answer(line).await {
                    let _ = answers.send(answer).await;
                }
                if let Some(id) = kept {
                    bridge.running.lock().remove(&id);
                }
                drop(turn);
            });
            if let Some(id) = id {
                running.insert(id, task);
            }
        }
        while tasks.join_next().await.is_some() {}
        drop(answers);
        writing.await.unwrap_or(Ok(()))
    }

    /// Stops working at what a message cancels; what was given to the writer is done all the same.
    fn cancel_what_it_names(&self, line: &[u8]) {
        let message = message(line);
        if message.method() != "notifications/cancelled" {
            return;
        }
        let named = message.params().cancelled().map(Value::to_string);
        let task = named.and_then(|id| self.running.lock().remove(&id));
        if let Some(task) = task {
            task.abort();
        }
    }

    /// Sends a message, and gives the line to write, where there is one.
    async fn answer(&self, line: Vec<u8>) -> Option<Vec<u8>> {
        let headers = self.headers(&line);
        let (id, begins) = {
            let message = message(&line);
            (message.id(), message.method() == "initialize")
        };
        let (status, body) = match self.service.send(headers, line.into()).await {
            Ok(answer) => answer,
            Err(why) => {
                tracing::error!(%why, "a message got no answer");
                return id.map(|id| error(Some(id), REFUSED, &why, Value::Null));
            }
        };
        let mut value: Value = serde_json::from_slice(&body).unwrap_or_default();
        if value["jsonrpc"] == "2.0" {
            if begins {
                self.agree(&value);
            }
            if value["id"].is_null() && id.is_some() {
                // It was too odd for its id to be found there, but not here.
                value["id"] = id.into();
                return Some(value.to_string().into_bytes());
            }
            return Some(body.to_vec());
        }
        let Some(id) = id else {
            if !status.is_success() {
                tracing::warn!(status = status.as_u16(), "a notification was refused");
            }
            return None;
        };
        let message = match value["message"].as_str() {
            Some(message) => message.to_owned(),
            None if status.is_redirection() => {
                format!("The service answers {status}; --url must name its final address")
            }
            None => format!("The service answers {status} and no message"),
        };
        let data = json!({"status": status.as_u16(), "error": value["error_code"], "details": value["error_details"]});
        Some(error(Some(id), REFUSED, &message, data))
    }

    fn agree(&self, answer: &Value) {
        let revision = answer["result"]["protocolVersion"].as_str();
        *self.agreed.lock() = revision.and_then(|revision| HeaderValue::from_str(revision).ok());
    }

    /// What HTTP wants beside the message itself.
    fn headers(&self, line: &[u8]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, self.authorization.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LENGTH, line.len().into());
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        let message = message(line);
        let (method, params) = (message.method(), message.params());
        let said = params.spoken().and_then(|said| HeaderValue::from_str(said).ok());
        let agreed = || self.agreed.lock().clone().filter(|_| method != "initialize");
        if let Some(version) = said.or_else(agreed) {
            headers.insert(VERSION, version);
        }
        for (header, text) in [(METHOD, Some(method)), (NAME, params.named(method))] {
            if let Some(value) = text.filter(|text| !text.is_empty()).and_then(header_text) {
                headers.insert(header, value);
            }
        }
        headers
    }
}

/// A text as a header has it: in Base64 where it could not stand there as it is.
fn header_text(text: &str) -> Option<HeaderValue> {
    let plain = text.bytes().all(|b| (0x20..0x7f).contains(&b))
        && text.trim() == text
        && !text.starts_with("=?base64?");
    let text = if plain { text.to_owned() } else { format!("=?base64?{}?=", BASE64_STANDARD.encode(text)) };
    HeaderValue::from_str(&text).ok()
}

fn message(line: &[u8]) -> Message<'_> {
    serde_json::from_slice(line).unwrap_or_default()
}

/// An error in the words of JSON-RPC, as a line.
fn error(id: Option<Value>, code: i32, message: &str, data: Value) -> Vec<u8> {
    let mut error = json!({"code": code, "message": message});
    if !data.is_null() {
        error["data"] = data;
    }
    json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string().into_bytes()
}

/// A line of the input.
enum Line {
    Of(Vec<u8>),
    TooLong,
    End,
}

/// The next line that says something, within its limit.
async fn next_line(lines: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Line> {
    loop {
        let mut line = Vec::new();
        let most = u64::try_from(LINE_MAX_BYTES).unwrap_or(u64::MAX);
        let read = (&mut *lines).take(most).read_until(b'\n', &mut line).await?;
        if read == 0 {
            return Ok(Line::End);
        }
        if read == LINE_MAX_BYTES && line.last() != Some(&b'\n') {
            pass_over(lines).await?;
            return Ok(Line::TooLong);
        }
        if !line.trim_ascii().is_empty() {
            return Ok(Line::Of(line));
        }
    }
}

/// Reads on to the end of a line, and keeps nothing.
async fn pass_over(lines: &mut (impl AsyncBufRead + Unpin)) -> io::Result<()> {
    loop {
        let part = lines.fill_buf().await?;
        let end = part.iter().position(|b| *b == b'\n');
        let (passed, over) = (end.map_or(part.len(), |at| at + 1), end.is_some() || part.is_empty());
        lines.consume(passed);
        if over {
            return Ok(());
        }
    }
}

/// Writes answers, each in a line of its own.
async fn write(mut answers: mpsc::Receiver<Vec<u8>>, mut out: impl AsyncWrite + Unpin) -> io::Result<()> {
    while let Some(mut answer) = answers.recv().await {
        // Within JSON a line's end is only ever space between its parts.
        answer.iter_mut().filter(|b| matches!(**b, b'\n' | b'\r')).for_each(|b| *b = b' ');
        answer.push(b'\n');
        out.write_all(&answer).await?;
        out.flush().await?;
    }
    Ok(())
}
