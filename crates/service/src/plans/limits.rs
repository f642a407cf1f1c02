//! The spending limits of a plan: whoever has the plan has them, beside its own.

use super::Plan;
use super::store;
use crate::app::App;
use crate::charges::canonical;
use crate::credits::Rejection;
use crate::credits::ledger::LedgerCommand;
use crate::limits::model::{Dimension, Limit};
use crate::limits::{PLAN_PREFIX, parse_list};
use crate::writer::{Command, WriteError};
use kernel::UserRowId;

/// Gives a user the limits of the plan that it has now, in the place of those of the plan before.
///
/// # Errors
/// [`WriteError`].
pub async fn apply(app: &App, user: UserRowId) -> Result<(), WriteError> {
    let version = store::of_user(app, user).await?;
    let limits = version.map_or_else(Vec::new, |version| of(app, &version.plan));
    match app.writer.execute(Command::Ledger(user, LedgerCommand::SetPlanLimits(limits.into()))).await {
        // Whoever is deleted spends nothing.
        Ok(_) | Err(WriteError::Credits(Rejection::UnknownAccount)) => Ok(()),
        Err(error) => Err(error),
    }
}

fn of(app: &App, plan: &Plan) -> Vec<Limit> {
    // The settings were read by the same rules, so what does not parse is not there.
    let mut limits = plan.limits.as_deref().and_then(|text| parse_list(text).ok()).unwrap_or_default();
    for limit in &mut limits {
        limit.id.insert_str(0, PLAN_PREFIX);
        if limit.per == Dimension::Model {
            limit.value = limit.value.take().map(|model| canonical(app, &model, None, app.clock.now()));
        }
    }
    limits
}
