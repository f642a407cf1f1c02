//! What the fake Stripe knows: its objects, its clock, the cards of its customers, and its events.
//!
//! Every change of an object that Stripe tells of goes through [`World::add`] or [`World::change`] and
//! [`World::emit`], so an event holds the object as it was at that moment.

use super::error::Refusal;
use super::objects;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};

/// What an action answers.
pub(super) type Answer = Result<Value, Refusal>;

/// What happens when a customer's card is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Card {
    /// It pays.
    Good,
    /// It never pays.
    Declined,
    /// It pays only while its owner is there to confirm.
    NeedsOwner,
}

impl Card {
    /// Why a charge fails, if it does.
    pub(super) const fn refusal(self, off_session: bool) -> Option<&'static str> {
        match self {
            Self::Good => None,
            Self::Declined => Some("generic_decline"),
            Self::NeedsOwner if off_session => Some("authentication_required"),
            Self::NeedsOwner => None,
        }
    }
}

/// What becomes of a subscription that was not paid after the last attempt, as set in the dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterRetries {
    /// It is cancelled.
    Cancel,
    /// It stays, unpaid; its bills stay drafts.
    Unpaid,
}

/// The API request that something happens for.
#[derive(Debug, Clone, Default)]
pub(super) struct Cause {
    pub(super) request: String,
    pub(super) key: Option<String>,
}

/// Everything; a copy of it is a moment to return to.
#[derive(Debug, Clone)]
pub(super) struct World {
    objects: HashMap<String, Value>,
    order: BTreeMap<String, Vec<String>>,
    ids: u64,
    /// The clock, in seconds.
    pub(super) now: i64,
    /// The API request that is being answered.
    pub(super) cause: Option<Cause>,
    /// How the card of each customer behaves; a card that nobody spoke of is good.
    pub(super) cards: HashMap<String, Card>,
    pub(super) after_retries: AfterRetries,
    /// Lines that wait for the subscription's next bill.
    pub(super) pending: HashMap<String, Vec<Value>>,
    /// What the creation of a session said of the objects that its completion makes.
    pub(super) plans: HashMap<String, Value>,
    /// The subscriptions whose trial's end was announced.
    pub(super) warned: HashSet<String>,
    /// The events that were taken.
    pub(super) taken: usize,
}

impl World {
    pub(super) fn new(now: i64) -> Self {
        Self {
            objects: HashMap::new(),
            order: BTreeMap::new(),
            ids: 0,
            now,
            cause: None,
            cards: HashMap::new(),
            after_retries: AfterRetries::Cancel,
            pending: HashMap::new(),
            plans: HashMap::new(),
            warned: HashSet::new(),
            taken: 0,
        }
    }

    /// Returns to a moment; ids that were given out since are not given out again.
    pub(super) fn return_to(&mut self, moment: Self) {
        let ids = self.ids;
        *self = moment;
        self.ids = ids;
    }

    /// An id that nothing has.
    pub(super) fn fresh(&mut self, prefix: &str) -> String {
        self.ids += 1;
        format!("{prefix}Fake{:08}", self.ids)
    }

    /// Makes an object: Stripe's example with these fields written over it.
    pub(super) fn add(&mut self, kind: &str, fields: Value) -> String {
        let mut object = objects::template(kind);
        object["created"] = json!(self.now);
        for (field, value) in into_map(fields) {
            object[&field] = value;
        }
        // Only a price has the id that somebody chose for it.
        if kind != "price" {
            object["id"] = json!(self.fresh(objects::prefix(kind)));
        }
        let id = text(&object["id"]);
        if self.objects.insert(id.clone(), object).is_none() {
            self.order.entry(kind.to_owned()).or_default().push(id.clone());
        }
        id
    }

    /// An object of that kind.
    pub(super) fn get(&self, kind: &str, id: &str) -> Result<&Value, Refusal> {
        self.named(kind, id, "id")
    }

    /// An object that a parameter names.
    pub(super) fn named(&self, kind: &str, id: &str, param: &str) -> Result<&Value, Refusal> {
        let found = self.objects.get(id).filter(|object| object["object"] == kind);
        found.ok_or_else(|| Refusal::missing(kind, id, param))
    }

    /// An object that is there.
    pub(super) fn at(&self, id: &str) -> &Value {
        self.objects.get(id).unwrap_or_else(|| panic!("the fake Stripe has no {id}"))
    }

    /// A text field of an object that is there; empty when it has none.
    pub(super) fn field(&self, id: &str, field: &str) -> String {
        text(&self.at(id)[field])
    }

    /// Every object of a kind, oldest first.
    pub(super) fn all(&self, kind: &str) -> impl DoubleEndedIterator<Item = &Value> {
        self.order.get(kind).into_iter().flatten().map(|id| &self.objects[id])
    }

    /// The ids of a kind's objects that fit, oldest first.
    pub(super) fn ids(&self, kind: &str, fits: impl Fn(&Value) -> bool) -> Vec<String> {
        self.all(kind).filter(|object| fits(object)).map(|object| text(&object["id"])).collect()
    }

    /// Changes an object and, when that changes something, tells of it.
    pub(super) fn change(&mut self, id: &str, event: Option<&str>, edit: impl FnOnce(&mut Value)) {
        let object = self.objects.get_mut(id).unwrap_or_else(|| panic!("the fake Stripe has no {id}"));
        let before = object.clone();
        edit(object);
        let previous = difference(&before, object);
        if let (Some(event), false) = (event, previous.is_empty()) {
            self.tell(event, id, Some(previous));
        }
    }

    /// Appends an event with the object as it is now.
    pub(super) fn emit(&mut self, event: &str, id: &str) {
        self.tell(event, id, None);
    }

    fn tell(&mut self, event: &str, id: &str, previous: Option<Map<String, Value>>) {
        let mut data = json!({"object": self.at(id)});
        if let Some(previous) = previous {
            data["previous_attributes"] = Value::Object(previous);
        }
        let cause = self.cause.clone();
        let request = json!({
            "id": cause.as_ref().map(|cause| cause.request.clone()),
            "idempotency_key": cause.and_then(|cause| cause.key),
        });
        let fields = json!({
            "type": event, "data": data, "request": request, "api_version": super::API_VERSION, "pending_webhooks": 1,
        });
        self.add("event", fields);
    }

    /// How the customer's card behaves.
    pub(super) fn card(&self, customer: &str) -> Card {
        self.cards.get(customer).copied().unwrap_or(Card::Good)
    }
}

/// A text, or nothing.
pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A whole number, or none.
pub(super) fn int(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

fn into_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is no object"),
    }
}

/// What the fields that differ were before, as `previous_attributes` has them.
fn difference(before: &Value, after: &Value) -> Map<String, Value> {
    let (Some(before), Some(after)) = (before.as_object(), after.as_object()) else { return Map::new() };
    let mut changed = Map::new();
    for (field, now) in after {
        let then = before.get(field).unwrap_or(&Value::Null);
        if then.is_object() && now.is_object() {
            let inner = difference(then, now);
            if !inner.is_empty() {
                changed.insert(field.clone(), Value::Object(inner));
            }
        } else if then != now {
            changed.insert(field.clone(), then.clone());
        }
    }
    for (field, then) in before.iter().filter(|(field, _)| !after.contains_key(*field)) {
        changed.insert(field.clone(), then.clone());
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_says_what_was_before() {
        let mut world = World::new(7);
        let id = world.add("customer", json!({"email": "a@example.com", "metadata": {"a": "1", "b": "2"}}));
        world.emit("customer.created", &id);
        world.change(&id, Some("customer.updated"), |customer| {
            customer["email"] = json!("b@example.com");
            customer["metadata"] = json!({"a": "1", "c": "3"});
        });
        world.change(&id, Some("customer.updated"), |_| ());
        let events: Vec<_> = world.all("event").collect();
        assert_eq!(events.len(), 2, "what changes nothing tells nothing");
        assert_eq!(events[0]["data"]["object"]["email"], "a@example.com", "a snapshot");
        let previous = json!({"email": "a@example.com", "metadata": {"b": "2", "c": null}});
        assert_eq!(events[1]["data"]["previous_attributes"], previous);
        assert_eq!(events[1]["created"], 7);
    }
}
