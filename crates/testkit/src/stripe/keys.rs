//! Idempotency keys: what was answered once is answered again, byte for byte.
//!
//! A key is taken when its request begins, so of two at once only one is executed. What was refused
//! before anything was executed (unknown parameters, rate limits) leaves no trace.

use super::error::Refusal;
use bytes::Bytes;
use std::collections::HashMap;

/// How long a key is remembered at the least, in seconds of the fake's clock; then it is as new.
pub(super) const KEY_LIFE_S: i64 = 24 * 60 * 60;
/// How long a key may be.
const KEY_MAX_CHARS: usize = 255;

/// An answer that can be given again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) status: u16,
    pub(super) body: Bytes,
    pub(super) request: String,
}

#[derive(Debug)]
struct Slot {
    asked: String,
    since: i64,
    answer: Option<Stored>,
}

/// The keys that were used.
#[derive(Debug, Default)]
pub(super) struct Keys(HashMap<String, Slot>);

impl Keys {
    /// Takes a key for what is `asked`; gives the answer when there is one already.
    pub(super) fn begin(&mut self, key: &str, asked: &str, now: i64) -> Result<Option<Stored>, Refusal> {
        if key.chars().count() > KEY_MAX_CHARS {
            return Err(Refusal::invalid(format!(
                "Idempotency keys are up to {KEY_MAX_CHARS} characters long."
            )));
        }
        self.0.retain(|_, slot| slot.answer.is_none() || now - slot.since < KEY_LIFE_S);
        match self.0.get(key) {
            None => {
                self.0.insert(key.to_owned(), Slot { asked: asked.to_owned(), since: now, answer: None });
                Ok(None)
            }
            Some(slot) if slot.asked != asked => {
                let message = format!(
                    "Keys for idempotent requests can only be used with the same parameters they were first used \
                     with. Try using a key other than '{key}' if you meant to execute a different request."
                );
                Err(Refusal::new(400, "idempotency_error", message))
            }
            Some(Slot { answer: Some(answer), .. }) => Ok(Some(answer.clone())),
            Some(_) => {
                let message = format!(
                    "There is currently another in-progress request using this Idempotent Key (that probably means \
                     you submitted twice, and the other request is still going through): {key}. Please try again later."
                );
                Err(Refusal::new(409, "idempotency_error", message).code("idempotency_key_in_use"))
            }
        }
    }

    /// Keeps the answer of a key that was taken.
    pub(super) fn finish(&mut self, key: &str, answer: Stored) {
        if let Some(slot) = self.0.get_mut(key) {
            slot.answer = Some(answer);
        }
    }

    /// Forgets a key whose request was not executed.
    pub(super) fn release(&mut self, key: &str) {
        self.0.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_taken_then_answered_then_forgotten() {
        let mut keys = Keys::default();
        let answer = Stored { status: 200, body: Bytes::from_static(b"{}"), request: "req_1".to_owned() };
        let status = |found: Result<Option<Stored>, Refusal>| found.map_err(|refusal| refusal.status);
        assert_eq!(keys.begin("k", "a", 0), Ok(None));
        assert_eq!(status(keys.begin("k", "a", 1)), Err(409), "in flight");
        keys.finish("k", answer.clone());
        assert_eq!(keys.begin("k", "a", KEY_LIFE_S - 1), Ok(Some(answer)));
        assert_eq!(status(keys.begin("k", "b", 2)), Err(400), "for something else");
        assert_eq!(keys.begin("k", "b", KEY_LIFE_S), Ok(None), "forgotten");
        keys.release("k");
        assert_eq!(keys.begin("k", "a", KEY_LIFE_S), Ok(None));
        assert_eq!(status(keys.begin(&"k".repeat(KEY_MAX_CHARS + 1), "a", 0)), Err(400));
    }
}
