//! Money that goes back: refunds and disputes, and the charges that they are of.

use super::error::Refusal;
use super::intents::{paid_charge, refundable};
use super::invoices::DAY_S;
use super::params::write_metadata;
use super::route::{Call, Route, list};
use super::world::{Answer, World, int, text};
use serde_json::{Map, Value, json};

/// How long a dispute can be answered, in days.
const ANSWER_DAYS: i64 = 10;

pub(super) const ROUTES: &[Route] = &[
    Route::get("charges/{id}", |world, call| world.get("charge", &call.id).cloned()),
    Route::list("charges", &["customer", "payment_intent"], |world, call| {
        list(
            world,
            call,
            "charge",
            &[("customer", "/customer"), ("payment_intent", "/payment_intent")],
            |_| true,
        )
    }),
    Route::change(
        ("POST", "refunds"),
        &[],
        &["payment_intent", "charge", "amount", "reason", "metadata[*]"],
        create,
    ),
    Route::get("refunds/{id}", |world, call| world.get("refund", &call.id).cloned()),
    Route::list("refunds", &["charge", "payment_intent"], |world, call| {
        list(world, call, "refund", &[("charge", "/charge"), ("payment_intent", "/payment_intent")], |_| true)
    }),
    Route::get("disputes/{id}", |world, call| world.get("dispute", &call.id).cloned()),
    Route::list("disputes", &["charge", "payment_intent"], |world, call| {
        list(world, call, "dispute", &[("charge", "/charge"), ("payment_intent", "/payment_intent")], |_| {
            true
        })
    }),
];

fn create(world: &mut World, call: &Call) -> Answer {
    let params = &call.params;
    let (intent, charge) = (params.text("payment_intent"), params.text("charge"));
    let target = match (intent, charge) {
        (Some(intent), None) => intent,
        (None, Some(charge)) => charge,
        (None, None) => {
            let message =
                "One of the following params should be provided for this request: payment_intent or charge.";
            return Err(Refusal::invalid(message).code("parameter_missing").param("payment_intent"));
        }
        _ => {
            let message = "You may only specify one of these parameters: payment_intent, charge.";
            return Err(Refusal::invalid(message).code("parameters_exclusive"));
        }
    };
    let reason =
        params.word("reason", &["duplicate", "fraudulent", "requested_by_customer"])?.map(str::to_owned);
    let id = refund(world, target, params.int("amount")?, reason.as_deref(), &params.map("metadata"))?;
    world.get("refund", &id).cloned()
}

/// The charge that an id means: itself, or the one of a payment intent.
fn charge_of(world: &World, id: &str) -> Result<String, Refusal> {
    if world.named("charge", id, "charge").is_ok() {
        return Ok(id.to_owned());
    }
    world.named("payment_intent", id, "payment_intent")?;
    paid_charge(world, id).ok_or_else(|| {
        let message = format!("This PaymentIntent ({id}) does not have a successful charge to refund.");
        Refusal::invalid(message).code("resource_missing").param("payment_intent")
    })
}

/// Gives money of a charge back, all that is left of it unless an amount is said.
pub(super) fn refund(
    world: &mut World,
    target: &str,
    amount: Option<i64>,
    reason: Option<&str>,
    metadata: &Map<String, Value>,
) -> Result<String, Refusal> {
    let charge = charge_of(world, target)?;
    let before = world.at(&charge).clone();
    let left = refundable(&before);
    if before["paid"] != true {
        return Err(Refusal::invalid(format!("Charge {charge} was not paid.")));
    }
    if world.all("dispute").any(|dispute| dispute["charge"] == *charge && dispute["status"] != "won") {
        return Err(Refusal::invalid(format!(
            "Charge {charge} has been charged back; cannot issue a refund."
        ))
        .code("charge_disputed"));
    }
    if left == 0 {
        let message = format!("Charge {charge} has already been refunded.");
        return Err(Refusal::invalid(message).code("charge_already_refunded"));
    }
    let amount = amount.unwrap_or(left);
    if amount < 1 {
        return Err(Refusal::invalid("Invalid positive integer")
            .code("parameter_invalid_integer")
            .param("amount"));
    }
    if amount > left {
        let dollars = |cents: i64| format!("${}.{:02}", cents / 100, cents % 100);
        let message = format!(
            "Refund amount ({}) is greater than unrefunded amount on charge ({})",
            dollars(amount),
            dollars(left)
        );
        return Err(Refusal::invalid(message).param("amount"));
    }
    let fields = json!({
        "amount": amount, "charge": charge, "payment_intent": before["payment_intent"], "reason": reason,
        "currency": before["currency"], "status": "succeeded", "balance_transaction": world.fresh("txn_"),
    });
    let id = world.add("refund", fields);
    world.change(&id, None, |refund| write_metadata(refund, metadata));
    world.emit("refund.created", &id);
    world.change(&charge, Some("charge.refunded"), |charge| {
        charge["amount_refunded"] = json!(int(&charge["amount_refunded"]) + amount);
        charge["refunded"] = json!(amount == left);
    });
    Ok(id)
}

/// The cardholder's bank takes the money of a charge back.
pub(super) fn dispute(world: &mut World, target: &str) -> Result<String, Refusal> {
    let charge = charge_of(world, target)?;
    let disputed = world.at(&charge).clone();
    if disputed["disputed"] == true {
        return Err(Refusal::invalid(format!("Charge {charge} is disputed already.")));
    }
    world.change(&charge, None, |charge| charge["disputed"] = json!(true));
    let due_by = world.now + ANSWER_DAYS * DAY_S;
    let fields = json!({
        "amount": refundable(&disputed), "charge": charge, "payment_intent": disputed["payment_intent"],
        "currency": disputed["currency"], "reason": "fraudulent", "status": "needs_response",
        "is_charge_refundable": false,
    });
    let id = world.add("dispute", fields);
    world.change(&id, None, |dispute| dispute["evidence_details"]["due_by"] = json!(due_by));
    world.emit("charge.dispute.created", &id);
    world.emit("charge.dispute.funds_withdrawn", &id);
    Ok(id)
}

/// A dispute ends: `won`, and the money comes back, or `lost`.
pub(super) fn close_dispute(world: &mut World, target: &str, won: bool) -> Result<String, Refusal> {
    let charge = charge_of(world, target)?;
    let open = |dispute: &Value| {
        dispute["charge"] == *charge && !["won", "lost"].contains(&&*text(&dispute["status"]))
    };
    let id = world.ids("dispute", open).pop();
    let id = id.ok_or_else(|| Refusal::invalid(format!("Charge {charge} has no open dispute.")))?;
    world.change(&id, None, |dispute| dispute["status"] = json!(if won { "won" } else { "lost" }));
    world.emit("charge.dispute.closed", &id);
    if won {
        world.emit("charge.dispute.funds_reinstated", &id);
    }
    Ok(id)
}
