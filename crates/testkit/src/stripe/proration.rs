//! A change of a subscription's price or trial, and what it costs.

use super::error::Refusal;
use super::invoices::{Line, attempt, draft, finalize, line};
use super::params::Params;
use super::subscriptions::{set_period, set_price};
use super::world::{World, int, text};
use chrono::{DateTime, Days, Months, Utc};
use serde_json::{Value, json};

/// The first end of a period after an instant: whole intervals of the price from the anchor.
pub(super) fn period_end(price: &Value, anchor: i64, after: i64) -> i64 {
    let interval = text(&price["recurring"]["interval"]);
    let from: DateTime<Utc> = DateTime::from_timestamp(anchor, 0).expect("an instant");
    let every =
        price["recurring"]["interval_count"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(1);
    let end = |count: u32| {
        let count = count * every;
        let end = match interval.as_str() {
            "day" => from.checked_add_days(Days::new(count.into())),
            "week" => from.checked_add_days(Days::new(u64::from(count) * 7)),
            "year" => from.checked_add_months(Months::new(count * 12)),
            _ => from.checked_add_months(Months::new(count)),
        };
        end.expect("an instant").timestamp()
    };
    (1..).map(end).find(|end| *end > after).expect("time goes on")
}

/// What an update of a subscription wants beside words and dates.
pub(super) struct Wish {
    price: Option<Value>,
    quantity: Option<i64>,
    prorates: bool,
    bills_now: bool,
    must_pay: bool,
    trial_end: Option<i64>,
}

impl Wish {
    pub(super) fn of(world: &World, subscription: &Value, params: &Params) -> Result<Self, Refusal> {
        let item = &subscription["items"]["data"][0];
        if params.places("items") > 1 {
            return Err(Refusal::invalid("This fake knows subscriptions of one price.").param("items[1]"));
        }
        if params.places("items") == 1 && params.value("items[0][id]") != item["id"] {
            let id = text(&params.value("items[0][id]"));
            return Err(
                Refusal::invalid(format!("Invalid subscription_item id: '{id}'")).param("items[0][id]")
            );
        }
        let price = params.text("items[0][price]").map(|id| world.named("price", id, "items[0][price]"));
        let behavior = params.word("proration_behavior", &["none", "create_prorations", "always_invoice"])?;
        let payment = params
            .word("payment_behavior", &["allow_incomplete", "default_incomplete", "error_if_incomplete"])?;
        let trial_end = match params.text("trial_end") {
            Some("now") => Some(world.now),
            _ => params.int("trial_end")?,
        };
        if trial_end.is_some() && subscription["status"] != "trialing" {
            return Err(Refusal::invalid("This fake ends trials and begins none.").param("trial_end"));
        }
        Ok(Self {
            price: price.transpose()?.cloned(),
            quantity: params.int("items[0][quantity]")?,
            prorates: behavior != Some("none"),
            bills_now: behavior == Some("always_invoice"),
            must_pay: payment == Some("error_if_incomplete"),
            trial_end,
        })
    }

    /// What that makes of a subscription.
    fn outcome(&self, before: &Value, now: i64) -> Outcome {
        let item = &before["items"]["data"][0];
        let old = &item["price"];
        let price = self.price.as_ref().unwrap_or(old).clone();
        let ends_trial = self.trial_end.is_some_and(|end| end <= now);
        let (start, end) = (int(&item["current_period_start"]), int(&item["current_period_end"]));
        let tried = before["status"] == "trialing" && !ends_trial;
        let restarts =
            ends_trial || (!tried && old["recurring"]["interval"] != price["recurring"]["interval"]);
        let period = match (restarts, self.trial_end) {
            (true, _) => (now, period_end(&price, now, now)),
            (false, Some(trial_end)) => (start, trial_end),
            (false, None) => (start, end),
        };
        let quantity = self.quantity.unwrap_or_else(|| int(&item["quantity"]));
        Outcome { price, quantity, period, restarts, ends_trial, tried }
    }

    /// The lines of what is left of the old price and what is to be paid for the new one.
    fn lines(&self, world: &mut World, id: &str, outcome: &Outcome) -> Vec<Value> {
        let (before, now) = (world.at(id).clone(), world.now);
        let item = &before["items"]["data"][0];
        let (start, end) = (int(&item["current_period_start"]), int(&item["current_period_end"]));
        let (old, new) = (&item["price"], &outcome.price);
        let whole = int(&new["unit_amount"]) * outcome.quantity;
        let changes = old["id"] != new["id"] || outcome.quantity != int(&item["quantity"]);
        let costs = !outcome.tried && !outcome.ends_trial && end > now;
        let mut lines = Vec::new();
        if changes && costs && self.prorates {
            let part = |cents: i64| part(cents, end - now, end - start);
            let unused = -part(int(&old["unit_amount"]) * int(&item["quantity"]));
            lines.push(Line { price: old, amount: unused, period: (now, end), proration: true });
            if !outcome.restarts {
                lines.push(Line { price: new, amount: part(whole), period: (now, end), proration: true });
            }
        }
        if outcome.restarts {
            lines.push(Line { price: new, amount: whole, period: outcome.period, proration: false });
        }
        lines.iter().map(|part| line(world, id, part)).collect()
    }

    /// Does it, together with an edit; the bill that it makes is paid or, if it must be, the refusal.
    pub(super) fn apply(
        self,
        world: &mut World,
        id: &str,
        edit: impl FnOnce(&mut Value, i64),
    ) -> Result<(), Refusal> {
        let now = world.now;
        let outcome = self.outcome(world.at(id), now);
        let lines = self.lines(world, id, &outcome);
        let bills = !lines.is_empty() && (self.bills_now || outcome.restarts);
        let waiting = world.pending.entry(id.to_owned()).or_default();
        waiting.extend(lines);
        let billed = if bills { std::mem::take(waiting) } else { Vec::new() };
        let invoice = bills.then(|| draft(world, id, "subscription_update", billed));
        world.change(id, Some("customer.subscription.updated"), |subscription| {
            let item = &mut subscription["items"]["data"][0];
            set_price(item, &outcome.price);
            set_period(item, outcome.period);
            item["quantity"] = json!(outcome.quantity);
            if let Some(end) = self.trial_end {
                subscription["trial_end"] = json!(end);
                subscription["billing_cycle_anchor"] = json!(end);
            }
            if outcome.restarts {
                subscription["billing_cycle_anchor"] = json!(now);
            }
            if outcome.ends_trial {
                subscription["status"] = json!("active");
            }
            if let Some(invoice) = &invoice {
                subscription["latest_invoice"] = json!(invoice);
            }
            edit(subscription, now);
        });
        let Some(invoice) = invoice else { return Ok(()) };
        finalize(world, &invoice);
        match attempt(world, &invoice, true) {
            Err(refusal) if self.must_pay => Err(refusal),
            _ => Ok(()),
        }
    }
}

/// What a subscription becomes.
struct Outcome {
    price: Value,
    quantity: i64,
    period: (i64, i64),
    /// Its periods begin anew.
    restarts: bool,
    ends_trial: bool,
    /// It is on trial, before and after.
    tried: bool,
}

/// A part of an amount for a part of a time, rounded to the nearest cent.
fn part(cents: i64, remaining: i64, whole: i64) -> i64 {
    let (product, whole) = (i128::from(cents) * i128::from(remaining), i128::from(whole.max(1)));
    i64::try_from((product * 2 + whole) / (whole * 2)).expect("an amount of money")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_calendar_months_from_the_anchor() {
        let price = json!({"recurring": {"interval": "month"}});
        let at = |text: &str| text.parse::<DateTime<Utc>>().expect("an instant").timestamp();
        let anchor = at("2025-01-31T10:00:00Z");
        let february = period_end(&price, anchor, anchor);
        assert_eq!(february, at("2025-02-28T10:00:00Z"));
        assert_eq!(period_end(&price, anchor, february), at("2025-03-31T10:00:00Z"));
        let year = json!({"recurring": {"interval": "year"}});
        assert_eq!(period_end(&year, anchor, anchor), at("2026-01-31T10:00:00Z"));
        assert_eq!((part(2000, 15, 30), part(999, 1, 3), part(1, 1, 2)), (1000, 333, 1));
    }
}
