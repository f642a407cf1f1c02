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
    let end = |count: u32| {
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

    /// Does it, together with an edit; the bill that it makes is paid or, if it must be, the refusal.
    pub(super) fn apply(
        self,
        world: &mut World,
        id: &str,
        edit: impl FnOnce(&mut Value, i64),
    ) -> Result<(), Refusal> {
        let (before, now) = (world.at(id).clone(), world.now);
        let item = &before["items"]["data"][0];
        let old = item["price"].clone();
        let price = self.price.clone().unwrap_or_else(|| old.clone());
        let quantity = self.quantity.unwrap_or_else(|| int(&item["quantity"]));
        let ends_trial = self.trial_end.is_some_and(|end| end <= now);
        let (start, end) = (int(&item["current_period_start"]), int(&item["current_period_end"]));
        let trial = before["status"] == "trialing" && !ends_trial;
        let restarts =
            ends_trial || (!trial && old["recurring"]["interval"] != price["recurring"]["interval"]);
        let period = match (restarts, self.trial_end) {
            (true, _) => (now, period_end(&price, now, now)),
            (false, Some(trial_end)) => (start, trial_end),
            (false, None) => (start, end),
        };
        let whole = int(&price["unit_amount"]) * quantity;
        let changes = old["id"] != price["id"] || quantity != int(&item["quantity"]);
        let mut lines = Vec::new();
        if changes && self.prorates && !trial && !ends_trial && end > now {
            let part = |cents: i64| part(cents, end - now, end - start);
            let unused = -part(int(&old["unit_amount"]) * int(&item["quantity"]));
            lines.push(Line { price: &old, amount: unused, period: (now, end), proration: true });
            if !restarts {
                lines.push(Line { price: &price, amount: part(whole), period: (now, end), proration: true });
            }
        }
        if restarts {
            lines.push(Line { price: &price, amount: whole, period, proration: false });
        }
        let lines: Vec<Value> = lines.iter().map(|part| line(world, id, part)).collect();
        let invoice = (!lines.is_empty() && (self.bills_now || restarts)).then(|| {
            let mut all = world.pending.remove(id).unwrap_or_default();
            all.extend(lines.iter().cloned());
            draft(world, id, "subscription_update", all)
        });
        if invoice.is_none() && !lines.is_empty() {
            world.pending.entry(id.to_owned()).or_default().extend(lines);
        }
        world.change(id, Some("customer.subscription.updated"), |subscription| {
            let item = &mut subscription["items"]["data"][0];
            set_price(item, &price);
            set_period(item, period);
            item["quantity"] = json!(quantity);
            if let Some(end) = self.trial_end {
                subscription["trial_end"] = json!(end);
                subscription["billing_cycle_anchor"] = json!(end);
            }
            if restarts {
                subscription["billing_cycle_anchor"] = json!(now);
            }
            if ends_trial {
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
