//! Who sets a limit: the user's plan, or whoever sends limits for the user.
//!
//! What always holds: each source replaces its own limits and no others, and has room of its own, so that
//! neither can make the other fail. A limit's name says whose it is.

use super::model::{EACH_MAX, LIMITS_MAX, Limit, TEXT_MAX_BYTES, to_text};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// How the names of a plan's limits begin, and no others.
pub const PLAN_PREFIX: &str = "plan:";
/// What of a user's room for limits its plan has.
pub const PLAN_ROOM: Room = Room { limits: 20, each: 5, bytes: 8 * 1024 };

/// Who set a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = LimitSource)]
pub enum Source {
    /// The user's plan.
    Plan,
    /// Whoever sent it for the user.
    User,
}

/// How many limits a user may have of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// In all.
    pub limits: usize,
    /// Of those that count each session, key, model or tag on its own.
    pub each: usize,
    /// Bytes, as they are kept.
    pub bytes: usize,
}

impl Source {
    /// The room that its limits have.
    #[must_use]
    pub const fn room(self) -> Room {
        match self {
            Self::Plan => PLAN_ROOM,
            Self::User => Room {
                limits: LIMITS_MAX - PLAN_ROOM.limits,
                each: EACH_MAX - PLAN_ROOM.each,
                bytes: TEXT_MAX_BYTES - PLAN_ROOM.bytes,
            },
        }
    }

    /// Whose the limits of that name are.
    #[must_use]
    pub fn of(id: &str) -> Self {
        if id.starts_with(PLAN_PREFIX) { Self::Plan } else { Self::User }
    }

    /// The limits of a user where those of this source are replaced: first the ones that were sent, then the
    /// plan's. What is not of this source is left out of `new`.
    #[must_use]
    pub fn replace(self, standing: &[Limit], new: &[Limit]) -> Arc<[Limit]> {
        let own = new.iter().filter(|limit| limit.source() == self);
        let others = standing.iter().filter(|limit| limit.source() != self);
        match self {
            Self::Plan => others.chain(own).cloned().collect(),
            Self::User => own.chain(others).cloned().collect(),
        }
    }
}

impl Room {
    /// Refuses what is more than there is room for.
    ///
    /// # Errors
    /// The rule.
    pub fn holds(self, limits: &[Limit]) -> Result<(), String> {
        let Self { limits: most, each, bytes } = self;
        if limits.len() > most {
            return Err(format!("must have at most {most} limits, has {}", limits.len()));
        }
        if limits.iter().filter(|limit| limit.is_each()).count() > each {
            return Err(format!("must have at most {each} limits that count each value on its own"));
        }
        if to_text(limits)?.len() > bytes {
            return Err(format!("must take at most {bytes} bytes"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::model::{Dimension, Unit};
    use crate::limits::window::Window;

    fn limit(id: &str, amount: i64) -> Limit {
        let (per, unit, window) = (Dimension::User, Unit::Tokens, Window::Day);
        Limit { id: id.to_owned(), per, value: None, unit, window, amount }
    }

    #[test]
    fn each_replaces_its_own_and_leaves_the_others() {
        let ids = |limits: &[Limit]| -> Vec<String> { limits.iter().map(|l| l.id.clone()).collect() };
        let plan = Source::Plan.replace(&[], &[limit("plan:a", 1), limit("plan:b", 2)]);
        let both = Source::User.replace(&plan, &[limit("mine", 3)]);
        assert_eq!(ids(&both), ["mine", "plan:a", "plan:b"]);
        assert_eq!(Source::Plan.replace(&both, &plan), both, "set again in the same words, nothing moves");
        assert_eq!(ids(&Source::Plan.replace(&both, &[limit("plan:c", 1)])), ["mine", "plan:c"]);
        assert_eq!(ids(&Source::User.replace(&both, &[])), ["plan:a", "plan:b"]);
        let foreign = Source::Plan.replace(&both, &[limit("mine", 9)]);
        assert_eq!(&*foreign, [limit("mine", 3)], "what is not of the plan is none of its limits");
    }
}
