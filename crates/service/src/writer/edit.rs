//! Small changes that need no rules: a few statements with one text for both engines.
//!
//! What is hot or decides about money has a command, a plan and bulk statements of its own. The
//! rest is an edit: its statements run in the batch's transaction, in order, and each says how many
//! rows it must write. Conditions stand in the statements (`WHERE … AND bytes + $2 <= $3`); one that
//! is not met refuses the whole edit, and the caller learns which.

use super::ids::Counter;
use crate::db::Value;
use crate::webhooks::Event;
use crate::webhooks::outbox::KEEP;
use kernel::UserRowId;

/// A small change of one user's rows.
#[derive(Debug, Clone)]
pub struct Edit {
    /// Whose rows.
    pub user: UserRowId,
    /// The rows that get a fresh id, which stands in the statements as [`Value::Fresh`].
    pub fresh: Option<Counter>,
    /// What to run, in order.
    pub statements: Vec<Statement>,
    /// What has happened when the statements have run.
    pub events: Vec<Event>,
}

/// One statement of an edit.
#[derive(Debug, Clone)]
pub struct Statement {
    /// The text, parameters written `$1`, `$2`, …; a unique key is claimed with `ON CONFLICT DO NOTHING`.
    pub sql: &'static str,
    /// The parameters.
    pub values: Vec<Value>,
    /// How many rows it must write, if that matters.
    pub rows: Option<usize>,
}

impl Statement {
    /// A statement that must write exactly one row.
    #[must_use]
    pub const fn one(sql: &'static str, values: Vec<Value>) -> Self {
        Self { sql, values, rows: Some(1) }
    }

    /// A statement that may write any number of rows.
    #[must_use]
    pub const fn any(sql: &'static str, values: Vec<Value>) -> Self {
        Self { sql, values, rows: None }
    }
}

impl Edit {
    /// A change of rows that are there.
    #[must_use]
    pub const fn new(user: UserRowId, statements: Vec<Statement>) -> Self {
        Self { user, fresh: None, statements, events: Vec::new() }
    }

    /// A change that makes a row, which gets a fresh id.
    #[must_use]
    pub const fn making(counter: Counter, user: UserRowId, statements: Vec<Statement>) -> Self {
        Self { user, fresh: Some(counter), statements, events: Vec::new() }
    }

    /// The same edit, which others are told of as that.
    #[must_use]
    pub fn telling(mut self, event: impl Into<Option<Event>>) -> Self {
        self.events.extend(event.into());
        self
    }

    /// Whether a statement of its own keeps an event.
    #[must_use]
    pub fn tells(&self) -> bool {
        self.statements.iter().any(|statement| statement.sql.starts_with(KEEP))
    }

    /// The same edit with the fresh id in its place.
    #[must_use]
    pub fn with_id(&self, id: i64) -> Self {
        let mut edit = self.clone();
        let fresh = edit.statements.iter_mut().flat_map(|statement| &mut statement.values);
        fresh.filter(|value| **value == Value::Fresh).for_each(|value| *value = id.into());
        edit
    }
}
