//! What was changed here since the other processes were last told.
//!
//! Adding is what a writer does after a commit: one short lock, no waiting, and never more than a
//! bounded set. What passes the bound becomes the one word that wakes everybody.

use super::hub::Topic;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::fmt::Write as _;
use tokio::sync::Notify;

/// How many topics wait to be told; with more, everybody everywhere is woken.
pub const TOPICS_MAX: usize = 4_096;
/// The most bytes of one notification; PostgreSQL takes less than 8000.
pub const PAYLOAD_MAX_BYTES: usize = 7_900;
/// The notification that wakes everybody.
pub const ALL: &str = "*";

/// Topics that the other processes have yet to hear of.
#[derive(Default)]
pub struct Outbox {
    waiting: Mutex<Waiting>,
    some: Notify,
}

#[derive(Default)]
struct Waiting {
    topics: HashSet<Topic>,
    all: bool,
}

impl Outbox {
    /// Adds what was changed.
    pub fn add(&self, topics: impl Iterator<Item = Topic>) {
        let mut waiting = self.waiting.lock();
        if waiting.all {
            return;
        }
        let before = waiting.topics.len();
        for topic in topics {
            if waiting.topics.len() >= TOPICS_MAX && !waiting.topics.contains(&topic) {
                *waiting = Waiting { topics: HashSet::new(), all: true };
                break;
            }
            waiting.topics.insert(topic);
        }
        let first = before == 0 && (waiting.all || !waiting.topics.is_empty());
        drop(waiting);
        if first {
            self.some.notify_one();
        }
    }

    /// Has everybody woken: what was taken out may not have arrived.
    pub fn add_all(&self) {
        *self.waiting.lock() = Waiting { topics: HashSet::new(), all: true };
        self.some.notify_one();
    }

    /// Waits until there is something to tell, or may be.
    pub async fn some(&self) {
        self.some.notified().await;
    }

    /// Takes everything out, as notifications.
    pub fn take(&self) -> Vec<String> {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        if waiting.all { vec![ALL.to_owned()] } else { payloads(waiting.topics) }
    }
}

/// The words of the topics, in as few texts as their limit allows.
fn payloads(topics: HashSet<Topic>) -> Vec<String> {
    /// The longest word: a letter, a sign and 19 digits, and the space before it.
    const WORD_MAX: usize = 22;
    let mut payloads: Vec<String> = Vec::new();
    for topic in topics {
        match payloads.last_mut().filter(|last| last.len() + WORD_MAX <= PAYLOAD_MAX_BYTES) {
            Some(last) => {
                let _ = write!(last, " {topic}");
            }
            None => payloads.push(topic.to_string()),
        }
    }
    payloads
}

/// What a notification names; nothing when it wakes everybody, as does one that is not understood.
#[must_use]
pub fn topics(payload: &str) -> Option<Vec<Topic>> {
    payload.split(' ').map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn what_is_added_is_told_once_within_the_limit_of_a_notification() {
        let outbox = Outbox::default();
        assert!(outbox.some().now_or_never().is_none());
        let added: HashSet<Topic> =
            (0..i64::try_from(TOPICS_MAX).expect("small")).map(|n| Topic::Session(i64::MAX - n)).collect();
        outbox.add(added.iter().copied());
        outbox.add(added.iter().copied().take(5));
        assert!(outbox.some().now_or_never().is_some());
        let told = outbox.take();
        assert!(told.iter().all(|payload| payload.len() <= PAYLOAD_MAX_BYTES));
        let heard: Vec<Topic> = told.iter().flat_map(|payload| topics(payload).expect("topics")).collect();
        assert_eq!(heard.len(), added.len());
        assert_eq!(heard.into_iter().collect::<HashSet<_>>(), added);
        assert!(outbox.take().is_empty());
    }

    #[test]
    fn too_many_topics_wake_everybody_and_hold_no_memory() {
        let outbox = Outbox::default();
        outbox.add((0..).map(Topic::Session).take(TOPICS_MAX + 1));
        assert!(outbox.some().now_or_never().is_some());
        assert!(outbox.waiting.lock().topics.is_empty());
        assert_eq!(outbox.take(), [ALL]);
        assert!(outbox.take().is_empty());
        outbox.add_all();
        assert!(outbox.some().now_or_never().is_some());
        assert_eq!(outbox.take(), [ALL]);
    }

    #[test]
    fn a_notification_that_is_not_understood_wakes_everybody() {
        assert_eq!(topics("u12 s7"), Some(vec!["u12".parse().expect("a topic"), Topic::Session(7)]));
        for payload in [ALL, "", "u12  s7", "v2:u12"] {
            assert_eq!(topics(payload), None, "{payload:?}");
        }
    }
}
