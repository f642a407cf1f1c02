//! What is kept of an attempt in the log of its delivery ([`crate::webhooks::model::Attempt`]).

/// The longest error that is kept, in characters.
pub const ERROR_MAX_CHARS: usize = 200;
/// How much of an answer is kept, in bytes.
pub const EXCERPT_MAX_BYTES: usize = 1_024;
/// How long the log of one delivery gets, in characters; with more it begins anew.
pub const LOG_MAX_CHARS: i64 = 32_768;

/// A receiver's words as they can be kept: one line of so many bytes, without what no database or terminal takes.
#[must_use]
pub fn excerpt(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut kept = String::new();
    for c in text.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if kept.len() + c.len_utf8() > EXCERPT_MAX_BYTES {
            break;
        }
        kept.push(c);
    }
    let kept = kept.trim();
    (!kept.is_empty()).then(|| kept.to_owned())
}

/// An error as it is kept.
#[must_use]
pub fn short(error: &str) -> String {
    error.chars().map(|c| if c.is_control() { ' ' } else { c }).take(ERROR_MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_an_answer_is_short_and_plain() {
        assert_eq!(excerpt(b" no\0t\n\x1b[31mhere "), Some("no t  [31mhere".to_owned()));
        assert_eq!(excerpt(b"\n\n"), None);
        let long = "ä".repeat(10_000);
        let kept = excerpt(long.as_bytes()).expect("some of it");
        assert!(kept.len() <= EXCERPT_MAX_BYTES && kept.chars().all(|c| c == 'ä'));
        assert!(
            excerpt(&[0xff, 0xfe]).is_some_and(|kept| kept.chars().all(|c| c == char::REPLACEMENT_CHARACTER))
        );
        assert_eq!(short(&"x".repeat(1000)).len(), ERROR_MAX_CHARS);
    }
}
