//! The audit log: what operators and service keys did, written with what they did.
//!
//! What always holds:
//! - A route is audited by being what it is; nobody writes a row by hand. Whatever an admin changes is. What a
//!   service key changes is where the route needs a scope of [`AUDITED`], or removes something.
//! - The row is in the transaction of the first command that the request gives the writer. A
//!   request that gives it none gets a row of its own before it is answered; where that cannot be
//!   written, neither is the answer given. What is refused, and an answer that is repeated under an
//!   idempotency key, has no row.
//! - Rows are only ever added; triggers on both engines refuse everything else.
//! - Users stand in it by their row ids, and never with a name or an address, so that forgetting a
//!   person changes nothing here. An admin who never was a user stands in `audit_actors`.
//!
//! Reading order: [`record`] (a row), [`around`] (which request has one), [`store`] and [`api`].

pub mod api;
pub mod around;
pub mod record;
pub mod store;

pub use around::{note, target};
pub use record::{Actor, Record};

use crate::auth::Scope;

/// The scopes whose use is audited: what gives credits, changes users, or is for operators. What
/// spends is not: the ledger says who did it, and it is too much. Nor is what users say and upload.
/// What only reads is not either, but for [`READS`].
pub const AUDITED: [Scope; 5] =
    [Scope::Admin, Scope::CreditsGrant, Scope::UsersWrite, Scope::WebhooksWrite, Scope::TokensIssue];

/// What changes nothing although it is no `GET`.
pub const ASKS: [&str; 4] = ["noop", "get_quote", "check_limits", "check_entitlement"];

/// What takes all that is known of a person away with it.
pub const READS: [&str; 1] = ["export_user"];
