//! Accepting connections, and stopping without losing any.
//!
//! What always holds: there are at most [`Limits::connections`] connections, and none of them is held by
//! a client that does nothing. One that asks for nothing in time, stops in the middle of a header, or does not
//! take its answer, is closed; one of HTTP/2 is closed after `QUIET_MAX` without a request. How long a
//! request and its body may take is decided in [`super::around`].

use crate::http::client_ip::Peer;
use crate::measure;
use axum::Router;
use axum::http::{Request, Version};
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// How long a connection may take to send a request's header, or be quiet between two of HTTP/1.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection of HTTP/2 lives without a new request: longer than any event stream.
const QUIET_MAX: Duration = Duration::from_secs(20 * 60);
/// What one connection's reading may buffer; a header beyond 16 KiB but within this gets an answer
/// that says so.
const READ_BUFFER_BYTES: usize = 64 * 1024;
/// Requests that a connection of HTTP/2 may have under way.
const STREAMS_MAX: u32 = 250;
/// Requests of HTTP/2 that were cancelled before anybody looked at them; past it the connection ends
/// ("rapid reset").
const RESETS_MAX: usize = 20;
/// How often a connection of HTTP/2 is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How long to wait before accepting again when the system has no room for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What connections may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many there may be; whoever comes then is accepted when one has ended.
    pub connections: usize,
    /// How long a request's header may take.
    pub header: Duration,
    /// How long a client may leave what is sent to it untaken.
    pub untaken: Duration,
    /// How long a stop waits for them.
    pub grace: Duration,
}

/// Serves until `stop` resolves, then answers what was asked and closes, within the limits' grace.
///
/// Says whether every connection ended in time.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()>,
    limits: Limits,
) -> bool {
    let builder = builder(limits);
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            Some(_) = connections.join_next() => continue,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, peer, place)) => {
                let peer = Peer(peer.ip());
                let served = connection(&builder, &graceful, stream, peer, router.clone(), limits);
                connections.spawn(async move {
                    measure::connections(1);
                    served.await;
                    measure::connections(-1);
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let all_ended = tokio::time::timeout(limits.grace, graceful.shutdown()).await.is_ok();
    // Whoever still has not read its answer keeps nothing of the service alive.
    connections.shutdown().await;
    all_ended
}

fn builder(limits: Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    // No `pipeline_flush`: it holds back what is written while unread bytes wait, and so the 400 that
    // garbage is answered with would never be sent.
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(READ_BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(READ_BUFFER_BYTES as u32)
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .keep_alive_interval(Some(PING_EVERY));
    builder
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = match Arc::clone(room).try_acquire_owned() {
        Ok(place) => place,
        Err(_) => {
            measure::connections_full();
            Arc::clone(room).acquire_owned().await.map_err(std::io::Error::other)?
        }
    };
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, place))
}

/// What is known of a connection's requests.
#[derive(Default)]
struct Asked {
    count: AtomicU64,
    http2: AtomicBool,
}

impl Asked {
    fn note(&self, version: Version) {
        self.count.fetch_add(1, Ordering::Relaxed);
        if version == Version::HTTP_2 {
            self.http2.store(true, Ordering::Relaxed);
        }
    }

    /// Resolves when the connection is held for nothing. Between requests of HTTP/1, hyper watches itself.
    async fn too_quiet(&self, first: Duration) {
        sleep(first).await;
        let mut before = self.count.load(Ordering::Relaxed);
        if before == 0 {
            return;
        }
        if !self.http2.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        loop {
            sleep(QUIET_MAX).await;
            let count = self.count.load(Ordering::Relaxed);
            if count == before {
                return;
            }
            before = count;
        }
    }
}

fn connection(
    builder: &Builder<TokioExecutor>,
    graceful: &GracefulShutdown,
    stream: TcpStream,
    peer: Peer,
    router: Router,
    limits: Limits,
) -> impl Future<Output = ()> + Send + 'static {
    // Answers are small and wanted at once.
    let _ = stream.set_nodelay(true);
    give_up_untaken(&stream, limits.untaken);
    let asked = Arc::new(Asked::default());
    let noted = Arc::clone(&asked);
    let routes = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        noted.note(request.version());
        request.extensions_mut().insert(peer);
        routes.call(request)
    });
    let served = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    let watched = graceful.watch(served);
    async move {
        tokio::select! {
            biased;
            ended = watched => if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended early");
            },
            () = asked.too_quiet(limits.header) => tracing::debug!("a connection was too quiet"),
        }
    }
}

/// Lets the system end a connection whose other end takes nothing of what was sent.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn give_up_untaken(stream: &TcpStream, after: Duration) {
    let _ = SockRef::from(stream).set_tcp_user_timeout(Some(after));
}

/// Other systems have no such option.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn give_up_untaken(_stream: &TcpStream, _after: Duration) {}
