//! What others can be told of.

use crate::db::Value;
use crate::writer::Statement;
use kernel::{Timestamp, UserRowId};
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
    CreditConsumed = "credit.consumed": "Credits were spent.",
    CreditRecharged = "credit.recharged": "Credits were bought.",
    CreditGranted = "credit.granted": "Credits were given.",
    CreditRefunded = "credit.refunded": "Spent credits came back.",
    CreditReversed = "credit.reversed": "Issued credits were taken back.",
    CreditExpired = "credit.expired": "What was left of a grant ended with its date.",
    CreditAdjusted = "credit.adjusted": "A balance was corrected by hand.",
    AlertWebhookDisabled = "alert.webhook_disabled": "An endpoint was disabled because it kept failing or was gone.",
}

/// What is set apart in a word of bits must fit into it.
const _: () = assert!(EventType::ALL.len() <= 64);

impl EventType {
    /// Its bit in a set of kinds.
    #[must_use]
    pub const fn bit(self) -> u64 {
        1 << self as u32
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
    /// The statement that keeps it, for an edit whose other statements decide whether it happened: `AND …` is
    /// to be appended to [`super::outbox::keep_one`] for a condition.
    #[must_use]
    pub fn statement(&self) -> Statement {
        Statement::any(super::outbox::keep_one!(""), self.values())
    }

    /// The parameters of [`super::outbox::keep_one`]; those of a condition follow as `$5` and on.
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
}
