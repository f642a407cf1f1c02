//! Server-sent events, read as a browser's `EventSource` reads them.
//!
//! Every wait has a deadline, and a stream that ends says so: nothing here sleeps.

use reqwest::Response;
use serde_json::Value;
use std::collections::VecDeque;
use std::time::Duration;

/// How long an event may take on a busy machine: less than a heartbeat, which would hide that a
/// stream was not woken.
const LIMIT: Duration = Duration::from_secs(12);

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The last id that was named up to here.
    pub id: String,
    /// Its kind.
    pub kind: String,
    /// Its data.
    pub data: Value,
}

/// A stream of them; closed when dropped.
pub struct Events {
    response: Response,
    bytes: Vec<u8>,
    ready: VecDeque<Event>,
    /// The last id that was named, as a client sends it when it comes back; empty before the first.
    pub last_id: String,
    /// After how many milliseconds a client shall come back.
    pub retry_ms: Option<u64>,
    /// How many comments came.
    pub comments: usize,
}

impl Events {
    /// Reads an answer; it has begun when this returns.
    ///
    /// # Panics
    /// When it is no stream of events.
    pub async fn of(response: Response) -> Self {
        assert_eq!(response.status(), 200, "{}", response.url());
        for (name, wanted) in [
            ("content-type", "text/event-stream"),
            ("cache-control", "no-store"),
            ("x-accel-buffering", "no"),
        ] {
            let found = response.headers().get(name).and_then(|value| value.to_str().ok());
            assert_eq!(found, Some(wanted), "{name}");
        }
        let mut events = Self {
            response,
            bytes: Vec::new(),
            ready: VecDeque::new(),
            last_id: String::new(),
            retry_ms: None,
            comments: 0,
        };
        while events.retry_ms.is_none() {
            assert!(events.read().await, "the stream ended before it began");
        }
        events
    }

    /// The next event; nothing when the stream has ended.
    pub async fn next(&mut self) -> Option<Event> {
        while self.ready.is_empty() {
            if !self.read().await {
                return None;
            }
        }
        self.ready.pop_front()
    }

    /// The next `count` events.
    ///
    /// # Panics
    /// When the stream ends before.
    pub async fn take(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::with_capacity(count);
        while events.len() < count {
            let next = self.next().await;
            events.push(next.unwrap_or_else(|| panic!("the stream ended after {events:?}")));
        }
        events
    }

    /// All events up to the stream's end.
    pub async fn rest(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }

    /// Reads on; false at the end.
    async fn read(&mut self) -> bool {
        let chunk = tokio::time::timeout(LIMIT, self.response.chunk()).await;
        let chunk = chunk.unwrap_or_else(|_| panic!("nothing more came after id {:?}", self.last_id));
        // A connection that breaks has ended as well; what is whole until then counts.
        let Ok(Some(chunk)) = chunk else { return false };
        self.bytes.extend_from_slice(&chunk);
        while let Some(end) = self.bytes.windows(2).position(|two| two == b"\n\n") {
            let block: Vec<u8> = self.bytes.drain(..end + 2).collect();
            self.block(std::str::from_utf8(&block).expect("UTF-8"));
        }
        true
    }

    fn block(&mut self, block: &str) {
        let (mut kind, mut data) = (String::new(), String::new());
        for line in block.lines().filter(|line| !line.is_empty()) {
            match line.split_once(": ").unwrap_or((line, "")) {
                ("", _) => self.comments += 1,
                ("id", id) => self.last_id = id.to_owned(),
                ("event", word) => kind = word.to_owned(),
                ("data", text) => data.push_str(text),
                ("retry", ms) => self.retry_ms = Some(ms.parse().expect("milliseconds")),
                _ => panic!("{line:?} is no line of a stream"),
            }
        }
        if !data.is_empty() {
            let data = serde_json::from_str(&data).expect("JSON");
            self.ready.push_back(Event { id: self.last_id.clone(), kind, data });
        }
    }
}
