//! Who watches what, and how it is woken.
//!
//! A stream is entered under each of its topics as long as it is open, and nothing is kept of topics
//! that nobody watches. A bell that rings before its stream waits is not lost: it is heard as soon
//! as the stream does. A writer takes one shared lock per commit.

use super::outbox::Outbox;
use crate::db::Db;
use crate::measure;
use crate::writer::Changes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use kernel::UserRowId;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use tokio::sync::Notify;

/// How many streams one process has open at once.
pub const OPEN_MAX: usize = 1_000;
/// How many of them may be about one user.
pub const OPEN_PER_USER_MAX: usize = 20;

/// What can be watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// A user's credits and usage.
    User(UserRowId),
    /// Whether a user and its sessions are there: the small changes of its rows.
    Edits(UserRowId),
    /// A session's messages.
    Session(i64),
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => write!(f, "u{}", user.0),
            Self::Edits(user) => write!(f, "e{}", user.0),
            Self::Session(session) => write!(f, "s{session}"),
        }
    }
}

impl FromStr for Topic {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        let (kind, row) = word.split_at_checked(1).ok_or(())?;
        let row: i64 = row.parse().map_err(|_| ())?;
        match kind {
            "u" => Ok(Self::User(UserRowId(row))),
            "e" => Ok(Self::Edits(UserRowId(row))),
            "s" => Ok(Self::Session(row)),
            _ => Err(()),
        }
    }
}

/// What these changes are about, to those who watch.
fn topics(changes: &Changes) -> impl Iterator<Item = Topic> {
    let usage = changes.usage.chunk_by(|one, next| one.user == next.user);
    let usage = usage.filter_map(|records| records.first()).map(|record| Topic::User(record.user));
    let accounts = changes.accounts.keys().map(|user| Topic::User(*user));
    let sessions = changes.moves.keys().map(|session| Topic::Session(*session));
    let users = changes.users.keys().map(|user| Topic::Edits(*user));
    let edits = changes.edits.iter().map(|(_, edit)| Topic::Edits(edit.user));
    accounts.chain(usage).chain(sessions).chain(users).chain(edits)
}

/// Why no further stream is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The process has [`OPEN_MAX`] of them.
    Process,
    /// The user has [`OPEN_PER_USER_MAX`] of them.
    User,
    /// The service is stopping.
    Stopping,
}

/// The way to watch, and to wake those who do. Cheap to clone.
#[derive(Clone, Default)]
pub struct Live {
    hub: Arc<Hub>,
}

#[derive(Default)]
struct Hub {
    watchers: RwLock<Watchers>,
    /// What the other processes are told, where there can be any.
    abroad: Option<Outbox>,
}

#[derive(Default)]
struct Watchers {
    bells: HashMap<Topic, Vec<Arc<Notify>>>,
    of_users: HashMap<UserRowId, usize>,
    open: usize,
    closed: bool,
}

impl Live {
    /// Streams over this database.
    #[must_use]
    pub fn over(db: &Db) -> Self {
        let abroad = matches!(db, Db::Postgres(_)).then(Outbox::default);
        Self { hub: Arc::new(Hub { watchers: RwLock::default(), abroad }) }
    }

    /// What the other processes are to be told, where there can be any.
    #[must_use]
    pub fn abroad(&self) -> Option<&Outbox> {
        self.hub.abroad.as_ref()
    }

    /// Wakes whoever watches what was changed. To be called after the commit: before it there is
    /// nothing to read.
    pub fn touched(&self, changes: &Changes) {
        self.ring(topics(changes));
        if let Some(abroad) = self.abroad() {
            abroad.add(topics(changes));
        }
    }

    /// Wakes whoever watches one of these, in this process.
    pub fn ring(&self, topics: impl IntoIterator<Item = Topic>) {
        let watchers = self.hub.watchers.read();
        if watchers.bells.is_empty() {
            return;
        }
        for topic in topics {
            watchers.bells.get(&topic).into_iter().flatten().for_each(|bell| bell.notify_one());
        }
    }

    /// Wakes everybody in this process: something may have been missed.
    pub fn ring_all(&self) {
        self.hub.watchers.read().bells.values().flatten().for_each(|bell| bell.notify_one());
    }

    /// Ends every stream, and opens none from now on.
    pub fn close(&self) {
        self.hub.watchers.write().closed = true;
        self.ring_all();
    }

    /// Opens a stream about a user's things that is woken by any of `topics`.
    ///
    /// # Errors
    /// [`Full`].
    pub fn watch(&self, user: UserRowId, topics: Vec<Topic>) -> Result<Watch, Full> {
        let bell = Arc::new(Notify::new());
        let mut watchers = self.hub.watchers.write();
        if watchers.closed {
            return Err(Full::Stopping);
        }
        if watchers.of_users.get(&user).is_some_and(|open| *open >= OPEN_PER_USER_MAX) {
            return Err(Full::User);
        }
        if watchers.open >= OPEN_MAX {
            return Err(Full::Process);
        }
        watchers.open += 1;
        *watchers.of_users.entry(user).or_default() += 1;
        for topic in &topics {
            watchers.bells.entry(*topic).or_default().push(Arc::clone(&bell));
        }
        measure::live_streams(watchers.open);
        drop(watchers);
        Ok(Watch { live: self.clone(), user, topics, bell, revoked: None })
    }
}

/// An open stream's entry; gone when dropped.
pub struct Watch {
    live: Live,
    user: UserRowId,
    topics: Vec<Topic>,
    bell: Arc<Notify>,
    revoked: Option<Box<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>>,
}

impl Watch {
    /// The same, over as soon as that holds: whoever makes it hold rings.
    #[must_use]
    pub fn until<F>(mut self, revoked: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = bool> + Send + 'static,
    {
        self.revoked = Some(Box::new(move || revoked().boxed()));
        self
    }

    /// Waits until something that is watched has changed since the last wait.
    pub async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Whether the service is stopping, or whoever watches may not any more.
    #[must_use]
    pub async fn closed(&self) -> bool {
        if self.live.hub.watchers.read().closed {
            return true;
        }
        match &self.revoked {
            Some(revoked) => revoked().await,
            None => false,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watchers = self.live.hub.watchers.write();
        for topic in &self.topics {
            if let Some(bells) = watchers.bells.get_mut(topic) {
                bells.retain(|bell| !Arc::ptr_eq(bell, &self.bell));
                if bells.is_empty() {
                    watchers.bells.remove(topic);
                }
            }
        }
        if let Some(open) = watchers.of_users.get_mut(&self.user) {
            *open -= 1;
            if *open == 0 {
                watchers.of_users.remove(&self.user);
            }
        }
        watchers.open -= 1;
        measure::live_streams(watchers.open);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: UserRowId = UserRowId(1);
    const BOB: UserRowId = UserRowId(2);

    fn open(live: &Live, user: UserRowId) -> Watch {
        live.watch(user, vec![Topic::User(user), Topic::Session(user.0)]).expect("room")
    }

    /// Whether its bell has rung since it was last asked.
    fn heard(watch: &Watch) -> bool {
        watch.rung().now_or_never().is_some()
    }

    #[test]
    fn a_bell_wakes_those_who_watch_and_is_heard_once_even_when_it_rang_before() {
        let live = Live::default();
        let (alice, other, bob) = (open(&live, ALICE), open(&live, ALICE), open(&live, BOB));
        live.ring([Topic::User(ALICE), Topic::Session(1), Topic::Edits(BOB)]);
        assert_eq!([heard(&alice), heard(&other), heard(&bob)], [true, true, false]);
        assert!(!heard(&alice));
        live.ring_all();
        assert_eq!([heard(&alice), heard(&other), heard(&bob)], [true; 3]);
    }

    #[test]
    fn nothing_is_kept_of_what_nobody_watches() {
        let live = Live::default();
        let watches: Vec<Watch> = (0..10).map(|n| open(&live, UserRowId(n % 3))).collect();
        drop(watches);
        let watchers = live.hub.watchers.read();
        assert!(watchers.bells.is_empty() && watchers.of_users.is_empty());
        assert_eq!(watchers.open, 0);
    }

    #[test]
    fn one_user_has_twenty_streams_and_the_process_a_thousand() {
        let live = Live::default();
        let mut open_ones: Vec<Watch> = (0..OPEN_PER_USER_MAX).map(|_| open(&live, ALICE)).collect();
        assert_eq!(live.watch(ALICE, vec![]).err(), Some(Full::User));
        open_ones.pop();
        open_ones.push(open(&live, ALICE));
        for row in 2.. {
            match live.watch(UserRowId(row), vec![Topic::Session(row)]) {
                Ok(watch) => open_ones.push(watch),
                Err(full) => {
                    assert_eq!(full, Full::Process);
                    break;
                }
            }
        }
        assert_eq!(open_ones.len(), OPEN_MAX);
    }

    #[test]
    fn a_stopping_service_wakes_all_and_opens_none() {
        let live = Live::default();
        let alice = open(&live, ALICE);
        live.close();
        assert!(alice.closed().now_or_never() == Some(true) && heard(&alice));
        assert_eq!(live.watch(BOB, vec![]).err(), Some(Full::Stopping));
    }

    #[test]
    fn topics_travel_as_short_words() {
        for (topic, word) in
            [(Topic::User(ALICE), "u1"), (Topic::Edits(BOB), "e2"), (Topic::Session(77), "s77")]
        {
            assert_eq!(topic.to_string(), word);
            assert_eq!(word.parse(), Ok(topic));
        }
        for word in ["", "u", "x1", "u1u", "é1"] {
            assert_eq!(word.parse::<Topic>(), Err(()), "{word}");
        }
    }
}
