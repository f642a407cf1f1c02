//! Sessions, messages and memory. No I/O. What a message says is shared, so that passing it on copies nothing.

use crate::db::{DbError, FromRow, Row, Weigh};
use kernel::{ExternalId, JsonArray, JsonObject, Score, Timestamp, UserRowId, WideSum};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use std::sync::Arc;
use utoipa::ToSchema;

/// Makes an enum of words: how it is written, and what is said of any other word.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $rule:literal: $($(#[$about:meta])* $variant:ident = $word:literal),+) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
        #[serde(rename_all = "lowercase")]
        pub enum $name {
            $($(#[$about])* $variant),+
        }

        impl $name {
            /// The word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }

            fn of(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }

            fn stored(word: &str) -> Result<Self, DbError> {
                Self::of(word).ok_or_else(|| DbError::Internal(format!("{word} is no {}", stringify!($name))))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::of(&String::deserialize(deserializer)?).ok_or_else(|| D::Error::custom($rule))
            }
        }
    };
}

words! {
    /// The state of a session.
    Status, "must be active, paused, completed, archived or expired":
    /// In use.
    Active = "active",
    /// Set aside.
    Paused = "paused",
    /// Done.
    Completed = "completed",
    /// Kept for the record.
    Archived = "archived",
    /// Not used for longer than sessions live.
    Expired = "expired"
}

words! {
    /// Who says it.
    Role, "must be user, assistant, system or tool":
    /// The person.
    User = "user",
    /// The model.
    Assistant = "assistant",
    /// The product.
    System = "system",
    /// A tool that the model called.
    Tool = "tool"
}

/// A session and its user, by all their ids. Cheap to clone; none of it ever changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRef {
    /// The integer key.
    pub row: i64,
    /// The public id.
    pub session_id: Arc<str>,
    /// Whose it is.
    pub user: UserRowId,
    /// The same user's id in the identity provider.
    pub auth0_id: ExternalId,
}

impl FromRow for SessionRef {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        let auth0_id = row.text(3)?.parse().map_err(|e| DbError::Internal(format!("users.auth0_id: {e}")))?;
        let (session_id, user) = (row.text(1)?.into(), UserRowId(row.int(2)?));
        Ok(Self { row: row.int(0)?, session_id, user, auth0_id })
    }
}

/// A session as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The integer key.
    pub id: i64,
    /// The public id.
    pub session_id: Arc<str>,
    /// Its state as it was last written; see [`Session::status`].
    pub written_status: Status,
    /// How many messages it has.
    pub message_count: i64,
    /// All their tokens.
    pub total_tokens: i64,
    /// All that they cost, in nano-dollars.
    pub total_cost: WideSum,
    /// When it was made.
    pub created_at: Timestamp,
    /// When anything of it last changed.
    pub updated_at: Timestamp,
    /// When it was last used.
    pub last_activity: Timestamp,
    /// When it expires unless it is used.
    pub expires_at: Option<Timestamp>,
    /// Its title.
    pub title: Option<String>,
    /// What it was about.
    pub session_summary: Option<String>,
    /// The caller's data on the conversation.
    pub conversation_data: JsonObject,
    /// The caller's data.
    pub metadata: JsonObject,
}

impl Session {
    /// An expired session as messages leave it: active again.
    #[must_use]
    pub fn revived(mut self, by: &Move) -> Self {
        self.written_status = Status::Active;
        self.message_count += by.messages;
        self.total_tokens += by.tokens;
        self.total_cost.add(by.cost);
        self.last_activity = self.last_activity.max(by.at);
        self.updated_at = self.updated_at.max(by.at);
        self.expires_at = by.expires_at;
        self
    }

    /// Its state now: past its time an active session is expired, whether or not that is written down.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> Status {
        match self.written_status {
            Status::Active if self.expires_at.is_some_and(|at| at <= now) => Status::Expired,
            status => status,
        }
    }
}

/// The columns of [`Session`], in the order that its `FromRow` reads them.
macro_rules! session_columns {
    () => {
        "id, session_id, status, message_count, total_tokens, total_cost_hi, total_cost_lo, created_at, updated_at, \
         last_activity, expires_at, title, session_summary, conversation_data, metadata"
    };
}
pub(crate) use session_columns;

/// The text that says whether a session `s` is expired at a parameter's time: see [`Session::status`].
macro_rules! is_expired {
    ($now:literal) => {
        concat!(
            "COALESCE(s.status = 'expired' OR (s.status = 'active' AND s.expires_at <= ",
            $now,
            "), FALSE)"
        )
    };
}
pub(crate) use is_expired;

impl FromRow for Session {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self {
            id: row.int(0)?,
            session_id: row.text(1)?.into(),
            written_status: Status::stored(&row.text(2)?)?,
            message_count: row.int(3)?,
            total_tokens: row.int(4)?,
            total_cost: WideSum { hi: row.int(5)?, lo: row.int(6)? },
            created_at: Timestamp::from_micros(row.int(7)?),
            updated_at: Timestamp::from_micros(row.int(8)?),
            last_activity: Timestamp::from_micros(row.int(9)?),
            expires_at: row.optional_int(10)?.map(Timestamp::from_micros),
            title: row.optional_text(11)?,
            session_summary: row.optional_text(12)?,
            conversation_data: JsonObject::from_stored(row.text(13)?),
            metadata: JsonObject::from_stored(row.text(14)?),
        })
    }
}

impl Weigh for Session {
    fn weight(&self) -> usize {
        let summary = self.session_summary.as_ref().map_or(0, String::len);
        self.conversation_data.as_str().len() + self.metadata.as_str().len() + summary
    }
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageFacts {
    /// What kind of message.
    pub message_type: String,
    /// Who says it.
    pub role: Role,
    /// The text.
    pub content: String,
    /// Whether the text and the tools' calls are those that came, and not emptied.
    pub content_stored: bool,
    /// The tools that the model calls.
    pub tool_calls: Option<JsonArray>,
    /// The call that a tool answers.
    pub tool_call_id: Option<String>,
    /// The caller's data.
    pub metadata: JsonObject,
    /// Its tokens.
    pub tokens_used: i64,
    /// What it cost, in nano-dollars.
    pub cost_usd: i64,
    /// Whether a summary may take it in.
    pub is_summary_candidate: bool,
    /// How important it is.
    pub importance_score: Score,
}

/// A message that is to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage {
    /// The public id.
    pub message_id: Arc<str>,
    /// What it says.
    pub facts: Arc<MessageFacts>,
    /// By which words it is found, as [`super::words::of_text`] gives them.
    pub words: Arc<str>,
}

/// Add messages to a session, all or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// Where.
    pub session: SessionRef,
    /// What.
    pub messages: Vec<NewMessage>,
}

/// A message that was added in this batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The integer key.
    pub id: i64,
    /// Where.
    pub session: SessionRef,
    /// When.
    pub created_at: Timestamp,
    /// What.
    pub new: NewMessage,
}

/// A message as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// The integer key.
    pub id: i64,
    /// Its number within the session.
    pub seq: i64,
    /// The public id.
    pub message_id: Arc<str>,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// What it says.
    pub facts: Arc<MessageFacts>,
    /// The public id of its session.
    pub session_id: Arc<str>,
}

/// The columns of [`StoredMessage`] of `messages m` and `sessions s`, in the order that its `FromRow` reads them.
macro_rules! message_columns {
    () => {
        "m.id, m.seq, m.message_id, m.created_at, m.updated_at, m.message_type, m.role, m.content, m.tool_calls, \
         m.tool_call_id, m.metadata, m.tokens_used, m.cost_usd, m.is_summary_candidate, m.importance_score, s.session_id, \
         m.content_stored"
    };
}
pub(crate) use message_columns;

impl FromRow for StoredMessage {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self {
            id: row.int(0)?,
            seq: row.int(1)?,
            message_id: row.text(2)?.into(),
            created_at: Timestamp::from_micros(row.int(3)?),
            updated_at: Timestamp::from_micros(row.int(4)?),
            facts: Arc::new(MessageFacts {
                message_type: row.text(5)?,
                role: Role::stored(&row.text(6)?)?,
                content: row.text(7)?,
                content_stored: row.int(16)? != 0,
                tool_calls: row.optional_text(8)?.map(JsonArray::from_stored),
                tool_call_id: row.optional_text(9)?,
                metadata: JsonObject::from_stored(row.text(10)?),
                tokens_used: row.int(11)?,
                cost_usd: row.int(12)?,
                is_summary_candidate: row.int(13)? != 0,
                importance_score: Score::from_millionths(row.int(14)?),
            }),
            session_id: row.text(15)?.into(),
        })
    }
}

impl Weigh for StoredMessage {
    fn weight(&self) -> usize {
        let tool_calls = self.facts.tool_calls.as_ref().map_or(0, |calls| calls.as_str().len());
        self.facts.content.len() + self.facts.metadata.as_str().len() + tool_calls
    }
}

/// What a session moves by in one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// How many messages were added.
    pub messages: i64,
    /// Their tokens.
    pub tokens: i64,
    /// What they cost, in nano-dollars.
    pub cost: WideSum,
    /// When.
    pub at: Timestamp,
    /// When the session expires now.
    pub expires_at: Option<Timestamp>,
    /// Whether it was expired.
    pub revives: bool,
}

impl Move {
    /// A session that is used now and lives that long after it.
    #[must_use]
    pub fn new(at: Timestamp, life: Option<std::time::Duration>) -> Self {
        let expires_at = life.map(|life| at.plus(life));
        Self { messages: 0, tokens: 0, cost: WideSum::default(), at, expires_at, revives: false }
    }

    /// Counts a message.
    pub fn add(&mut self, message: &MessageFacts) {
        self.messages += 1;
        self.tokens += message.tokens_used;
        self.cost.add(WideSum::of(message.cost_usd));
    }
}

/// The first midnight (UTC) after an instant, by which the sweeper finds what has expired: it moves once a
/// day, so that a message seldom touches its index.
#[must_use]
pub fn expiry_day(expires_at: Timestamp) -> i64 {
    const DAY: i64 = 24 * 60 * 60 * 1_000_000;
    (expires_at.micros() / DAY + 1) * DAY
}

/// Something to remember of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// The integer id.
    pub id: i64,
    /// What kind.
    pub memory_type: String,
    /// The text.
    pub content: String,
    /// Whether the text is the one that came, and not emptied.
    pub content_stored: bool,
    /// The caller's data.
    pub metadata: JsonObject,
    /// When it was added.
    pub created_at: Timestamp,
}

impl FromRow for Memory {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self {
            id: row.int(0)?,
            memory_type: row.text(1)?,
            content: row.text(2)?,
            content_stored: row.int(5)? != 0,
            metadata: JsonObject::from_stored(row.text(3)?),
            created_at: Timestamp::from_micros(row.int(4)?),
        })
    }
}

impl Weigh for Memory {
    fn weight(&self) -> usize {
        self.content.len() + self.metadata.as_str().len()
    }
}
