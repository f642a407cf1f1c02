//! Settings of payments: the Stripe account, its webhook, and where a checkout may lead.

use super::source::{ConfigError, Reader};
use super::{Config, CorsOrigins, value};
use kernel::Secret;
use std::time::Duration;

const SECRET_KEY_RULE: &str = "be a secret or restricted key of Stripe, such as sk_live_… or rk_test_…";
const WEBHOOK_SECRET_RULE: &str = "be one or two signing secrets such as whsec_… with a comma between them, up to 255 visible characters each";
const ORIGINS_RULE: &str = "be a comma list of origins without a path, such as https://app.example.com";
const CURRENCY_RULE: &str = "be three letters such as usd";
/// How many signing secrets are good at a time: the old one and the new one.
const WEBHOOK_SECRETS_MAX: usize = 2;

/// How payments are made.
#[derive(Debug, Clone)]
pub struct PaymentSettings {
    /// The account, where one is set.
    pub stripe: Option<Stripe>,
    /// `STRIPE_WEBHOOK_SECRET`: the secrets that are good; none refuses every event.
    pub webhook_secrets: Vec<Secret>,
    /// `PAYMENT_URL_ORIGINS`; none means any.
    pub url_origins: Vec<String>,
    /// `CHECKOUT_SUCCESS_URL`, when set.
    pub success_url: Option<String>,
    /// `CHECKOUT_CANCEL_URL`, when set.
    pub cancel_url: Option<String>,
    /// `CURRENCY` in small letters.
    pub currency: String,
    /// `PAYMENT_GRACE_DAYS`.
    pub grace: Duration,
}

/// The Stripe account.
#[derive(Debug, Clone)]
pub struct Stripe {
    /// `STRIPE_SECRET_KEY`.
    pub secret_key: Secret,
    /// `STRIPE_API_BASE` without a slash at the end.
    pub api_base: String,
}

impl PaymentSettings {
    /// Whether a sum is in the currency of the settings; one that names none is.
    #[must_use]
    pub fn is_currency(&self, currency: &str) -> bool {
        currency.is_empty() || currency.eq_ignore_ascii_case(&self.currency)
    }
}

impl Stripe {
    /// Whether the key moves real money.
    #[must_use]
    pub fn live(&self) -> bool {
        self.secret_key.expose().contains("_live_")
    }
}

pub(super) fn settings(reader: &mut Reader) -> Result<PaymentSettings, ConfigError> {
    let secret_key = reader.secret("STRIPE_SECRET_KEY", SECRET_KEY_RULE, is_secret_key)?;
    let api_base = reader.parse("STRIPE_API_BASE", value::WEB_ADDRESS_RULE, value::web_address)?;
    let webhook = reader.secret("STRIPE_WEBHOOK_SECRET", WEBHOOK_SECRET_RULE, |text| {
        let secrets: Vec<&str> = text.split(',').map(str::trim).collect();
        secrets.len() <= WEBHOOK_SECRETS_MAX
            && secrets.iter().all(|secret| !secret.is_empty() && value::is_key(secret))
    })?;
    let webhook_secrets = webhook.map_or_else(Vec::new, |text| {
        text.expose().split(',').map(|secret| Secret::new(secret.trim().to_owned())).collect()
    });
    Ok(PaymentSettings {
        stripe: secret_key.map(|secret_key| Stripe { secret_key, api_base }),
        webhook_secrets,
        url_origins: reader.optional("PAYMENT_URL_ORIGINS", ORIGINS_RULE, origins)?.unwrap_or_default(),
        success_url: reader.optional("CHECKOUT_SUCCESS_URL", value::WEB_PAGE_RULE, value::web_page)?,
        cancel_url: reader.optional("CHECKOUT_CANCEL_URL", value::WEB_PAGE_RULE, value::web_page)?,
        currency: reader.parse("CURRENCY", CURRENCY_RULE, currency)?,
        grace: super::days(reader.number("PAYMENT_GRACE_DAYS", 0..=90)?),
    })
}

/// What production does not take: money that is only played with, and keys in the open.
pub(super) fn production(config: &Config, reader: &Reader) -> Result<(), ConfigError> {
    let Some(stripe) = &config.payments.stripe else { return Ok(()) };
    let refuse =
        |key: &str, rule: &str| Err(reader.refusal(key, &format!("{rule} when ENVIRONMENT=production")));
    if stripe.api_base.starts_with("http:") {
        return refuse("STRIPE_API_BASE", "use https");
    }
    if !stripe.live() {
        return refuse("STRIPE_SECRET_KEY", "be a live key, because test cards pay nothing,");
    }
    Ok(())
}

fn is_secret_key(text: &str) -> bool {
    let kinds = ["sk_live_", "rk_live_", "sk_test_", "rk_test_"];
    value::is_key(text)
        && kinds.iter().any(|kind| text.strip_prefix(kind).is_some_and(|rest| !rest.is_empty()))
}

fn origins(text: &str) -> Option<Vec<String>> {
    match CorsOrigins::parse(text)? {
        CorsOrigins::These(origins) if !origins.is_empty() => Some(origins),
        _ => None,
    }
}

fn currency(text: &str) -> Option<String> {
    let fits = text.len() == 3 && text.bytes().all(|b| b.is_ascii_alphabetic());
    fits.then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::loaded;

    fn load(vars: &[(&str, &str)]) -> Result<PaymentSettings, String> {
        loaded(vars).map(|config| config.payments)
    }

    #[test]
    fn nothing_can_be_paid_for_until_a_key_is_set() {
        let none = load(&[]).expect("settings");
        assert!(none.stripe.is_none() && none.webhook_secrets.is_empty() && none.url_origins.is_empty());
        let some = load(&[
            ("STRIPE_SECRET_KEY", "sk_test_abc"),
            ("STRIPE_WEBHOOK_SECRET", "whsec_new, whsec_old"),
            ("PAYMENT_URL_ORIGINS", "https://App.example.com"),
            ("CURRENCY", "EUR"),
        ])
        .expect("settings");
        let secrets: Vec<&str> = some.webhook_secrets.iter().map(Secret::expose).collect();
        assert_eq!(secrets, ["whsec_new", "whsec_old"]);
        assert_eq!(
            (some.url_origins, some.currency),
            (vec!["https://app.example.com".to_owned()], "eur".to_owned())
        );
        assert!(
            some.stripe.is_some_and(|stripe| !stripe.live() && stripe.api_base == "https://api.stripe.com")
        );
    }

    #[test]
    fn what_breaks_a_rule_is_named() {
        for (key, rule, bad) in [
            ("STRIPE_SECRET_KEY", SECRET_KEY_RULE, &["pk_live_x", "sk_live_", "abc"][..]),
            ("STRIPE_WEBHOOK_SECRET", WEBHOOK_SECRET_RULE, &["a,b,c", "a,", "a b"]),
            ("PAYMENT_URL_ORIGINS", ORIGINS_RULE, &["*", "app.example.com", "https://a/b"]),
            ("CURRENCY", CURRENCY_RULE, &["us", "dollar", "u$d"]),
        ] {
            for text in bad {
                let refused = load(&[(key, text)]).expect_err(text);
                assert!(refused.starts_with(&format!("{key} must {rule}")), "{refused}");
            }
        }
    }
}
