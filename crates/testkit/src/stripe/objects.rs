//! The shapes of Stripe's objects: its own examples, which `README.md` beside this file attributes.

use serde_json::{Value, json};
use std::sync::LazyLock;

static EXAMPLES: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("fixtures.json")).expect("the examples are JSON"));

/// An object of that kind, of which the fake writes over what it knows.
pub(super) fn template(kind: &str) -> Value {
    let mut object = EXAMPLES[kind].clone();
    assert!(object.is_object(), "there is no example of a {kind}");
    object["livemode"] = json!(false);
    object
}

/// How the ids of that kind begin.
pub(super) fn prefix(kind: &str) -> &'static str {
    match kind {
        "customer" => "cus_",
        "checkout.session" => "cs_test_",
        "payment_intent" => "pi_",
        "charge" => "ch_",
        "subscription" => "sub_",
        "subscription_item" => "si_",
        "invoice" => "in_",
        "invoice_payment" => "inpay_",
        "line_item" => "il_",
        "refund" => "re_",
        "dispute" => "du_",
        "event" => "evt_",
        "payment_method" => "pm_",
        "billing_portal.session" => "bps_",
        other => panic!("a {other} has no id of its own"),
    }
}
