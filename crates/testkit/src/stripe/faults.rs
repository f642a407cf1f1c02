//! What goes wrong on purpose.

use std::time::Duration;

/// Whether the request's effect has happened when the fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing has happened, and nothing will.
    Before,
    /// It has happened; only its answer is lost or false.
    After,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The answer comes that late: the true one after the effect, before it a connection that closes.
    Timeout(Duration, Effect),
    /// An answer of that status. As at Stripe, 402 and 500 are kept under the request's key; 429 and 503
    /// come from before it and are not.
    Status(u16, Effect),
    /// The connection closes without an answer.
    Drop(Effect),
    /// The effect happens that late, the request's key being in flight meanwhile, and is answered.
    Slow(Duration),
}

/// Which requests a fault meets, and how many of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    method: &'static str,
    prefix: String,
    fault: Fault,
    left: u32,
}

impl Rule {
    /// The next request of that method (`*`: any) whose path begins so, such as `/v1/refunds`.
    #[must_use]
    pub fn on(method: &'static str, prefix: &str, fault: Fault) -> Self {
        Self { method, prefix: prefix.to_owned(), fault, left: 1 }
    }

    /// The next so many of them.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.left = times;
        self
    }

    /// The fault that the first fitting rule has for a request; it is used up by that.
    pub(super) fn take(rules: &mut Vec<Self>, method: &str, path: &str) -> Option<Fault> {
        let fits = |rule: &Self| {
            rule.left > 0 && (rule.method == "*" || rule.method == method) && path.starts_with(&rule.prefix)
        };
        let rule = rules.iter_mut().find(|rule| fits(rule))?;
        rule.left -= 1;
        let fault = rule.fault;
        rules.retain(|rule| rule.left > 0);
        Some(fault)
    }
}
