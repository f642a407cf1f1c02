//! The examples of prices: what `gpt-4` costs.

use super::{NOW, envelope, list};
use serde_json::{Value, json};

/// The example of an operation's answer.
pub(super) fn answer(operation: &str) -> Option<Value> {
    Some(match operation {
        "list_prices" => list("Retrieved 1 prices", price(1, "1970-01-01T00:00:00.000000Z")),
        "get_price" => envelope(
            "Prices retrieved successfully",
            json!({
                "asked": "gpt-4-0613", "model": "gpt-4", "at": NOW, "in_force": price(1, "1970-01-01T00:00:00.000000Z"),
                "versions": [price(1, "1970-01-01T00:00:00.000000Z")],
                "aliases": [{"alias": "gpt-4-classic", "effective_at": NOW}],
            }),
        ),
        "put_price" => envelope("Price changed successfully", price(2, "2030-01-01T00:00:00.000000Z")),
        "import_prices" => envelope("Imported 1 prices, 0 unchanged, 1 skipped", report()),
        "get_quote" => envelope("Quote calculated successfully", quote()),
        _ => return None,
    })
}

fn price(version: i64, effective_at: &str) -> Value {
    json!({
        "model": "gpt-4", "version": version, "effective_at": effective_at, "created_at": NOW, "provider": "openai",
        "mode": "chat", "max_input_tokens": 8192, "max_output_tokens": 4096,
        "rates": {"input": 0.000_03, "output": 0.000_06}, "tiers": [], "source": "starter",
    })
}

fn report() -> Value {
    json!({"imported": 1, "unchanged": 0, "skipped": 1, "models": [
        {"model": "acme/large-1", "status": "imported", "version": 1, "why": null,
            "ignored": ["input_cost_per_token_batches"], "rounded": []},
        {"model": "sample_spec", "status": "skipped", "version": null, "why": "the layout's own example",
            "ignored": [], "rounded": []},
    ]})
}

fn quote() -> Value {
    json!({
        "model": "gpt-4", "price_model": "gpt-4", "price_version": 1, "plan": "free", "cost_usd": 0.051, "credits": 25.5,
        "explanation": {
            "model": "gpt-4", "price_model": "gpt-4", "price_version": 1, "effective_at": "1970-01-01T00:00:00.000000Z",
            "tier": null,
            "lines": [
                {"pool": "input", "quantity": 800, "unit_price_usd": 0.000_03, "cost_usd": 0.024},
                {"pool": "output", "quantity": 450, "unit_price_usd": 0.000_06, "cost_usd": 0.027},
            ],
            "unpriced_pools": [], "exact_cost_usd": 0.051, "cost_usd": 0.051, "credits_per_usd": 500, "markup": 1,
            "credits": 25.5, "arithmetic": "(800 × 0.00003 + 450 × 0.00006) USD × 500 × 1 = 25.5 credits",
            "note": "Prompt tokens include cached ones; each token is counted in one pool.",
        },
        "maximum": {"output_tokens": 1000, "cost_usd": 0.084, "credits": 42},
    })
}
