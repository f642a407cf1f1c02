//! The fake's HTTP side: who asks, what goes wrong on purpose, keys, then the route.

use super::Shared;
use super::error::Refusal;
use super::faults::{Effect, Fault, Rule};
use super::keys::Stored;
use super::params::Params;
use super::route::{self, Call};
use super::world::Cause;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};

/// How long a body may be, in bytes.
const BODY_MAX: usize = 1 << 20;

/// A call that the fake received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Its method.
    pub method: String,
    /// Its path, such as `/v1/refunds`.
    pub path: String,
    /// Its form or query, each parameter as it was sent.
    pub params: BTreeMap<String, String>,
    /// Its idempotency key.
    pub key: Option<String>,
    /// The version of the API that it speaks.
    pub version: Option<String>,
}

/// What was asked, read.
struct Ask {
    received: Received,
    params: Params,
    authorized: bool,
    request: String,
}

/// What goes back.
struct Reply {
    stored: Stored,
    replayed: bool,
}

/// Serves until it is aborted.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(connection(stream, Arc::clone(&shared)));
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
    // A connection that ends early is what some stories are about.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> io::Result<Response<Full<Bytes>>> {
    let ask = read(request, &shared).await?;
    let (request, key) = (ask.request.clone(), ask.received.key.clone());
    // What has begun is done, also for a caller who has hung up.
    let reply =
        tokio::spawn(async move { handle(&ask, &shared).await }).await.map_err(io::Error::other)??;
    let mut response = Response::builder()
        .status(reply.stored.status)
        .header("content-type", "application/json")
        .header("stripe-version", super::API_VERSION)
        .header("request-id", &request);
    if let Some(key) = key {
        response = response.header("idempotency-key", key);
    }
    if reply.replayed {
        response =
            response.header("idempotent-replayed", "true").header("original-request", &reply.stored.request);
    }
    response.body(Full::new(reply.stored.body)).map_err(io::Error::other)
}

async fn read(request: Request<Incoming>, shared: &Shared) -> io::Result<Ask> {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, BODY_MAX).collect().await.map_err(io::Error::other)?.to_bytes();
    let query = head.uri.query().unwrap_or_default();
    let params = Params::parse(if body.is_empty() { query.as_bytes() } else { &body });
    let header = |name: &str| text(&head.headers, name);
    let received = Received {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        params: params.all().clone(),
        key: header("idempotency-key"),
        version: header("stripe-version"),
    };
    shared.lock(&shared.received).push(received.clone());
    let authorized =
        header("authorization").is_some_and(|header| header == format!("Bearer {}", shared.secret_key));
    let request = shared.lock(&shared.world).fresh("req_");
    Ok(Ask { received, params, authorized, request })
}

fn text(headers: &HeaderMap<HeaderValue>, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn refused(refusal: &Refusal, request: &str) -> Stored {
    stored(refusal.status, &refusal.body(), request)
}

fn stored(status: u16, body: &serde_json::Value, request: &str) -> Stored {
    let body = serde_json::to_vec_pretty(body).expect("JSON");
    Stored { status, body: Bytes::from(body), request: request.to_owned() }
}

fn closes() -> io::Error {
    io::Error::other("the connection closes, as the story wants it")
}

async fn handle(ask: &Ask, shared: &Shared) -> io::Result<Reply> {
    let first = |stored| Ok(Reply { stored, replayed: false });
    let refuse = |refusal: Refusal| first(refused(&refusal, &ask.request));
    if !ask.authorized {
        return refuse(Refusal::new(401, "invalid_request_error", "Invalid API Key provided."));
    }
    let Received { method, path, key, .. } = &ask.received;
    let fault = Rule::take(&mut shared.lock(&shared.rules), method, path);
    match fault {
        Some(Fault::Drop(Effect::Before)) => return Err(closes()),
        Some(Fault::Timeout(late, Effect::Before)) => {
            tokio::time::sleep(late).await;
            return Err(closes());
        }
        Some(Fault::Status(status, Effect::Before)) if !keeps(status) => {
            return refuse(Refusal::of_status(status));
        }
        _ => {}
    }
    let (route, id) = match route::find(method, path) {
        Ok(found) => found,
        Err(refusal) => return refuse(refusal),
    };
    if let Err(refusal) = route.check(&ask.params) {
        return refuse(refusal);
    }
    // As at Stripe, a key means something for a POST only.
    let key = key.as_deref().filter(|_| method == "POST");
    if let Some(key) = key {
        let asked = format!("{method} {path} {:?}", ask.params.all());
        let now = shared.lock(&shared.world).now;
        let begun = shared.lock(&shared.keys).begin(key, &asked, now);
        match begun {
            Ok(None) => {}
            Ok(Some(stored)) => return Ok(Reply { stored, replayed: true }),
            Err(refusal) => return refuse(refusal),
        }
    }
    if let Some(Fault::Slow(late)) = fault {
        tokio::time::sleep(late).await;
    }
    let call = Call { path: path.clone(), id, params: ask.params.clone() };
    let (answer, kept) = execute(ask, shared, route, &call, fault);
    if let Some(key) = key {
        let mut keys = shared.lock(&shared.keys);
        if kept { keys.finish(key, answer.clone()) } else { keys.release(key) }
    }
    match fault {
        Some(Fault::Drop(Effect::After)) => Err(closes()),
        Some(Fault::Timeout(late, Effect::After)) => {
            tokio::time::sleep(late).await;
            first(answer)
        }
        _ => first(answer),
    }
}

/// Whether an answer of that status, made on purpose, is of an executed request.
const fn keeps(status: u16) -> bool {
    !matches!(status, 429 | 503)
}

/// The answer, and whether it is kept under the request's key.
fn execute(
    ask: &Ask,
    shared: &Shared,
    route: &route::Route,
    call: &Call,
    fault: Option<Fault>,
) -> (Stored, bool) {
    if let Some(Fault::Status(status, Effect::Before)) = fault {
        return (refused(&Refusal::of_status(status), &ask.request), true);
    }
    let mut world = shared.lock(&shared.world);
    world.cause = Some(Cause { request: ask.request.clone(), key: ask.received.key.clone() });
    let done = (route.act)(&mut world, call);
    world.cause = None;
    drop(world);
    let answer = match done {
        Ok(object) => stored(200, &object, &ask.request),
        Err(refusal) => refused(&refusal, &ask.request),
    };
    match fault {
        Some(Fault::Status(status, Effect::After)) => {
            (refused(&Refusal::of_status(status), &ask.request), keeps(status))
        }
        _ => (answer, true),
    }
}
