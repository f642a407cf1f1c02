//! The words by which messages are found: one rule for what is written and what is asked, on both engines.
//!
//! A word is a run of letters and digits, folded (NFKC, lower case). Scripts that write no spaces
//! between words (Chinese, Japanese, Thai, …) count each character as a word, and what stands together in
//! the question must stand together in the text. Every word carries its user's row id, so that an
//! index has a dictionary of its own for each user: a search walks nobody else's messages.

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

/// The words of a user's text, each with the user before it, parted by spaces.
#[must_use]
pub fn of_text(user: UserRowId, text: &str) -> String {
    let mut all = String::with_capacity(text.len() * 2);
    for word in words(text).iter().take(WORDS_MAX) {
        if all.len() + word.len() > WORDS_MAX_BYTES {
            break;
        }
        let space = if all.is_empty() { "" } else { " " };
        // Writing to a text does not fail.
        let _ = write!(all, "{space}{}_{word}", user.0);
    }
    all
}

/// What is looked for: every term must be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    terms: Vec<Term>,
}

/// Words that stand together; with `prefix` the last one may go on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    words: Vec<String>,
    prefix: bool,
}

impl Question {
    /// Reads a question: words, `"phrases in quotes"`, and `begin*` for words that begin so.
    ///
    /// # Errors
    /// A sentence that names the broken rule.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut terms = Vec::new();
        // Every other part stands in quotes; a quote that is never closed goes to the end.
        for (n, part) in text.split('"').enumerate() {
            let pieces = if n % 2 == 1 { vec![part] } else { part.split_whitespace().collect() };
            for piece in pieces {
                let prefix = n % 2 == 0 && piece.ends_with('*');
                let words = words(piece);
                if !words.is_empty() {
                    terms.push(Term { words, prefix });
                }
            }
        }
        match terms.iter().map(|term| term.words.len()).sum::<usize>() {
            0 => Err("must have a letter or a digit".to_owned()),
            1..=ASKED_MAX => Ok(Self { terms }),
            _ => Err(format!("must have at most {ASKED_MAX} words")),
        }
    }

    /// The question to SQLite's FTS5.
    #[must_use]
    pub fn to_fts5(&self, user: UserRowId) -> String {
        self.join(user, " AND ", " + ", |word, prefix| {
            format!("\"{word}\"{}", if prefix { " *" } else { "" })
        })
    }

    /// The question to PostgreSQL, as a `tsquery`.
    #[must_use]
    pub fn to_tsquery(&self, user: UserRowId) -> String {
        self.join(user, " & ", " <-> ", |word, prefix| format!("'{word}'{}", if prefix { ":*" } else { "" }))
    }

    fn join(&self, user: UserRowId, and: &str, then: &str, write: impl Fn(&str, bool) -> String) -> String {
        let terms = self.terms.iter().map(|term| {
            let last = term.words.len() - 1;
            let words = term.words.iter().enumerate();
            let words = words.map(|(n, word)| write(&format!("{}_{word}", user.0), term.prefix && n == last));
            words.collect::<Vec<_>>().join(then)
        });
        terms.map(|term| format!("({term})")).collect::<Vec<_>>().join(and)
    }
}

/// The words of [`of_text`] as a `tsvector`: each with its place.
#[must_use]
pub fn to_tsvector(words: &str) -> String {
    let mut vector = String::with_capacity(words.len() * 2);
    for (n, word) in words.split(' ').filter(|word| !word.is_empty()).enumerate() {
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
        assert_eq!(text.split(' ').count(), WORDS_MAX);
        assert!(of_text(ADA, &"\u{fdfa}".repeat(80_000)).len() <= WORDS_MAX_BYTES + 100);
        assert_eq!(of_text(ADA, "Hi 中"), "7_hi 7_中");
        assert_eq!(to_tsvector("7_hi 7_中"), "7_hi:1 7_中:2 ");
    }

    #[test]
    fn a_question_is_written_for_both_engines() {
        let question = Question::parse("北京 \"good morning\" hel* it's").expect("a question");
        assert_eq!(
            question.to_fts5(ADA),
            r#"("7_北" + "7_京") AND ("7_good" + "7_morning") AND ("7_hel" *) AND ("7_it" + "7_s")"#
        );
        assert_eq!(
            question.to_tsquery(ADA),
            "('7_北' <-> '7_京') & ('7_good' <-> '7_morning') & ('7_hel':*) & ('7_it' <-> '7_s')"
        );
        for bad in ["", "  ", "\"\"", "…", "* -"] {
            assert!(Question::parse(bad).is_err(), "{bad}");
        }
        assert!(Question::parse(&"a ".repeat(ASKED_MAX)).is_ok());
        assert!(Question::parse(&"a ".repeat(ASKED_MAX + 1)).is_err());
    }
}
