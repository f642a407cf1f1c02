//! The words by which messages are found: one rule for what is written and what is asked, on both engines.
//!
//! A word is a run of letters and digits, folded (NFKC, lower case). Scripts that write no spaces
//! between words (Chinese, Japanese, Thai, …) count each character as a word, and what stands together in
//! the question must stand together in the text. Each text also carries its user as a word that nobody
//! can write (`_7`), and each question asks for it: the index skips from one own message to the next,
//! however often others used the same words.

use kernel::UserRowId;
use std::fmt::Write as _;
use unicode_normalization::UnicodeNormalization as _;

/// How many words of a message can be found; PostgreSQL numbers no more.
pub const WORDS_MAX: usize = 16_000;
/// How many characters of a word count.
pub const WORD_MAX_CHARS: usize = 64;
/// How many bytes all words of a message may take; PostgreSQL holds 1 MiB with their places.
const WORDS_MAX_BYTES: usize = 512 * 1024;
/// How many words a question may have.
pub const ASKED_MAX: usize = 32;

/// The words of a text.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for c in text.nfkc().flat_map(char::to_lowercase) {
        let last = words.last_mut();
        match last {
            Some(word) if c.is_alphanumeric() && !stands_alone(c) => {
                // What is longer than a word can be is cut, on both sides of a search.
                if word.chars().count() < WORD_MAX_CHARS {
                    word.push(c);
                }
            }
            _ => {
                if c.is_alphanumeric() {
                    words.push(c.to_string());
                }
                words.push(String::new());
            }
        }
        if words.len() > 3 * WORDS_MAX {
            break;
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Whether the character's script writes no spaces between words.
fn stands_alone(c: char) -> bool {
    matches!(u32::from(c),
        0x0e00..=0x0eff        // Thai, Lao
        | 0x1000..=0x109f      // Burmese
        | 0x1780..=0x17ff      // Khmer
        | 0x2e80..=0x2fdf      // radicals
        | 0x3005..=0x3007 | 0x3021..=0x3029 | 0x3038..=0x303b
        | 0x3040..=0x30ff      // Hiragana, Katakana
        | 0x31f0..=0x31ff
        | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff // Han
        | 0x1b000..=0x1b16f
        | 0x20000..=0x3ffff)
}

/// The words of a user's text after the one that names the user, parted by spaces; nothing where the
/// text has none.
#[must_use]
pub fn of_text(user: UserRowId, text: &str) -> String {
    let words = words(text);
    if words.is_empty() {
        return String::new();
    }
    let mut all = String::with_capacity(text.len() + 16);
    all.push_str(&owner(user));
    for word in words.iter().take(WORDS_MAX) {
        if all.len() + word.len() > WORDS_MAX_BYTES {
            break;
        }
        all.push(' ');
        all.push_str(word);
    }
    all
}

/// The word that names a user; no text has it, because `_` is neither letter nor digit.
fn owner(user: UserRowId) -> String {
    format!("_{}", user.0)
}

/// What is looked for: every term must be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Words that stand together.
    phrases: Vec<Vec<String>>,
}

impl Question {
    /// Reads a question: words and `"phrases in quotes"`.
    ///
    /// # Errors
    /// A sentence that names the broken rule.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut phrases = Vec::new();
        // Every other part stands in quotes; a quote that is never closed goes to the end.
        for (n, part) in text.split('"').enumerate() {
            let pieces = if n % 2 == 1 { vec![part] } else { part.split_whitespace().collect() };
            phrases.extend(pieces.into_iter().map(words).filter(|words| !words.is_empty()));
        }
        match phrases.iter().map(Vec::len).sum::<usize>() {
            0 => Err("must have a letter or a digit".to_owned()),
            1..=ASKED_MAX => Ok(Self { phrases }),
            _ => Err(format!("must have at most {ASKED_MAX} words")),
        }
    }

    /// The question about one's own messages to SQLite's FTS5.
    #[must_use]
    pub fn to_fts5(&self, user: UserRowId) -> String {
        let phrases = self.phrases.iter().map(|words| format!("\"{}\"", words.join(" ")));
        std::iter::once(format!("\"{}\"", owner(user))).chain(phrases).collect::<Vec<_>>().join(" AND ")
    }

    /// The same question to PostgreSQL, as a `tsquery`.
    #[must_use]
    pub fn to_tsquery(&self, user: UserRowId) -> String {
        let phrases = self.phrases.iter().map(|words| {
            let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
            format!("({})", words.join(" <-> "))
        });
        std::iter::once(format!("'{}'", owner(user))).chain(phrases).collect::<Vec<_>>().join(" & ")
    }
}

/// The words of [`of_text`] as a `tsvector`: each with its place.
#[must_use]
pub fn to_tsvector(words: &str) -> String {
    let mut vector = String::with_capacity(words.len() * 2);
    for (n, word) in words.split(' ').filter(|word| !word.is_empty()).enumerate() {
        // Writing to a text does not fail.
        let _ = write!(vector, "{word}:{} ", n + 1);
    }
    vector
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: UserRowId = UserRowId(7);

    #[test]
    fn words_are_folded_and_parted() {
        assert_eq!(words("Hello, World! don't C++ 3.14"), ["hello", "world", "don", "t", "c", "3", "14"]);
        assert_eq!(words("ＡＢＣ Cafe\u{301} STRASSE"), ["abc", "café", "strasse"]);
        assert_eq!(words("我爱北京 and Tokyo東京"), ["我", "爱", "北", "京", "and", "tokyo", "東", "京"]);
        assert_eq!(words(" \t…—"), Vec::<String>::new());
        assert_eq!(words(&"x".repeat(1000)), ["x".repeat(WORD_MAX_CHARS)]);
    }

    #[test]
    fn a_text_has_at_most_so_many_words() {
        let text = of_text(ADA, &"ab ".repeat(WORDS_MAX + 10));
        assert_eq!(text.split(' ').count(), 1 + WORDS_MAX);
        assert!(of_text(ADA, &"\u{fdfa}".repeat(80_000)).len() <= WORDS_MAX_BYTES + 100);
        assert_eq!(of_text(ADA, "Hi 中 _9"), "_7 hi 中 9");
        assert_eq!(of_text(ADA, "…"), "");
        assert_eq!(to_tsvector("_7 hi 中"), "_7:1 hi:2 中:3 ");
    }

    #[test]
    fn a_question_is_written_for_both_engines() {
        let question = Question::parse("北京 \"good morning\" hello* it's").expect("a question");
        assert_eq!(question.to_fts5(ADA), r#""_7" AND "北 京" AND "good morning" AND "hello" AND "it s""#);
        assert_eq!(
            question.to_tsquery(ADA),
            "'_7' & ('北' <-> '京') & ('good' <-> 'morning') & ('hello') & ('it' <-> 's')"
        );
        for bad in ["", "  ", "\"\"", "…", "* -"] {
            assert!(Question::parse(bad).is_err(), "{bad}");
        }
        assert!(Question::parse(&"a ".repeat(ASKED_MAX)).is_ok());
        assert!(Question::parse(&"a ".repeat(ASKED_MAX + 1)).is_err());
    }
}
