//! What others can be told of.

use super::bodies::{FRESH, text};
use crate::db::Value;
use crate::writer::Statement;
use kernel::{Timestamp, UserRowId};
use serde::Serialize;
use std::{fmt, str::FromStr};

/// Makes the enum of events from their names and what they mean.
macro_rules! events {
    ($($variant:ident = $name:literal: $meaning:literal),+ $(,)?) => {
        /// A kind of event, named as the API names it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EventType { $(#[doc = $meaning] $variant),+ }

        impl EventType {
            /// Every kind there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name, such as `credit.consumed`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// What it means, in a sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),+ }
            }
        }
    };
}

events! {
    CreditConsumed = "credit.consumed": "Credits were spent, by a consume, a charge or the capture of a hold.",
    CreditRecharged = "credit.recharged": "Credits were bought.",
    CreditGranted = "credit.granted": "Credits were given.",
    CreditRefunded = "credit.refunded": "Spent credits came back.",
    CreditReversed = "credit.reversed": "Issued credits were taken back.",
    CreditExpired = "credit.expired": "What was left of a grant ended with its date.",
    CreditAdjusted = "credit.adjusted": "A balance was corrected, or a debt was paid with credits that came.",
    CreditLowBalance = "credit.low_balance": "What can be spent fell below LOW_BALANCE_CREDITS.",
    CreditLimitChanged = "credit.limit_changed": "How far below zero an account may go was changed.",
    HoldCreated = "hold.created": "Credits were set aside.",
    HoldExtended = "hold.extended": "A hold got more time.",
    HoldTicked = "hold.ticked": "It was said what the work under a hold has cost so far.",
    HoldCaptured = "hold.captured": "A hold was charged, wholly or in part.",
    HoldReleased = "hold.released": "What a hold had set aside returned.",
    HoldExpired = "hold.expired": "The time of a hold ended, and what it says for that was done.",
    UserCreated = "user.created": "A user was made.",
    UserUpdated = "user.updated": "A user's name or e-mail address changed.",
    UserDeleted = "user.deleted": "A user was deleted.",
    UserRestored = "user.restored": "A deleted user came back.",
    UserSuspended = "user.suspended": "A user was locked out.",
    UserReactivated = "user.reactivated": "A suspended user was let in again.",
    UserMerged = "user.merged": "Another user became part of this one: two identities of one person.",
    UsageRecorded = "usage.recorded": "A usage record was written, by itself or with a charge.",
    UsageRated = "usage.rated": "A usage record that had no price was rated.",
    SessionCreated = "session.created": "A session began.",
    SessionUpdated = "session.updated": "A session's title, data or summary changed.",
    SessionMessageAdded = "session.message_added": "A message was added to a session; what it says is not told.",
    SessionActivated = "session.activated": "A session became active again.",
    SessionPaused = "session.paused": "A session was set aside.",
    SessionCompleted = "session.completed": "A session was completed.",
    SessionArchived = "session.archived": "A session was archived.",
    SessionExpired = "session.expired": "A session was not used for longer than sessions live, or was declared expired.",
    SessionDeleted = "session.deleted": "A session was deleted.",
    SubscriptionCreated = "subscription.created": "A subscription began.",
    SubscriptionUpdated = "subscription.updated": "A subscription's plan, the one that follows it, or its state changed.",
    SubscriptionRenewed = "subscription.renewed": "A subscription turned to its next period.",
    SubscriptionPastDue = "subscription.past_due": "A subscription's payment failed; it goes on for the days of grace.",
    SubscriptionCanceled = "subscription.canceled": "A subscription was cancelled and ends with its period.",
    SubscriptionResumed = "subscription.resumed": "A subscription's cancellation was taken back.",
    SubscriptionEnded = "subscription.ended": "A subscription is over.",
    PaymentSucceeded = "payment.succeeded": "The money of a payment came.",
    PaymentFailed = "payment.failed": "The money of a payment was tried for and did not come; it may still.",
    PaymentCanceled = "payment.canceled": "The money of a payment will not come.",
    PaymentRefunded = "payment.refunded": "Money of a payment was given back.",
    PaymentDisputed = "payment.disputed": "A bank has taken money of a payment back, or gave it back when the dispute was won.",
    AlertLimitThreshold = "alert.limit_threshold": "Four fifths of a spending limit are spent.",
    AlertLimitReached = "alert.limit_reached": "All of a spending limit is spent.",
    AlertTopUpDisabled = "alert.top_up_disabled": "An automatic top-up was turned off.",
    AlertWebhookDisabled = "alert.webhook_disabled": "An endpoint was disabled because it kept failing or was gone.",
    AlertLedgerMismatch = "alert.ledger_mismatch": "A verification of the ledger found a row that does not fit.",
}

/// What is set apart in a word of bits must fit into it.
const _: () = assert!(EventType::ALL.len() <= 64);

impl EventType {
    /// Its bit in a set of kinds.
    const fn bit(self) -> u64 {
        1 << self as u32
    }

    /// Whether it happens to a user; the others are about the service itself.
    #[must_use]
    pub const fn is_of_user(self) -> bool {
        !matches!(self, Self::AlertWebhookDisabled | Self::AlertLedgerMismatch)
    }
}

/// A set of kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kinds(pub u64);

impl Kinds {
    /// Every kind there is.
    pub const ALL: Self = Self(u64::MAX);

    /// Whether that kind is one of them.
    #[must_use]
    pub const fn has(self, kind: EventType) -> bool {
        self.0 & kind.bit() != 0
    }
}

impl FromIterator<EventType> for Kinds {
    fn from_iter<I: IntoIterator<Item = EventType>>(kinds: I) -> Self {
        Self(kinds.into_iter().fold(0, |set, kind| set | kind.bit()))
    }
}

impl<'a> FromIterator<&'a str> for Kinds {
    /// A kind of another release is left out.
    fn from_iter<I: IntoIterator<Item = &'a str>>(names: I) -> Self {
        names.into_iter().filter_map(|name| name.parse::<EventType>().ok()).collect()
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EventType {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|kind| kind.as_str() == name);
        found.copied().ok_or_else(|| format!("there is no event type {name:?}"))
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub kind: EventType,
    /// To whom; absent where it is about no user.
    pub user: Option<UserRowId>,
    /// The text of a JSON object: the keys that stand beside `type`, and `data`.
    pub body: String,
    /// When.
    pub at: Timestamp,
}

impl Event {
    /// Something that happened to a user.
    #[must_use]
    pub fn of(kind: EventType, user: UserRowId, at: Timestamp, body: &impl Serialize) -> Self {
        Self { kind, user: Some(user), body: text(body), at }
    }

    /// The same with the id of the row that was made, where its body has [`FRESH`]: in every view it comes before whatever
    /// callers say.
    #[must_use]
    pub fn with_id(mut self, id: i64) -> Self {
        let fresh = FRESH.to_string();
        if let Some(place) = self.body.find(&fresh) {
            self.body.replace_range(place..place + fresh.len(), &id.to_string());
        }
        self
    }

    /// The statement that keeps it where a condition holds, whose parameters come after the event's: `$5` and on. It stands
    /// before the statement that changes what the condition asks, and behind one that locks it.
    #[must_use]
    pub fn when(&self, keep_one: &'static str, condition: impl IntoIterator<Item = Value>) -> Statement {
        Statement::any(keep_one, self.values().into_iter().chain(condition).collect())
    }

    /// The statement that keeps it, for an edit whose other statements decide whether it happened: `AND …` is
    /// to be appended to `keep_one` for a condition.
    #[must_use]
    pub fn statement(&self) -> Statement {
        Statement::any(super::outbox::keep_one!(""), self.values())
    }

    /// The parameters of `keep_one`; those of a condition follow as `$5` and on.
    #[must_use]
    pub fn values(&self) -> Vec<Value> {
        vec![
            self.user.map(|user| user.0).into(),
            self.kind.as_str().into(),
            self.body.as_str().into(),
            self.at.micros().into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::HashSet;

    #[test]
    fn every_kind_has_a_name_of_its_own_that_is_read_back() {
        let names: HashSet<&str> = EventType::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(names.len(), EventType::ALL.len());
        for kind in EventType::ALL {
            assert_eq!(kind.as_str().parse(), Ok(*kind));
            assert!(
                kind.as_str()
                    .split_once('.')
                    .is_some_and(|(family, what)| !family.is_empty() && !what.is_empty())
            );
        }
        assert_eq!(
            "credit.stolen".parse::<EventType>(),
            Err("there is no event type \"credit.stolen\"".to_owned())
        );
    }

    #[test]
    fn what_a_caller_says_is_never_taken_for_a_place_that_is_left_open() {
        let said = json!({"data": {"id": FRESH, "title": FRESH.to_string(), "metadata": {"id": FRESH}}});
        let event = Event::of(EventType::SessionCreated, UserRowId(1), Timestamp::from_micros(1), &said);
        let told = event.clone().with_id(7).body;
        assert_eq!(told, event.body.replacen(&FRESH.to_string(), "7", 1));
        assert!(serde_json::from_str::<serde_json::Value>(&event.body).is_ok(), "{}", event.body);
    }

    #[test]
    fn a_set_of_kinds_has_those_of_its_names_that_this_release_knows() {
        let kinds: Kinds = ["credit.consumed", "credit.stolen"].into_iter().collect();
        assert!(kinds.has(EventType::CreditConsumed) && !kinds.has(EventType::CreditGranted));
        assert_eq!(Kinds::default(), Kinds(0));
        assert!(EventType::ALL.iter().all(|kind| Kinds::ALL.has(*kind)));
    }
}
