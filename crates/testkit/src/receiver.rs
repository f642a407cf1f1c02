//! A receiver of webhooks: it notes what comes, and answers as it is told.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// How long a delivery may take to come on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// A delivery that came.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The path that it came to.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, as it was sent.
    pub text: String,
    /// Its body, read.
    pub body: Value,
}

impl Delivery {
    /// A header, or nothing.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The id of the event.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn id(&self) -> &str {
        self.header("webhook-id").expect("a webhook-id")
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status; 0 closes the connection without an answer.
    pub status: u16,
    /// A header.
    pub header: Option<(&'static str, String)>,
    /// The body.
    pub body: String,
    /// Never answers.
    pub hangs: bool,
}

impl Reply {
    /// An answer with that status.
    #[must_use]
    pub const fn status(status: u16) -> Self {
        Self { status, header: None, body: String::new(), hangs: false }
    }

    /// One that never comes.
    #[must_use]
    pub fn never() -> Self {
        Self { hangs: true, ..Self::status(200) }
    }

    /// The same with a header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.header = Some((name, value.to_owned()));
        self
    }

    /// The same with a body.
    #[must_use]
    pub fn saying(mut self, body: &str) -> Self {
        body.clone_into(&mut self.body);
        self
    }
}

type Answers = Box<dyn Fn(&Delivery) -> Reply + Send>;

struct Shared {
    came: Mutex<Vec<Delivery>>,
    news: Notify,
    answers: Mutex<Answers>,
}

/// A receiver on a port of its own; gone when dropped.
pub struct Receiver {
    address: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Starts one that takes everything.
    ///
    /// # Panics
    /// When there is no port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let shared = Arc::new(Shared {
            came: Mutex::new(Vec::new()),
            news: Notify::new(),
            answers: Mutex::new(Box::new(|_| Reply::status(200))),
        });
        let task = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Self { address, shared, task }
    }

    /// The address of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    /// Answers so from now on.
    pub fn answer(&self, answers: impl Fn(&Delivery) -> Reply + Send + 'static) {
        *self.shared.answers.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(answers);
    }

    /// What came up to now.
    #[must_use]
    pub fn came(&self) -> Vec<Delivery> {
        self.shared.came.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What came up to now to a path.
    #[must_use]
    pub fn came_to(&self, path: &str) -> Vec<Delivery> {
        self.came().into_iter().filter(|delivery| delivery.path == path).collect()
    }

    /// Waits until so many came to a path.
    ///
    /// # Panics
    /// When they do not come in time.
    pub async fn wait_for(&self, path: &str, count: usize) -> Vec<Delivery> {
        let came = async {
            loop {
                let news = self.shared.news.notified();
                let came = self.came_to(path);
                if came.len() >= count {
                    return came;
                }
                news.await;
            }
        };
        match tokio::time::timeout(LIMIT, came).await {
            Ok(came) => came,
            Err(_) => panic!("{} of {count} deliveries came to {path} in time", self.came_to(path).len()),
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
            let connection = hyper::server::conn::http1::Builder::new();
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> io::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let text = String::from_utf8_lossy(&body).into_owned();
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    let delivery = Delivery { path: head.uri.path().to_owned(), headers: head.headers, text, body };
    let reply = shared.answers.lock().unwrap_or_else(PoisonError::into_inner)(&delivery);
    shared.came.lock().unwrap_or_else(PoisonError::into_inner).push(delivery);
    shared.news.notify_waiters();
    if reply.hangs {
        std::future::pending::<()>().await;
    }
    if reply.status == 0 {
        return Err(io::Error::other("closed on purpose"));
    }
    let mut response = Response::builder().status(reply.status);
    if let Some((name, value)) = reply.header {
        response = response.header(name, value);
    }
    response.body(Full::new(reply.body.into())).map_err(io::Error::other)
}
