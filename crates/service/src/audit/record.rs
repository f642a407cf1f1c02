//! A row of the audit log before it is written.

use crate::db::Value;
use crate::writer::{Done, Statement};
use kernel::{ExternalId, Timestamp, UserRowId};
use serde_json::Map;
use std::fmt;
use std::sync::Arc;

/// The longest value of a path that is noted, in characters.
pub const NOTED_MAX: usize = 255;

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// A user.
    User(UserRowId),
    /// An admin who is no user here.
    Stranger(ExternalId),
    /// A service key, by its public part.
    Key(Arc<str>),
    /// Somebody at the command line.
    Cli,
}

impl fmt::Display for Actor {
    /// As rows name it; a stranger's name needs the table of them, and is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(row) => write!(f, "user:{}", row.0),
            Self::Stranger(_) => f.write_str("admin"),
            Self::Key(key_id) => write!(f, "key:{key_id}"),
            Self::Cli => f.write_str("cli"),
        }
    }
}

/// What is to be written down.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Who.
    pub actor: Actor,
    /// Did what: the operation's id, or the command's name.
    pub action: Arc<str>,
    /// To what: `user:12`, `key:x`, `model:gpt-4`.
    pub target: Option<String>,
    /// In which request.
    pub request_id: Option<Arc<str>>,
    /// From where.
    pub client_ip: Option<String>,
    /// What else there is to say; never a secret, never a person's name.
    pub details: Map<String, serde_json::Value>,
}

impl Record {
    /// What somebody at the command line does.
    #[must_use]
    pub fn of_cli(action: &'static str) -> Self {
        Self {
            actor: Actor::Cli,
            action: action.into(),
            target: None,
            request_id: None,
            client_ip: None,
            details: Map::new(),
        }
    }

    /// The record with what came of it.
    #[must_use]
    pub fn with(&self, done: &Done) -> Self {
        let mut record = self.clone();
        match done {
            Done::Entry { entry, .. } => {
                record.details.insert("transaction_id".into(), entry.transaction_id().to_string().into());
                record.details.insert("amount".into(), serde_json::json!(entry.amount));
            }
            Done::User { user, created, .. } => {
                record.target.get_or_insert_with(|| format!("user:{}", user.id.0));
                if *created {
                    record.details.insert("created".into(), true.into());
                }
            }
            _ => {}
        }
        record
    }

    /// What writes it.
    #[must_use]
    pub fn statements(&self, now: Timestamp) -> Vec<Statement> {
        let mut values = vec![
            now.micros().into(),
            Value::Text(Some(self.actor.to_string())),
            (&*self.action).into(),
            self.target.clone().into(),
            self.request_id.as_deref().map(str::to_owned).into(),
            self.client_ip.clone().into(),
            serde_json::to_string(&self.details).unwrap_or_default().as_str().into(),
        ];
        match &self.actor {
            Actor::Stranger(subject) => {
                values[1] = subject.as_str().into();
                let known = "INSERT INTO audit_actors (subject) VALUES ($1) ON CONFLICT DO NOTHING";
                let sql = "INSERT INTO audit_log (at, actor, action, target, request_id, client_ip, details) \
                    SELECT $1, 'admin:' || CAST(a.id AS TEXT), $3, $4, $5, $6, $7 FROM audit_actors a WHERE a.subject = $2";
                vec![Statement::any(known, vec![subject.as_str().into()]), Statement::one(sql, values)]
            }
            _ => {
                let sql = "INSERT INTO audit_log (at, actor, action, target, request_id, client_ip, details) \
                    VALUES ($1, $2, $3, $4, $5, $6, $7)";
                vec![Statement::one(sql, values)]
            }
        }
    }
}
