//! Stories of the fake itself, told by a plain HTTP client.

mod api;
mod faults;
mod life;
mod money;
mod webhooks;

use super::{FakeStripe, Received};
use reqwest::{Client, Method, Response};
use serde_json::Value;

/// A key of the account.
const SECRET_KEY: &str = "sk_test_testkit";

/// The fake with somebody who calls it.
struct Story {
    stripe: FakeStripe,
    client: Client,
}

/// What an answer says.
#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    replayed: bool,
    request: String,
    text: String,
}

impl Answer {
    async fn of(response: Response) -> Self {
        let header =
            |name| response.headers().get(name).map(|value| value.to_str().expect("a text").to_owned());
        Self {
            status: response.status().as_u16(),
            replayed: header("idempotent-replayed").is_some_and(|replayed| replayed == "true"),
            request: header("request-id").expect("every answer has an id"),
            text: response.text().await.expect("a body"),
        }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("JSON")
    }

    fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()
    }

    /// Status, type, code and parameter of a refusal.
    fn refusal(&self) -> (u16, String, String, String) {
        let error = &self.json()["error"];
        let text = |field: &str| error[field].as_str().unwrap_or_default().to_owned();
        assert!(!text("message").is_empty(), "{error}");
        (self.status, text("type"), text("code"), text("param"))
    }
}

fn refused(status: u16, kind: &str, code: &str, param: &str) -> (u16, String, String, String) {
    (status, kind.to_owned(), code.to_owned(), param.to_owned())
}

impl Story {
    async fn begin() -> Self {
        let client = Client::builder().no_proxy().build().expect("an HTTP client");
        Self { stripe: FakeStripe::start(SECRET_KEY).await, client }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        form: &str,
        key: Option<&str>,
    ) -> reqwest::Result<Answer> {
        let url = format!("{}v1/{path}", self.stripe.base_url());
        let mut request = self.client.request(method, url).bearer_auth(SECRET_KEY);
        if !form.is_empty() {
            request =
                request.header("content-type", "application/x-www-form-urlencoded").body(form.to_owned());
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        Ok(Answer::of(request.send().await?).await)
    }

    async fn post(&self, path: &str, form: &str) -> Answer {
        self.send(Method::POST, path, form, None).await.expect("an answer")
    }

    async fn keyed(&self, path: &str, form: &str, key: &str) -> Answer {
        self.send(Method::POST, path, form, Some(key)).await.expect("an answer")
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, "", None).await.expect("an answer")
    }

    async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, "", None).await.expect("an answer")
    }

    /// A customer.
    async fn customer(&self) -> String {
        id(&self.post("customers", "email=alice@example.com&metadata[user_id]=alice").await.ok())
    }

    /// A subscription that a checkout has begun, of 20 dollars a month.
    async fn subscription(&self, customer: &str, more: &str) -> String {
        self.stripe.price("price_pro", 2000, "month");
        let form = format!(
            "mode=subscription&customer={customer}&success_url=https://a.example/ok&line_items[0][price]=price_pro\
             &subscription_data[metadata][user_id]=alice{more}"
        );
        let session = id(&self.post("checkout/sessions", &form).await.ok());
        let session = self.stripe.complete_checkout(&session);
        session["subscription"].as_str().expect("a subscription").to_owned()
    }

    /// A payment of 10 dollars.
    async fn payment(&self, customer: &str) -> String {
        let form = format!("amount=1000&currency=usd&customer={customer}&metadata[payment]=p1");
        let intent = id(&self.post("payment_intents", &form).await.ok());
        self.stripe.pay_intent(&intent);
        intent
    }

    /// The types of the events since the last look.
    fn happened(&self) -> Vec<String> {
        self.stripe.take_events().into_iter().map(|event| event.kind).collect()
    }

    /// How often a path was called.
    fn calls(&self, path: &str) -> Vec<Received> {
        self.stripe.requests().into_iter().filter(|call| call.path == path).collect()
    }
}

fn id(object: &Value) -> String {
    object["id"].as_str().expect("an id").to_owned()
}

fn ids(list: &Value) -> Vec<String> {
    list["data"].as_array().expect("a list").iter().map(id).collect()
}
