//! What happens by itself as time passes.
//!
//! Each thing happens at its own instant and in the order of time, so an advance of months is the same
//! as many small ones.

use super::checkout::expire;
use super::invoices::{attempt, finalize};
use super::subscriptions::{WARNING_S, has_ended, renew, warn};
use super::world::{World, text};
use serde_json::Value;

/// Something that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Finalize,
    Retry,
    Warn,
    Renew,
    Expire,
}

/// Lets time pass until an instant.
pub(super) fn advance_to(world: &mut World, until: i64) {
    while let Some((at, due, id)) = next(world).filter(|(at, ..)| *at <= until) {
        world.now = world.now.max(at);
        match due {
            Due::Finalize => {
                finalize(world, &id);
                // Whether it was paid is told by events.
                let _ = attempt(world, &id, true);
            }
            Due::Retry => drop(attempt(world, &id, true)),
            Due::Warn => warn(world, &id),
            Due::Renew => renew(world, &id),
            Due::Expire => drop(expire(world, &id)),
        }
    }
    world.now = world.now.max(until);
}

/// The next thing that is due, by its instant.
fn next(world: &World) -> Option<(i64, Due, String)> {
    let mut all = Vec::new();
    for invoice in world.all("invoice") {
        match invoice["status"].as_str() {
            Some("draft") => all.extend(due(&invoice["automatically_finalizes_at"], Due::Finalize, invoice)),
            Some("open") => all.extend(due(&invoice["next_payment_attempt"], Due::Retry, invoice)),
            _ => {}
        }
    }
    for subscription in world.all("subscription").filter(|subscription| !has_ended(subscription)) {
        all.extend(due(&subscription["items"]["data"][0]["current_period_end"], Due::Renew, subscription));
        let id = text(&subscription["id"]);
        if subscription["status"] == "trialing" && !world.warned.contains(&id) {
            let end = subscription["trial_end"].as_i64();
            all.extend(due(&Value::from(end.map(|end| end - WARNING_S)), Due::Warn, subscription));
        }
    }
    for session in world.all("checkout.session").filter(|session| session["status"] == "open") {
        all.extend(due(&session["expires_at"], Due::Expire, session));
    }
    all.into_iter().min().map(|(at, due, id)| (at, due, id.to_owned()))
}

fn due<'a>(at: &Value, due: Due, object: &'a Value) -> Option<(i64, Due, &'a str)> {
    Some((at.as_i64()?, due, object["id"].as_str().unwrap_or_default()))
}
