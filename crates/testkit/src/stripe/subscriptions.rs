//! Subscriptions of one price: begun by a checkout, changed by the service, renewed by time.

use super::error::Refusal;
use super::invoices::{self, DAY_S, Line, attempt, draft, finalize, line};
use super::params::write_metadata;
use super::proration;
use super::route::{Call, Route, list};
use super::world::{Answer, World, int, text};
use serde_json::{Value, json};

/// How long before the end of a trial it is announced, in seconds.
pub(super) const WARNING_S: i64 = 3 * DAY_S;

const OPTIONS: &[&str] = &[
    "items[#][id]",
    "items[#][price]",
    "items[#][quantity]",
    "proration_behavior",
    "payment_behavior",
    "cancel_at_period_end",
    "cancellation_details[comment]",
    "cancellation_details[feedback]",
    "metadata[*]",
    "trial_end",
];

pub(super) const ROUTES: &[Route] = &[
    Route::get("subscriptions/{id}", |world, call| world.get("subscription", &call.id).cloned()),
    Route::list("subscriptions", &["customer", "status", "price"], |world, call| {
        let (status, price) = (call.params.text("status"), call.params.text("price"));
        list(world, call, "subscription", &[("customer", "/customer")], |subscription| {
            let found = text(&subscription["status"]);
            let ended = found == "canceled" || found == "incomplete_expired";
            let as_wanted = match status {
                None => !ended,
                Some("all") => true,
                Some("ended") => ended,
                Some(wanted) => found == wanted,
            };
            as_wanted && price.is_none_or(|price| subscription["items"]["data"][0]["price"]["id"] == price)
        })
    }),
    Route::change(("POST", "subscriptions/{id}"), &[], OPTIONS, update),
    Route::change(
        ("DELETE", "subscriptions/{id}"),
        &[],
        &["invoice_now", "prorate", "cancellation_details[comment]", "cancellation_details[feedback]"],
        |world, call| {
            if has_ended(world.get("subscription", &call.id)?) {
                return Err(Refusal::missing("subscription", &call.id, "id"));
            }
            cancel(world, &call.id, "cancellation_requested");
            world.get("subscription", &call.id).cloned()
        },
    ),
];

/// What somebody subscribes to.
pub(super) struct Order {
    pub(super) customer: String,
    pub(super) method: String,
    pub(super) price: String,
    pub(super) quantity: i64,
    pub(super) trial_days: Option<i64>,
}

pub(super) fn has_ended(subscription: &Value) -> bool {
    subscription["status"] == "canceled"
}

/// Begins a subscription whose first bill is paid: it and the bill.
pub(super) fn begin(world: &mut World, order: &Order, metadata: &Value) -> Result<(String, String), Refusal> {
    let price = world.named("price", &order.price, "price")?.clone();
    let now = world.now;
    let trial_end = order.trial_days.map(|days| now + days * DAY_S);
    let anchor = trial_end.unwrap_or(now);
    let end = trial_end.unwrap_or_else(|| proration::period_end(&price, anchor, now));
    let fields = json!({
        "customer": order.customer, "default_payment_method": order.method, "currency": price["currency"],
        "billing_cycle_anchor": anchor, "start_date": now, "metadata": metadata,
        "status": if trial_end.is_some() { "trialing" } else { "incomplete" },
        "trial_start": trial_end.map(|_| now), "trial_end": trial_end,
    });
    let id = world.add("subscription", fields);
    let mut item = super::objects::template("subscription_item");
    item["id"] = json!(world.fresh("si_"));
    item["created"] = json!(now);
    item["subscription"] = json!(id);
    item["quantity"] = json!(order.quantity);
    set_price(&mut item, &price);
    set_period(&mut item, (now, end));
    world.change(&id, None, |subscription| {
        subscription["items"]["data"] = json!([item]);
        subscription["items"]["url"] = json!(format!("/v1/subscription_items?subscription={id}"));
    });
    let amount = if trial_end.is_some() { 0 } else { int(&price["unit_amount"]) * order.quantity };
    let line = line(world, &id, &Line { price: &price, amount, period: (now, end), proration: false });
    let invoice = draft(world, &id, "subscription_create", vec![line]);
    world.change(&id, None, |subscription| subscription["latest_invoice"] = json!(invoice));
    world.emit("customer.subscription.created", &id);
    if trial_end.is_some_and(|end| end - now <= WARNING_S) {
        warn(world, &id);
    }
    finalize(world, &invoice);
    attempt(world, &invoice, false)?;
    Ok((id, invoice))
}

pub(super) fn set_price(item: &mut Value, price: &Value) {
    item["price"] = price.clone();
    item["plan"]["id"] = price["id"].clone();
    item["plan"]["amount"] = price["unit_amount"].clone();
    item["plan"]["amount_decimal"] = price["unit_amount_decimal"].clone();
    item["plan"]["currency"] = price["currency"].clone();
    item["plan"]["interval"] = price["recurring"]["interval"].clone();
    item["plan"]["product"] = price["product"].clone();
}

pub(super) fn set_period(item: &mut Value, (start, end): (i64, i64)) {
    item["current_period_start"] = json!(start);
    item["current_period_end"] = json!(end);
}

/// Announces the end of a trial.
pub(super) fn warn(world: &mut World, id: &str) {
    world.warned.insert(id.to_owned());
    world.emit("customer.subscription.trial_will_end", id);
}

/// A period is over: the subscription ends, or its next one begins and is billed.
pub(super) fn renew(world: &mut World, id: &str) {
    let subscription = world.at(id).clone();
    if subscription["cancel_at_period_end"] == true {
        return cancel(world, id, "cancellation_requested");
    }
    let item = &subscription["items"]["data"][0];
    let (price, start) = (item["price"].clone(), int(&item["current_period_end"]));
    let end = proration::period_end(&price, int(&subscription["billing_cycle_anchor"]), start);
    let amount = int(&price["unit_amount"]) * int(&item["quantity"]);
    let mut lines = world.pending.remove(id).unwrap_or_default();
    lines.push(line(world, id, &Line { price: &price, amount, period: (start, end), proration: false }));
    let invoice = draft(world, id, "subscription_cycle", lines);
    let billed = subscription["status"] != "unpaid";
    let finalizes = billed.then_some(world.now + invoices::DRAFT_S);
    world.change(&invoice, None, |invoice| {
        invoice["auto_advance"] = json!(billed);
        invoice["automatically_finalizes_at"] = json!(finalizes);
    });
    world.change(id, Some("customer.subscription.updated"), |subscription| {
        set_period(&mut subscription["items"]["data"][0], (start, end));
        subscription["latest_invoice"] = json!(invoice);
        if subscription["status"] == "trialing" {
            subscription["status"] = json!("active");
        }
    });
}

/// A bill was paid: what waited for that is active.
pub(super) fn paid(world: &mut World, invoice: &str) {
    let id = world.field(invoice, "subscription");
    world.change(&id, Some("customer.subscription.updated"), |subscription| {
        let waits = ["incomplete", "past_due", "unpaid"]
            .contains(&subscription["status"].as_str().unwrap_or_default());
        if waits && subscription["latest_invoice"] == invoice {
            subscription["status"] = json!("active");
        }
    });
}

/// A bill was not paid.
pub(super) fn overdue(world: &mut World, id: &str, status: &str) {
    world.change(id, Some("customer.subscription.updated"), |subscription| {
        if !has_ended(subscription) {
            subscription["status"] = json!(status);
        }
    });
}

/// Ends a subscription now; its bills are not collected any more.
pub(super) fn cancel(world: &mut World, id: &str, reason: &str) {
    if has_ended(world.at(id)) {
        return;
    }
    let now = world.now;
    world.pending.remove(id);
    for invoice in
        world.ids("invoice", |invoice| invoice["subscription"] == id && invoice["auto_advance"] == true)
    {
        world.change(&invoice, None, |invoice| {
            invoice["auto_advance"] = json!(false);
            invoice["next_payment_attempt"] = Value::Null;
            invoice["automatically_finalizes_at"] = Value::Null;
        });
    }
    world.change(id, None, |subscription| {
        subscription["status"] = json!("canceled");
        subscription["ended_at"] = json!(now);
        if subscription["canceled_at"].is_null() {
            subscription["canceled_at"] = json!(now);
        }
        subscription["cancellation_details"]["reason"] = json!(reason);
    });
    world.emit("customer.subscription.deleted", id);
}

fn update(world: &mut World, call: &Call) -> Answer {
    let (id, params) = (call.id.as_str(), &call.params);
    let subscription = world.get("subscription", id)?.clone();
    let free = |name: &String| name.starts_with("metadata[") || name.starts_with("cancellation_details[");
    if has_ended(&subscription) && !params.all().keys().all(free) {
        return Err(Refusal::invalid(
            "A canceled subscription can only update its cancellation_details and metadata.",
        ));
    }
    let wish = proration::Wish::of(world, &subscription, params)?;
    let ends = params.bool("cancel_at_period_end")?;
    // What fails is to leave nothing behind but the ids that it used.
    let before = world.clone();
    let done = wish.apply(world, id, |subscription, now| {
        write_metadata(subscription, &params.map("metadata"));
        for field in ["comment", "feedback"] {
            if let Some(said) = params.text(&format!("cancellation_details[{field}]")) {
                subscription["cancellation_details"][field] = json!(said);
            }
        }
        if let Some(ends) = ends {
            let end = subscription["items"]["data"][0]["current_period_end"].clone();
            subscription["cancel_at_period_end"] = json!(ends);
            subscription["cancel_at"] = if ends { end } else { Value::Null };
            subscription["canceled_at"] = if ends { json!(now) } else { Value::Null };
            subscription["cancellation_details"]["reason"] =
                if ends { json!("cancellation_requested") } else { Value::Null };
        }
    });
    if let Err(refusal) = done {
        world.return_to(before);
        return Err(refusal);
    }
    Ok(world.at(id).clone())
}
