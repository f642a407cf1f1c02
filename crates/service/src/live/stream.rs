//! One stream: what is sent, when it is read, and when it ends.
//!
//! The connection pulls. A stream reads a page only when what it read before is on its way, so
//! nothing piles up behind a slow client. It reads when it is woken, at each heartbeat, and again
//! soon after a read that failed: a database that is away for a while ends no stream.

use super::hub::Watch;
use crate::db::DbError;
use crate::measure;
use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use std::convert::Infallible;
use std::fmt::{Display, Write as _};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// The media type of event streams.
pub const MEDIA_TYPE: &str = "text/event-stream";
/// How many messages or ledger entries are read at once.
pub const AT_ONCE: i64 = 100;
/// How long a stream lives; its client comes back, and is asked anew what it may see.
pub const LIFE: Duration = Duration::from_secs(15 * 60);
/// How often something is sent, so that nobody in between takes the connection for dead.
pub const HEARTBEAT: Duration = Duration::from_secs(15);
/// The least time between two reads of a stream that has caught up: what happens meanwhile is read together.
const READ_PAUSE: Duration = Duration::from_millis(20);
/// How long to wait before reading again after a read that failed.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How long a client shall wait before it comes back, in milliseconds.
const RECONNECT_MS: u32 = 2_000;

/// What a stream is about.
pub trait Source: Send + 'static {
    /// Reads what comes after the cursor, a page at most, and moves the cursor behind it.
    ///
    /// # Errors
    /// [`DbError`]; the cursor has not moved.
    fn read(&mut self) -> impl Future<Output = Result<Read, DbError>> + Send;
}

/// What was read.
#[derive(Debug, Default)]
pub struct Read {
    /// The events, as they are sent.
    text: String,
    /// What to do next.
    then: Then,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Then {
    #[default]
    Wait,
    ReadOn,
    End,
}

impl Read {
    /// Adds an event. With an id, a client that comes back names it to go on after it.
    pub fn event(&mut self, kind: &'static str, id: Option<&dyn Display>, data: &impl Serialize) {
        measure::live_event(kind);
        if let Some(id) = id {
            let _ = writeln!(self.text, "id: {id}");
        }
        // JSON has no line breaks of its own, so the data is one line.
        let data = serde_json::to_string(data).unwrap_or_default();
        let _ = write!(self.text, "event: {kind}\ndata: {data}\n\n");
    }

    /// More may follow at once.
    pub const fn read_on(&mut self) {
        self.then = Then::ReadOn;
    }

    /// Nothing follows ever.
    pub const fn end(&mut self) {
        self.then = Then::End;
    }
}

/// The answer that a stream is; `id` is where it begins, if a client can come back to that.
#[must_use]
pub fn answer(watch: Watch, source: impl Source, id: Option<&dyn Display>) -> Response {
    let mut opening = format!("retry: {RECONNECT_MS}\n");
    if let Some(id) = id {
        // An id without data is no event, but a client that comes back before the first one names it.
        let _ = writeln!(opening, "id: {id}");
    }
    opening.push('\n');
    let tail = Tail::new(watch, source, opening);
    let mut response = Response::new(Body::from_stream(stream::unfold(tail, Tail::next)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would collect what it passes on.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

struct Tail<S> {
    watch: Watch,
    source: S,
    opening: Option<String>,
    /// When its life is over.
    ends: Instant,
    /// When something must be sent.
    beat: Instant,
    /// Not before then may it read again.
    rests: Instant,
    /// When to read although nothing rang.
    again: Option<Instant>,
    due: bool,
    over: bool,
}

impl<S: Source> Tail<S> {
    fn new(watch: Watch, source: S, opening: String) -> Self {
        let now = Instant::now();
        Self {
            watch,
            source,
            opening: Some(opening),
            ends: now + LIFE,
            beat: now + HEARTBEAT,
            rests: now,
            again: None,
            due: true,
            over: false,
        }
    }

    /// The next bytes; nothing at the end.
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if let Some(opening) = self.opening.take() {
            return Some((Ok(opening.into()), self));
        }
        while !self.over && Instant::now() < self.ends && !self.watch.closed().await {
            let text = if self.due { self.read().await } else { self.wait().await };
            if !text.is_empty() {
                return Some((Ok(text.into()), self));
            }
        }
        None
    }

    async fn read(&mut self) -> String {
        self.due = false;
        self.again = None;
        let read = self.source.read().await;
        let now = Instant::now();
        self.rests = now + READ_PAUSE;
        match read {
            Ok(read) => {
                self.due = read.then == Then::ReadOn;
                self.over = read.then == Then::End;
                if !read.text.is_empty() {
                    self.beat = now + HEARTBEAT;
                }
                read.text
            }
            Err(error) => {
                tracing::debug!(%error, "a stream could not read on; it tries again");
                self.again = Some(now + RETRY_PAUSE);
                String::new()
            }
        }
    }

    /// Waits until reading is worth while; gives the heartbeat when it is time for one.
    async fn wait(&mut self) -> String {
        let wake = self.again.unwrap_or(self.beat).min(self.beat).min(self.ends);
        tokio::select! {
            () = self.watch.rung() => sleep_until(self.rests).await,
            () = sleep_until(wake) => {}
        }
        self.due = true;
        let now = Instant::now();
        if now < self.beat {
            return String::new();
        }
        self.beat = now + HEARTBEAT;
        ": heartbeat\n\n".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::{Live, Topic};
    use kernel::UserRowId;
    use parking_lot::Mutex;
    use std::collections::VecDeque;
    use std::sync::Arc;

    /// Gives what is put into it, and counts how often it is read.
    #[derive(Clone, Default)]
    struct Shelf(Arc<Mutex<Shelved>>);

    #[derive(Default)]
    struct Shelved {
        reads: VecDeque<Result<Read, DbError>>,
        asked: usize,
    }

    impl Shelf {
        fn put(&self, read: Result<Read, DbError>) {
            self.0.lock().reads.push_back(read);
        }

        fn reads(&self) -> usize {
            self.0.lock().asked
        }
    }

    impl Source for Shelf {
        async fn read(&mut self) -> Result<Read, DbError> {
            let mut shelf = self.0.lock();
            shelf.asked += 1;
            shelf.reads.pop_front().unwrap_or_else(|| Ok(Read::default()))
        }
    }

    const TOPIC: Topic = Topic::Session(1);

    fn event(number: i64) -> Read {
        let mut read = Read::default();
        read.event("number", Some(&number), &number);
        read
    }

    fn tail(live: &Live, shelf: &Shelf) -> Tail<Shelf> {
        let watch = live.watch(UserRowId(1), vec![TOPIC]).expect("room");
        Tail::new(watch, shelf.clone(), "retry: 1\n\n".to_owned())
    }

    /// What it sends until its end, or until it has sent so many parts.
    async fn sent(tail: &mut Option<Tail<Shelf>>, parts: usize) -> Vec<String> {
        let mut sent = Vec::new();
        while sent.len() < parts
            && let Some(one) = tail.take()
        {
            if let Some((Ok(bytes), rest)) = one.next().await {
                sent.push(String::from_utf8_lossy(&bytes).into_owned());
                *tail = Some(rest);
            }
        }
        sent
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_stream_beats_every_15_seconds_and_ends_after_15_minutes() {
        let (live, shelf) = (Live::default(), Shelf::default());
        let mut tail = Some(tail(&live, &shelf));
        let began = Instant::now();
        let sent = sent(&mut tail, usize::MAX).await;
        assert_eq!(began.elapsed(), LIFE);
        assert_eq!(sent[0], "retry: 1\n\n");
        assert!(sent[1..].iter().all(|part| part == ": heartbeat\n\n"));
        assert_eq!(sent[1..].len(), 60, "the last one at its end");
        assert_eq!(shelf.reads(), 60, "at first, and at each heartbeat but the last");
    }

    #[tokio::test(start_paused = true)]
    async fn a_bell_makes_it_read_and_many_bells_make_it_read_once() {
        let (live, shelf) = (Live::default(), Shelf::default());
        let mut tail = Some(tail(&live, &shelf));
        shelf.put(Ok(event(1)));
        assert_eq!(sent(&mut tail, 2).await[1], "id: 1\nevent: number\ndata: 1\n\n");
        for _ in 0..1000 {
            live.ring([TOPIC]);
        }
        shelf.put(Ok(event(2)));
        let began = Instant::now();
        assert_eq!(sent(&mut tail, 1).await, ["id: 2\nevent: number\ndata: 2\n\n"]);
        assert!(began.elapsed() <= READ_PAUSE);
        assert_eq!(shelf.reads(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn it_reads_on_until_it_has_caught_up_and_ends_with_its_source() {
        let (live, shelf) = (Live::default(), Shelf::default());
        let mut tail = Some(tail(&live, &shelf));
        for number in 1..=3 {
            let mut page = event(number);
            page.read_on();
            shelf.put(Ok(page));
        }
        let mut last = event(4);
        last.end();
        shelf.put(Ok(last));
        let began = Instant::now();
        assert_eq!(sent(&mut tail, usize::MAX).await.len(), 5);
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(live.watch(UserRowId(1), vec![]).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_fails_is_tried_again_soon() {
        let (live, shelf) = (Live::default(), Shelf::default());
        let mut tail = Some(tail(&live, &shelf));
        for _ in 0..3 {
            shelf.put(Err(DbError::Unavailable("away".to_owned())));
        }
        shelf.put(Ok(event(1)));
        let began = Instant::now();
        assert!(sent(&mut tail, 2).await[1].contains("data: 1"));
        assert_eq!(began.elapsed(), RETRY_PAUSE * 3);
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_the_service_stops() {
        let (live, shelf) = (Live::default(), Shelf::default());
        let mut tail = Some(tail(&live, &shelf));
        let closing = live.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(3)).await;
            closing.close();
        });
        let began = Instant::now();
        assert_eq!(sent(&mut tail, usize::MAX).await, ["retry: 1\n\n"]);
        assert!(began.elapsed() < Duration::from_secs(4));
    }
}
