//! Customers, their payment methods, the portal, and prices.

use super::error::Refusal;
use super::params::write_metadata;
use super::route::{Call, Route, list};
use super::world::{Card, World, text};
use serde_json::{Value, json};

const WRITABLE: &[&str] =
    &["email", "name", "phone", "description", "metadata[*]", "invoice_settings[default_payment_method]"];

pub(super) const ROUTES: &[Route] = &[
    Route::change(("POST", "customers"), &[], WRITABLE, |world, call| {
        let id = world.add("customer", json!({}));
        write(world, call, &id, None)?;
        world.emit("customer.created", &id);
        world.get("customer", &id).cloned()
    }),
    Route::get("customers/{id}", |world, call| world.get("customer", &call.id).cloned()),
    Route::change(("POST", "customers/{id}"), &[], WRITABLE, |world, call| {
        world.get("customer", &call.id)?;
        write(world, call, &call.id, Some("customer.updated"))?;
        world.get("customer", &call.id).cloned()
    }),
    Route::list("customers", &["email"], |world, call| {
        list(world, call, "customer", &[("email", "/email")], |_| true)
    }),
    Route::list("customers/{id}/payment_methods", &["type"], |world, call| {
        world.named("customer", &call.id, "customer")?;
        list(world, call, "payment_method", &[("type", "/type")], |method| method["customer"] == *call.id)
    }),
    Route::get("payment_methods/{id}", |world, call| world.get("payment_method", &call.id).cloned()),
    Route::get("prices/{id}", |world, call| world.get("price", &call.id).cloned()),
    Route::change(("POST", "billing_portal/sessions"), &["customer"], &["return_url"], |world, call| {
        let customer = call.params.value("customer");
        world.named("customer", &text(&customer), "customer")?;
        let secret = world.fresh("test_");
        let fields = json!({
            "customer": customer, "return_url": call.params.value("return_url"),
            "url": format!("https://billing.stripe.com/p/session/{secret}"),
        });
        let id = world.add("billing_portal.session", fields);
        Ok(world.at(&id).clone())
    }),
];

fn write(world: &mut World, call: &Call, id: &str, event: Option<&str>) -> Result<(), Refusal> {
    let params = &call.params;
    let method = params.text("invoice_settings[default_payment_method]");
    if let Some(method) = method {
        owned(world, method, id)?;
    }
    world.change(id, event, |customer| {
        for field in ["email", "name", "phone", "description"] {
            if params.all().contains_key(field) {
                customer[field] = params.value(field);
            }
        }
        if let Some(method) = method {
            customer["invoice_settings"]["default_payment_method"] = json!(method);
        }
        write_metadata(customer, &params.map("metadata"));
    });
    Ok(())
}

/// Refuses a payment method that is not the customer's.
pub(super) fn owned(world: &World, method: &str, customer: &str) -> Result<(), Refusal> {
    let found = world.named("payment_method", method, "payment_method")?;
    if found["customer"] == customer {
        return Ok(());
    }
    let message = format!("The customer does not have a payment method with the ID {method}.");
    Err(Refusal::invalid(message).code("resource_missing").param("payment_method"))
}

/// The customer's payment method: the one that it pays with by default, else its newest.
pub(super) fn method_of(world: &World, customer: &str) -> Option<String> {
    let default =
        world.at(customer).pointer("/invoice_settings/default_payment_method").and_then(Value::as_str);
    let newest = || world.ids("payment_method", |method| method["customer"] == customer).pop();
    default.map(str::to_owned).or_else(newest)
}

/// Gives the customer a card to pay with, unless it has one.
pub(super) fn ensure_method(world: &mut World, customer: &str) -> String {
    if let Some(method) = method_of(world, customer) {
        return method;
    }
    let method = world.add("payment_method", json!({"customer": customer}));
    world.emit("payment_method.attached", &method);
    method
}

/// Gives the customer a card that behaves so, and lets it pay with it by default.
pub(super) fn set_card(world: &mut World, customer: &str, card: Card) {
    let method = ensure_method(world, customer);
    world.cards.insert(customer.to_owned(), card);
    world.change(customer, Some("customer.updated"), |customer| {
        customer["invoice_settings"]["default_payment_method"] = json!(method);
    });
}

/// Makes or changes a price, as somebody does in the dashboard.
pub(super) fn price(world: &mut World, id: &str, cents: i64, interval: Option<&str>) {
    let recurring = interval.map(|interval| {
        json!({
            "interval": interval, "interval_count": 1, "meter": null, "usage_type": "licensed", "trial_period_days": null,
        })
    });
    let kind = if recurring.is_some() { "recurring" } else { "one_time" };
    let fields = json!({
        "id": id, "product": format!("prod_of_{id}"), "unit_amount": cents, "unit_amount_decimal": cents.to_string(),
        "recurring": recurring, "type": kind,
    });
    world.add("price", fields);
}
