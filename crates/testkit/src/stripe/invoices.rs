//! Bills of subscriptions: drafted, finalized, attempted, paid or given up.

use super::customers::method_of;
use super::error::Refusal;
use super::intents;
use super::route::{Route, list};
use super::subscriptions;
use super::world::{AfterRetries, Card, World, int, text};
use serde_json::{Value, json};

/// How long the draft of a renewal waits before it is finalized, in seconds.
pub(super) const DRAFT_S: i64 = 60 * 60;
/// After how many days a failed payment is tried again, counted from the first attempt.
pub(super) const RETRY_DAYS: [i64; 4] = [1, 3, 5, 7];
/// A day, in seconds.
pub(super) const DAY_S: i64 = 24 * 60 * 60;

pub(super) const ROUTES: &[Route] = &[
    Route::get("invoices/{id}", |world, call| world.get("invoice", &call.id).cloned()),
    Route::list("invoices", &["customer", "subscription", "status"], |world, call| {
        let filters = [("customer", "/customer"), ("subscription", "/subscription"), ("status", "/status")];
        list(world, call, "invoice", &filters, |_| true)
    }),
    Route::get("invoice_payments/{id}", |world, call| world.get("invoice_payment", &call.id).cloned()),
    Route::list(
        "invoice_payments",
        &["invoice", "status", "payment[type]", "payment[payment_intent]"],
        |world, call| {
            let filters = [
                ("invoice", "/invoice"),
                ("status", "/status"),
                ("payment[type]", "/payment/type"),
                ("payment[payment_intent]", "/payment/payment_intent"),
            ];
            list(world, call, "invoice_payment", &filters, |_| true)
        },
    ),
];

/// What a line bills.
pub(super) struct Line<'a> {
    pub(super) price: &'a Value,
    pub(super) amount: i64,
    pub(super) period: (i64, i64),
    pub(super) proration: bool,
}

/// A line of a bill of that subscription.
pub(super) fn line(world: &mut World, subscription: &str, line: &Line) -> Value {
    let item = world.at(subscription)["items"]["data"][0].clone();
    let (price, (start, end)) = (line.price, line.period);
    let what = match (line.proration, line.amount < 0) {
        (true, true) => "Unused time on",
        (true, false) => "Remaining time on",
        (false, _) => "1 ×",
    };
    let mut object = super::objects::template("line_item");
    object["id"] = json!(world.fresh("il_"));
    object["amount"] = json!(line.amount);
    object["subtotal"] = json!(line.amount);
    object["currency"] = price["currency"].clone();
    object["description"] = json!(format!("{what} {}", text(&price["product"])));
    object["period"] = json!({"start": start, "end": end});
    object["quantity"] = item["quantity"].clone();
    object["subscription"] = json!(subscription);
    object["metadata"] = world.at(subscription)["metadata"].clone();
    object["parent"] = json!({
        "type": "subscription_item_details", "invoice_item_details": null,
        "subscription_item_details": {
            "invoice_item": null, "proration": line.proration, "proration_details": {"credited_items": null},
            "subscription": subscription, "subscription_item": item["id"],
        },
    });
    object["pricing"] = json!({
        "type": "price_details", "unit_amount_decimal": price["unit_amount_decimal"],
        "price_details": {"price": price["id"], "product": price["product"]},
    });
    object
}

/// Drafts a bill of a subscription.
pub(super) fn draft(world: &mut World, subscription: &str, reason: &str, mut lines: Vec<Value>) -> String {
    let owner = world.at(subscription).clone();
    let customer = world.at(&text(&owner["customer"])).clone();
    let total: i64 = lines.iter().map(|line| int(&line["amount"])).sum();
    let balance = int(&customer["balance"]);
    let due = (total + balance).max(0);
    let item = &owner["items"]["data"][0];
    let details = json!({"subscription": owner["id"], "metadata": owner["metadata"]});
    let id = world.add("invoice", json!({}));
    for line in &mut lines {
        line["invoice"] = json!(id);
    }
    world.change(&id, None, |invoice| {
        let fields = json!({
            "amount_due": due, "amount_remaining": due, "amount_paid": 0, "subtotal": total, "total": total,
            "subtotal_excluding_tax": total, "total_excluding_tax": total, "starting_balance": balance,
            "billing_reason": reason, "currency": owner["currency"], "customer": owner["customer"],
            "customer_email": customer["email"], "customer_name": customer["name"], "status": "draft",
            "auto_advance": true, "period_start": item["current_period_start"], "period_end": item["current_period_start"],
            "parent": {"type": "subscription_details", "quote_details": null, "subscription_details": details},
            "subscription": owner["id"],
        });
        for (field, value) in fields.as_object().into_iter().flatten() {
            invoice[field] = value.clone();
        }
        invoice["lines"]["data"] = json!(lines);
        invoice["lines"]["url"] = json!(format!("/v1/invoices/{id}/lines"));
    });
    world.emit("invoice.created", &id);
    id
}

/// Makes a draft due: it has a payment then, unless there is nothing to pay.
pub(super) fn finalize(world: &mut World, id: &str) {
    let (now, number) = (world.now, world.ids("invoice", |invoice| !invoice["number"].is_null()).len() + 1);
    let draft = world.at(id).clone();
    let (total, balance) = (int(&draft["total"]), int(&draft["starting_balance"]));
    // What the customer has left over pays; what it is owed is added to that.
    let left = if total < 0 { balance + total } else { (balance + total).min(0) };
    world.change(&text(&draft["customer"]), Some("customer.updated"), |customer| {
        customer["balance"] = json!(left)
    });
    world.change(id, None, |invoice| {
        invoice["status"] = json!("open");
        invoice["number"] = json!(format!("FAKE-{number:04}"));
        invoice["ending_balance"] = json!(left);
        invoice["effective_at"] = json!(now);
        invoice["automatically_finalizes_at"] = Value::Null;
        invoice["hosted_invoice_url"] = json!(format!("https://invoice.stripe.com/i/{id}"));
        invoice["status_transitions"]["finalized_at"] = json!(now);
    });
    if int(&draft["amount_due"]) > 0 {
        let reason = text(&draft["billing_reason"]);
        let what =
            if reason == "subscription_create" { "Subscription creation" } else { "Subscription update" };
        let fields = json!({
            "amount": draft["amount_due"], "currency": draft["currency"], "customer": draft["customer"],
            "description": what, "setup_future_usage": "off_session",
        });
        let intent = intents::make(world, fields, &json!({}));
        world.add("invoice_payment", json!({
            "invoice": id, "amount_requested": draft["amount_due"], "currency": draft["currency"], "is_default": true,
            "status": "open", "payment": {"type": "payment_intent", "payment_intent": intent},
        }));
    }
    world.emit("invoice.finalized", id);
}

/// Charges the customer for a bill that is due, and says what that means for the subscription.
pub(super) fn attempt(world: &mut World, id: &str, off_session: bool) -> Result<(), Refusal> {
    let (customer, status) = (world.field(id, "customer"), world.field(id, "status"));
    if status != "open" {
        return Err(Refusal::invalid(format!("Invoice {id} is {status}.")));
    }
    let payment = world.ids("invoice_payment", |payment| payment["invoice"] == id).pop();
    let mut paid = Ok(());
    if let Some(payment) = &payment {
        let intent = text(&world.at(payment)["payment"]["payment_intent"]);
        let method = method_of(world, &customer);
        world.change(&intent, None, |intent| intent["payment_method"] = json!(method));
        let refused = world.card(&customer).refusal(off_session);
        world.change(id, None, |invoice| {
            invoice["attempted"] = json!(true);
            invoice["attempt_count"] = json!(int(&invoice["attempt_count"]) + 1);
        });
        paid = intents::charge(world, &intent, refused).map(drop);
    }
    match paid {
        Ok(()) => settle(world, id, payment.as_deref()),
        Err(_) => failed(world, id),
    }
    paid
}

fn settle(world: &mut World, id: &str, payment: Option<&str>) {
    let now = world.now;
    if let Some(payment) = payment {
        world.change(payment, None, |payment| {
            payment["status"] = json!("paid");
            payment["amount_paid"] = payment["amount_requested"].clone();
            payment["status_transitions"]["paid_at"] = json!(now);
        });
        world.emit("invoice_payment.paid", payment);
    }
    world.change(id, None, |invoice| {
        invoice["status"] = json!("paid");
        invoice["attempted"] = json!(true);
        invoice["amount_paid"] = invoice["amount_due"].clone();
        invoice["amount_remaining"] = json!(0);
        invoice["auto_advance"] = json!(false);
        invoice["next_payment_attempt"] = Value::Null;
        invoice["status_transitions"]["paid_at"] = json!(now);
    });
    world.emit("invoice.paid", id);
    world.emit("invoice.payment_succeeded", id);
    subscriptions::paid(world, id);
}

fn failed(world: &mut World, id: &str) {
    let invoice = world.at(id);
    let attempts = int(&invoice["attempt_count"]);
    let first = int(&invoice["status_transitions"]["finalized_at"]);
    let next =
        usize::try_from(attempts - 1).ok().and_then(|at| RETRY_DAYS.get(at)).map(|days| first + days * DAY_S);
    world.change(id, None, |invoice| {
        invoice["next_payment_attempt"] = json!(next);
        invoice["auto_advance"] = json!(next.is_some());
    });
    world.emit("invoice.payment_failed", id);
    let subscription = world.field(id, "subscription");
    match (next, world.after_retries) {
        (Some(_), _) => subscriptions::overdue(world, &subscription, "past_due"),
        (None, AfterRetries::Unpaid) => subscriptions::overdue(world, &subscription, "unpaid"),
        (None, AfterRetries::Cancel) => subscriptions::cancel(world, &subscription, "payment_failed"),
    }
}

/// The customer pays a bill on its page, with a card that behaves so from now on.
pub(super) fn pay_on_page(world: &mut World, id: &str, card: Card) -> Result<(), Refusal> {
    let customer = text(&world.get("invoice", id)?["customer"]);
    super::customers::set_card(world, &customer, card);
    attempt(world, id, false)
}
