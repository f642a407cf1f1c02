//! The trace: what each call was, who made it, what it costs. Integers only.

use crate::Fallible;
use chrono::{DateTime, NaiveDateTime, Utc};

const TRACE: &str = include_str!("../../data/azure_llm_conv.csv");

/// Price of a prompt token and of a completion token, in micro-credits.
const CREDITS: (i128, i128) = (523, 1571);
/// The same in nano-dollars.
const COST: (i128, i128) = (157, 623);

/// Model, provider, event type; the trace names none, so calls take them in turn.
const KINDS: [(&str, &str, &str); 5] = [
    ("gpt-4", "openai", "ai_chat"),
    ("gpt-3.5-turbo", "openai", "ai_chat"),
    ("claude-3-haiku", "anthropic", "ai_chat"),
    ("gpt-4", "azure", "api_call"),
    ("mistral-large", "mistral", "api_call"),
];

/// One call of the trace.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its line, from 0.
    pub number: usize,
    /// Which of the users made it.
    pub user: usize,
    /// When, cut to microseconds.
    pub at: DateTime<Utc>,
    /// Tokens in.
    pub prompt: i128,
    /// Tokens out.
    pub completion: i128,
    /// The model it used.
    pub model: &'static str,
    /// The model's provider.
    pub provider: &'static str,
    /// The event's type.
    pub event_type: &'static str,
}

impl Call {
    /// What it costs the user, in micro-credits.
    pub fn credits(&self) -> i128 {
        self.prompt * CREDITS.0 + self.completion * CREDITS.1
    }

    /// What it costs the operator, in nano-dollars.
    pub fn cost(&self) -> i128 {
        self.prompt * COST.0 + self.completion * COST.1
    }
}

/// Reads the whole trace and gives each call to one of `users` users.
pub fn read(users: usize) -> Fallible<Vec<Call>> {
    TRACE.lines().skip(1).enumerate().map(|(number, line)| call(number, line, users)).collect()
}

fn call(number: usize, line: &str, users: usize) -> Fallible<Call> {
    let wrong = || format!("line {} of the trace: {line}", number + 2);
    let mut fields = line.trim_end().split(',');
    let mut next = || fields.next().ok_or_else(wrong);
    // Seven digits of a second in the file; the service keeps six.
    let at = next()?;
    let at = NaiveDateTime::parse_from_str(at.get(..26).unwrap_or(at), "%Y-%m-%d %H:%M:%S%.f")
        .map_err(|_| wrong())?;
    let prompt = next()?.parse().map_err(|_| wrong())?;
    let completion = next()?.parse().map_err(|_| wrong())?;
    let (model, provider, event_type) = KINDS[number % KINDS.len()];
    // A multiplicative hash: users get different numbers of calls, as real ones do.
    let user = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let user = usize::try_from(user)? % users;
    Ok(Call { number, user, at: at.and_utc(), prompt, completion, model, provider, event_type })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_whole_trace_is_read_and_every_user_has_calls() {
        let calls = super::read(1000).unwrap();
        assert_eq!(calls.len(), 19_366);
        assert_eq!((calls[0].prompt, calls[0].completion), (374, 44));
        assert_eq!(calls[0].at.timestamp_subsec_micros(), 680_590);
        let users: std::collections::BTreeSet<usize> = calls.iter().map(|call| call.user).collect();
        assert!(users.len() > 990, "{}", users.len());
        assert!(calls.windows(2).all(|pair| pair[0].at <= pair[1].at));
    }
}
