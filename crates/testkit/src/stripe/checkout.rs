//! Checkout sessions: made by the service, completed or left by the customer.

use super::customers::ensure_method;
use super::error::Refusal;
use super::intents::{check_amount, currency, make, pay_on_page};
use super::params::Params;
use super::route::{Call, Route, list};
use super::subscriptions::{Order, begin};
use super::world::{Answer, Card, World, int, text};
use serde_json::{Value, json};

/// How long a session is open when it is not told, and at most, in seconds.
const OPEN_MAX_S: i64 = 24 * 60 * 60;
/// How long it is open at the least.
const OPEN_MIN_S: i64 = 30 * 60;
/// How many lines it may have.
const LINES_MAX: usize = 100;

const OPTIONS: &[&str] = &[
    "cancel_url",
    "client_reference_id",
    "customer",
    "customer_creation",
    "customer_email",
    "expires_at",
    "line_items[#][price]",
    "line_items[#][quantity]",
    "line_items[#][price_data][currency]",
    "line_items[#][price_data][unit_amount]",
    "line_items[#][price_data][recurring][interval]",
    "line_items[#][price_data][recurring][interval_count]",
    "line_items[#][price_data][product_data][name]",
    "line_items[#][price_data][product_data][description]",
    "metadata[*]",
    "payment_intent_data[description]",
    "payment_intent_data[metadata][*]",
    "payment_intent_data[setup_future_usage]",
    "payment_method_types[#]",
    "subscription_data[metadata][*]",
    "subscription_data[trial_period_days]",
];

pub(super) const ROUTES: &[Route] = &[
    Route::change(("POST", "checkout/sessions"), &["mode", "success_url"], OPTIONS, create),
    Route::get("checkout/sessions/{id}", |world, call| world.get("checkout.session", &call.id).cloned()),
    Route::list(
        "checkout/sessions",
        &["customer", "subscription", "payment_intent", "status"],
        |world, call| {
            let filters = [
                ("customer", "/customer"),
                ("subscription", "/subscription"),
                ("payment_intent", "/payment_intent"),
                ("status", "/status"),
            ];
            list(world, call, "checkout.session", &filters, |_| true)
        },
    ),
    Route::change(("POST", "checkout/sessions/{id}/expire"), &[], &[], |world, call| {
        expire(world, &call.id)?;
        world.get("checkout.session", &call.id).cloned()
    }),
];

/// One line of a session.
struct Line {
    price: Option<String>,
    amount: i64,
    quantity: i64,
    currency: String,
    recurring: bool,
    /// The interval of a price that the request itself names.
    every: Option<(String, i64)>,
}

fn line(world: &World, params: &Params, at: usize) -> Result<Line, Refusal> {
    let name = |field: &str| format!("line_items[{at}]{field}");
    let quantity = params.int(&name("[quantity]"))?.unwrap_or(1);
    if let Some(id) = params.text(&name("[price]")) {
        let price = world.named("price", id, &name("[price]"))?;
        return Ok(Line {
            price: Some(id.to_owned()),
            amount: int(&price["unit_amount"]),
            quantity,
            currency: text(&price["currency"]),
            recurring: price["type"] == "recurring",
            every: None,
        });
    }
    for field in ["[price_data][unit_amount]", "[price_data][currency]", "[price_data][product_data][name]"] {
        if params.text(&name(field)).is_none() {
            let refusal = Refusal::invalid(format!("Missing required param: {}.", name(field)));
            return Err(refusal.code("parameter_missing").param(&name(field)));
        }
    }
    let amount = params.int(&name("[price_data][unit_amount]"))?.unwrap_or_default();
    let currency = currency(params.text(&name("[price_data][currency]")))?;
    let interval =
        params.word(&name("[price_data][recurring][interval]"), &["day", "week", "month", "year"])?;
    let count = params.int(&name("[price_data][recurring][interval_count]"))?.unwrap_or(1);
    let every = interval.map(|interval| (interval.to_owned(), count));
    Ok(Line { price: None, amount, quantity, currency, recurring: every.is_some(), every })
}

fn create(world: &mut World, call: &Call) -> Answer {
    let params = &call.params;
    let mode = params.word("mode", &["payment", "subscription"])?.unwrap_or_default();
    let mut lines = lines(world, params, mode)?;
    fits_mode(params, mode)?;
    let customer = params.text("customer");
    if let Some(customer) = customer {
        world.named("customer", customer, "customer")?;
        if params.text("customer_email").is_some() {
            let message = "You may only specify one of these parameters: customer, customer_email.";
            return Err(Refusal::invalid(message).param("customer_email"));
        }
    }
    let expires_at = expires_at(params, world.now)?;
    for line in &mut lines {
        if let Some((interval, count)) = &line.every {
            let id = world.fresh("price_");
            super::customers::price(world, &id, line.amount, Some(interval));
            world.change(&id, None, |price| price["recurring"]["interval_count"] = json!(count));
            line.price = Some(id);
        }
    }
    let trial = params.int("subscription_data[trial_period_days]")?;
    let whole: i64 = lines.iter().map(|line| line.amount * line.quantity).sum();
    if mode == "payment" {
        check_amount(whole, "line_items")?;
    }
    let total = if trial.is_some() { 0 } else { whole };
    let creation = params.word("customer_creation", &["always", "if_required"])?;
    let usage = params.word("payment_intent_data[setup_future_usage]", &["on_session", "off_session"])?;
    let plan = json!({
        "intent_metadata": params.map("payment_intent_data[metadata]"), "usage": usage,
        "description": params.value("payment_intent_data[description]"),
        "metadata": params.map("subscription_data[metadata]"), "trial_days": trial,
        "price": lines[0].price, "quantity": lines[0].quantity,
        "creates_customer": mode == "subscription" || usage.is_some() || creation == Some("always"),
    });
    let fields = json!({
        "mode": mode, "status": "open", "payment_status": "unpaid", "customer": customer,
        "customer_creation": creation, "customer_email": params.value("customer_email"), "expires_at": expires_at,
        "client_reference_id": params.value("client_reference_id"), "metadata": params.map("metadata"),
        "success_url": params.value("success_url"), "cancel_url": params.value("cancel_url"),
        "amount_subtotal": total, "amount_total": total, "currency": lines[0].currency,
    });
    let id = world.add("checkout.session", fields);
    let url = format!("https://checkout.stripe.com/c/pay/{id}");
    world.change(&id, None, |session| session["url"] = json!(url));
    world.plans.insert(id.clone(), plan);
    Ok(world.at(&id).clone())
}

fn lines(world: &World, params: &Params, mode: &str) -> Result<Vec<Line>, Refusal> {
    let places = params.places("line_items");
    if !(1..=LINES_MAX).contains(&places) {
        let refusal = Refusal::invalid("Missing required param: line_items.");
        return Err(refusal.code("parameter_missing").param("line_items"));
    }
    let lines: Vec<Line> = (0..places).map(|at| line(world, params, at)).collect::<Result<_, _>>()?;
    let recurring = lines.iter().filter(|line| line.recurring).count();
    match mode {
        "payment" if recurring > 0 => Err(Refusal::invalid(
            "You specified `payment` mode but passed a recurring price. Either switch to `subscription` mode or use \
             only one-time prices.",
        )),
        "subscription" if recurring != 1 || lines.len() != 1 => Err(Refusal::invalid(
            "You must provide at least one recurring price in `subscription` mode when using prices (and this fake \
             knows subscriptions of one price).",
        )),
        _ => Ok(lines),
    }
}

fn fits_mode(params: &Params, mode: &str) -> Result<(), Refusal> {
    let other = if mode == "payment" { "subscription_data" } else { "payment_intent_data" };
    if params.all().keys().any(|name| name.starts_with(other)) {
        let message = format!("You can not pass `{other}` in `{mode}` mode.");
        return Err(Refusal::invalid(message).param(other));
    }
    Ok(())
}

fn expires_at(params: &Params, now: i64) -> Result<i64, Refusal> {
    let wanted = params.int("expires_at")?.unwrap_or(now + OPEN_MAX_S);
    if (now + OPEN_MIN_S..=now + OPEN_MAX_S).contains(&wanted) {
        return Ok(wanted);
    }
    let message = "The `expires_at` timestamp must be at least 30 minutes and less than 24 hours from Checkout \
                   Session creation.";
    Err(Refusal::invalid(message).param("expires_at"))
}

/// The customer pays on the session's page; a card that does not pay leaves the session open.
pub(super) fn complete(world: &mut World, id: &str, card: Option<Card>) -> Result<(), Refusal> {
    let session = world.get("checkout.session", id)?.clone();
    if session["status"] != "open" || int(&session["expires_at"]) <= world.now {
        return Err(Refusal::invalid(format!("The page of {id} is {}.", text(&session["status"]))));
    }
    let plan = world.plans.get(id).cloned().unwrap_or_default();
    let customer = customer(world, &session, plan["creates_customer"] == true);
    if let (Some(card), Some(customer)) = (card, &customer) {
        world.cards.insert(customer.clone(), card);
    }
    let card = card.unwrap_or_else(|| world.card(customer.as_deref().unwrap_or_default()));
    world.change(id, None, |session| session["customer"] = json!(customer));
    if session["mode"] == "payment" {
        let intent = match session["payment_intent"].as_str() {
            Some(intent) => intent.to_owned(),
            None => intent_of(world, &session, &plan, customer.as_ref()),
        };
        world.change(id, None, |session| session["payment_intent"] = json!(intent));
        pay_on_page(world, &intent, card)?;
        world.change(id, None, |session| session["payment_status"] = json!("paid"));
    } else {
        let customer = customer.unwrap_or_default();
        let trial_days = plan["trial_days"].as_i64();
        if let (None, Some(code)) = (trial_days, card.refusal(false)) {
            return Err(Refusal::declined(code));
        }
        let method = ensure_method(world, &customer);
        let order = Order {
            customer,
            method,
            price: text(&plan["price"]),
            quantity: int(&plan["quantity"]),
            trial_days,
        };
        let (subscription, invoice) = begin(world, &order, &plan["metadata"])?;
        let status = if trial_days.is_some() { "no_payment_required" } else { "paid" };
        world.change(id, None, |session| {
            session["subscription"] = json!(subscription);
            session["invoice"] = json!(invoice);
            session["payment_status"] = json!(status);
        });
    }
    world.change(id, None, |session| {
        session["status"] = json!("complete");
        session["url"] = Value::Null;
    });
    world.emit("checkout.session.completed", id);
    Ok(())
}

fn customer(world: &mut World, session: &Value, creates: bool) -> Option<String> {
    if let Some(customer) = session["customer"].as_str() {
        return Some(customer.to_owned());
    }
    let customer = creates.then(|| world.add("customer", json!({"email": session["customer_email"]})))?;
    world.emit("customer.created", &customer);
    Some(customer)
}

fn intent_of(world: &mut World, session: &Value, plan: &Value, customer: Option<&String>) -> String {
    let fields = json!({
        "amount": session["amount_total"], "currency": session["currency"], "customer": customer,
        "description": plan["description"], "setup_future_usage": plan["usage"],
    });
    make(world, fields, &plan["intent_metadata"])
}

/// Closes a session that nobody completed.
pub(super) fn expire(world: &mut World, id: &str) -> Result<(), Refusal> {
    let status = text(&world.get("checkout.session", id)?["status"]);
    if status != "open" {
        let message = format!(
            "Only Checkout Sessions with a status in [\"open\"] can be expired. This one is {status}."
        );
        return Err(Refusal::invalid(message));
    }
    world.change(id, None, |session| {
        session["status"] = json!("expired");
        session["url"] = Value::Null;
    });
    world.emit("checkout.session.expired", id);
    Ok(())
}
