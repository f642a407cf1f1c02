//! Payment intents and the charges that they make.

use super::customers::{ensure_method, owned};
use super::error::Refusal;
use super::route::{Call, Route, list};
use super::world::{Answer, Card, World, int, text};
use serde_json::{Value, json};

/// The least that a card is charged, in cents.
pub(super) const AMOUNT_MIN: i64 = 50;
/// The most.
const AMOUNT_MAX: i64 = 99_999_999;

const OPTIONS: &[&str] = &[
    "customer",
    "metadata[*]",
    "description",
    "automatic_payment_methods[enabled]",
    "automatic_payment_methods[allow_redirects]",
    "setup_future_usage",
    "payment_method",
    "payment_method_types[#]",
    "off_session",
    "confirm",
    "receipt_email",
    "return_url",
];

pub(super) const ROUTES: &[Route] = &[
    Route::change(("POST", "payment_intents"), &["amount", "currency"], OPTIONS, create),
    Route::get("payment_intents/{id}", |world, call| world.get("payment_intent", &call.id).cloned()),
    Route::list("payment_intents", &["customer"], |world, call| {
        list(world, call, "payment_intent", &[("customer", "/customer")], |_| true)
    }),
    Route::change(("POST", "payment_intents/{id}/cancel"), &[], &["cancellation_reason"], |world, call| {
        cancel(world, &call.id, call.params.value("cancellation_reason"))?;
        world.get("payment_intent", &call.id).cloned()
    }),
    Route::change(
        ("POST", "payment_intents/{id}/confirm"),
        &[],
        &["payment_method", "off_session", "return_url", "setup_future_usage"],
        |world, call| {
            world.get("payment_intent", &call.id)?;
            write_method(world, call, &call.id)?;
            confirm(world, &call.id, call.params.bool("off_session")?.unwrap_or(false))
        },
    ),
];

fn create(world: &mut World, call: &Call) -> Answer {
    let params = &call.params;
    let amount = params.int("amount")?.unwrap_or_default();
    check_amount(amount, "amount")?;
    let customer = params.value("customer");
    if let Some(customer) = params.text("customer") {
        world.named("customer", customer, "customer")?;
    }
    let automatic =
        params.bool("automatic_payment_methods[enabled]")?.map(|enabled| json!({"enabled": enabled}));
    let (confirms, off_session) = (params.bool("confirm")?, params.bool("off_session")?);
    let usage = params.word("setup_future_usage", &["on_session", "off_session"])?;
    if off_session == Some(true) && confirms != Some(true) {
        return Err(
            Refusal::invalid("off_session can only be used together with confirm.").param("off_session")
        );
    }
    let fields = json!({
        "amount": amount, "currency": currency(params.text("currency"))?, "customer": customer,
        "description": params.value("description"), "receipt_email": params.value("receipt_email"),
        "automatic_payment_methods": automatic, "setup_future_usage": usage,
    });
    if let Some(method) = params.text("payment_method") {
        owned(world, method, &text(&customer))?;
    }
    let id = make(world, fields, &Value::Object(params.map("metadata")));
    write_method(world, call, &id)?;
    if confirms == Some(true) {
        confirm(world, &id, off_session == Some(true))
    } else {
        Ok(world.at(&id).clone())
    }
}

/// Refuses an amount that no card is charged.
pub(super) fn check_amount(amount: i64, param: &str) -> Result<(), Refusal> {
    let (code, message) = match amount {
        ..AMOUNT_MIN => ("amount_too_small", "Amount must be at least $0.50 usd"),
        AMOUNT_MIN..=AMOUNT_MAX => return Ok(()),
        _ => ("amount_too_large", "Amount must be no more than $999,999.99"),
    };
    Err(Refusal::invalid(message).code(code).param(param))
}

/// A currency in small letters.
pub(super) fn currency(given: Option<&str>) -> Result<String, Refusal> {
    let given = given.unwrap_or_default().to_lowercase();
    if given.len() == 3 && given.bytes().all(|letter| letter.is_ascii_lowercase()) {
        return Ok(given);
    }
    Err(Refusal::invalid(format!("Invalid currency: {given}.")).param("currency"))
}

/// Makes an intent and tells of it.
pub(super) fn make(world: &mut World, fields: Value, metadata: &Value) -> String {
    let id = world.add("payment_intent", fields);
    let secret = format!("{id}_secret_{}", world.fresh("s"));
    world.change(&id, None, |intent| {
        intent["client_secret"] = json!(secret);
        intent["metadata"] = metadata.clone();
        intent["status"] = json!("requires_payment_method");
    });
    world.emit("payment_intent.created", &id);
    id
}

fn write_method(world: &mut World, call: &Call, id: &str) -> Result<(), Refusal> {
    if let Some(usage) = call.params.word("setup_future_usage", &["on_session", "off_session"])? {
        world.change(id, None, |intent| intent["setup_future_usage"] = json!(usage));
    }
    let Some(method) = call.params.text("payment_method") else { return Ok(()) };
    owned(world, method, &world.field(id, "customer"))?;
    world.change(id, None, |intent| {
        intent["payment_method"] = json!(method);
        intent["status"] = json!("requires_confirmation");
    });
    Ok(())
}

fn unexpected(world: &World, id: &str, what: &str) -> Refusal {
    let intent = world.at(id);
    let status = text(&intent["status"]);
    let message = format!("You cannot {what} this PaymentIntent because it has a status of {status}.");
    Refusal::invalid(message).code("payment_intent_unexpected_state").with("payment_intent", intent.clone())
}

fn confirm(world: &mut World, id: &str, off_session: bool) -> Answer {
    let intent = world.at(id);
    if intent["payment_method"].is_null() || !is_open(intent) {
        return Err(unexpected(world, id, "confirm"));
    }
    let card = world.card(&world.field(id, "customer"));
    charge(world, id, card.refusal(off_session))?;
    Ok(world.at(id).clone())
}

fn is_open(intent: &Value) -> bool {
    intent["status"].as_str().is_some_and(|status| status.starts_with("requires_"))
}

/// Ends an intent that nobody paid.
pub(super) fn cancel(world: &mut World, id: &str, reason: Value) -> Result<(), Refusal> {
    if !is_open(world.get("payment_intent", id)?) {
        return Err(unexpected(world, id, "cancel"));
    }
    let now = world.now;
    world.change(id, None, |intent| {
        intent["status"] = json!("canceled");
        intent["canceled_at"] = json!(now);
        intent["cancellation_reason"] = reason;
    });
    world.emit("payment_intent.canceled", id);
    Ok(())
}

/// Charges the intent's customer: the charge, or the refusal of a card that does not pay.
pub(super) fn charge(world: &mut World, id: &str, refused: Option<&str>) -> Result<String, Refusal> {
    let intent = world.at(id).clone();
    let paid = refused.is_none();
    let (amount, status) = (&intent["amount"], if paid { "succeeded" } else { "failed" });
    let fields = json!({
        "amount": amount, "amount_captured": if paid { amount.clone() } else { json!(0) }, "amount_refunded": 0,
        "captured": paid, "paid": paid, "status": status, "currency": intent["currency"],
        "customer": intent["customer"], "payment_intent": id, "payment_method": intent["payment_method"],
        "metadata": intent["metadata"], "description": intent["description"],
        "failure_code": refused.map(|_| "card_declined"), "failure_message": refused.map(|_| "Your card was declined."),
        "balance_transaction": paid.then(|| world.fresh("txn_")),
    });
    let charge = world.add("charge", fields);
    world.emit(if paid { "charge.succeeded" } else { "charge.failed" }, &charge);
    let refusal = refused.map(|code| Refusal::declined(code).with("charge", json!(charge)));
    world.change(id, None, |intent| {
        intent["latest_charge"] = json!(charge);
        if let Some(refusal) = &refusal {
            intent["payment_method"] = Value::Null;
            intent["status"] = json!("requires_payment_method");
            intent["last_payment_error"] = refusal.body()["error"].clone();
            intent["last_payment_error"]["payment_method_type"] = json!("card");
        } else {
            intent["status"] = json!("succeeded");
            intent["amount_received"] = intent["amount"].clone();
            intent["last_payment_error"] = Value::Null;
        }
    });
    world.emit(if paid { "payment_intent.succeeded" } else { "payment_intent.payment_failed" }, id);
    match refusal {
        None => Ok(charge),
        Some(refusal) => Err(refusal.with("payment_intent", world.at(id).clone())),
    }
}

/// The customer confirms an intent on its own page, with a card that behaves so.
pub(super) fn pay_on_page(world: &mut World, id: &str, card: Card) -> Result<String, Refusal> {
    if !is_open(world.get("payment_intent", id)?) {
        return Err(unexpected(world, id, "confirm"));
    }
    let customer = world.field(id, "customer");
    let saves = !world.at(id)["setup_future_usage"].is_null();
    let method = if !customer.is_empty() && saves {
        ensure_method(world, &customer)
    } else {
        // A card that is used once belongs to nobody.
        world.add("payment_method", json!({}))
    };
    world.change(id, None, |intent| intent["payment_method"] = json!(method));
    charge(world, id, card.refusal(false))
}

/// The charge of an intent that was paid.
pub(super) fn paid_charge(world: &World, intent: &str) -> Option<String> {
    world.ids("charge", |charge| charge["payment_intent"] == intent && charge["paid"] == true).pop()
}

/// What of a charge can still be given back, in cents.
pub(super) fn refundable(charge: &Value) -> i64 {
    int(&charge["amount_captured"]) - int(&charge["amount_refunded"])
}
