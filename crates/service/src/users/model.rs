//! A user's row.

use crate::db::{DbError, FromRow, Row};
use kernel::{ExternalId, Timestamp, UserRowId};

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The integer key.
    pub id: UserRowId,
    /// The identity provider's id.
    pub auth0_id: ExternalId,
    /// The e-mail address as written.
    pub email: Option<String>,
    /// The name.
    pub name: Option<String>,
    /// The plan's key.
    pub plan: String,
    /// The state of the subscription.
    pub subscription_status: String,
    /// Whether the user may come in.
    pub is_active: bool,
    /// When `ensure` made it.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
}

/// The columns of [`User`], in the order that its `FromRow` reads them.
macro_rules! user_columns {
    () => {
        "id, auth0_id, email, name, plan, subscription_status, is_active, created_at, updated_at, deleted_at"
    };
}
pub(crate) use user_columns;

impl FromRow for User {
    fn from_row(row: &Row<'_>) -> Result<Self, DbError> {
        Ok(Self {
            id: UserRowId(row.int(0)?),
            auth0_id: row.text(1)?.parse().map_err(|e| DbError::Internal(format!("users.auth0_id: {e}")))?,
            email: row.optional_text(2)?,
            name: row.optional_text(3)?,
            plan: row.text(4)?,
            subscription_status: row.text(5)?,
            is_active: row.boolean(6)?,
            created_at: Timestamp::from_micros(row.int(7)?),
            updated_at: Timestamp::from_micros(row.int(8)?),
            deleted_at: row.optional_int(9)?.map(Timestamp::from_micros),
        })
    }
}
