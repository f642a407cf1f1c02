//! An event as its receivers see it, byte for byte the same at every attempt and to every endpoint.

use super::model::StoredEvent;
use serde_json::Value;
use std::fmt::Write as _;

/// What the public id of an event begins with.
pub const EVENT_PREFIX: &str = "evt_";

/// The public id of an event, which is the `webhook-id` of its deliveries.
#[must_use]
pub fn event_id(id: i64) -> String {
    format!("{EVENT_PREFIX}{id}")
}

/// The row of an event's public id.
#[must_use]
pub fn event_row(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(EVENT_PREFIX)?;
    let plain = !digits.starts_with('0') && digits.len() <= 18 && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

impl StoredEvent {
    /// The body of its deliveries: what every event has, then what this one has of its own.
    #[must_use]
    pub fn payload(&self) -> String {
        let mut text = String::with_capacity(self.body.len() + 256);
        let of_its_own = self.body.trim_start().strip_prefix('{').unwrap_or("}").trim_start();
        let comma = if of_its_own.starts_with('}') { "" } else { "," };
        let user = self.auth0_id.as_deref().map_or(Value::Null, Value::from);
        let kind = &self.event_type;
        let underscored = kind.replace('.', "_");
        let (id, at) = (event_id(self.id), self.at);
        let sequence = self.position.map_or(Value::Null, Value::from);
        // Writing to a text does not fail.
        let _ = write!(
            text,
            r#"{{"id":"{id}","type":"{kind}","event_type":"{underscored}","user_id":{user},"timestamp":"{at}","sequence":{sequence}{comma}{of_its_own}"#
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::Timestamp;

    fn event(body: &str) -> StoredEvent {
        StoredEvent {
            id: 7,
            position: Some(9),
            auth0_id: Some("auth0|test123".to_owned()),
            event_type: "credit.consumed".to_owned(),
            body: body.to_owned(),
            at: Timestamp::from_micros(1_753_575_086_479_685),
        }
    }

    #[test]
    fn a_payload_is_what_all_have_and_what_it_has_of_its_own() {
        assert_eq!(
            event(r#"{"amount":10.50,"data":{"id":1}}"#).payload(),
            r#"{"id":"evt_7","type":"credit.consumed","event_type":"credit_consumed","user_id":"auth0|test123","timestamp":"2025-07-27T00:11:26.479685Z","sequence":9,"amount":10.50,"data":{"id":1}}"#
        );
        let empty = StoredEvent { auth0_id: None, position: None, ..event("{}") }.payload();
        let value: Value = serde_json::from_str(&empty).expect("JSON");
        assert_eq!((&value["user_id"], &value["sequence"]), (&Value::Null, &Value::Null));
    }

    #[test]
    fn ids_are_read_back_and_nothing_else_is() {
        assert_eq!(event_row(&event_id(12)), Some(12));
        for bad in
            ["", "evt_", "evt_0", "evt_01", "evt_-1", "evt_+1", "evt_1x", "12", "evt_9999999999999999999"]
        {
            assert_eq!(event_row(bad), None, "{bad}");
        }
    }
}
