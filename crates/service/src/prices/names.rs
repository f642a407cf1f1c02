//! What a model's name says: a provider before it, a date behind it. No I/O.
//!
//! Only what looks like a date is ever taken away from a name's end: `gpt-4-0613` is `gpt-4`, and
//! `gpt-4-mini` is itself.

/// Providers that sell the same models under several names; a name that ends with `*` is a beginning.
const FAMILIES: [&[&str]; 6] = [
    &["openai", "text_completion_openai", "azure", "azure_openai", "az.ai.openai", "azure.ai.openai"],
    &["anthropic", "claude"],
    &["google", "gemini", "gcp*", "vertex_ai*", "vertex", "vertexai", "google_vertex", "google_ai_studio"],
    &["bedrock*", "aws*", "amazon*"],
    &["mistral", "mistralai", "mistral_ai"],
    &["cohere", "cohere_chat"],
];
/// What stands before a name without saying whose it is, as in `models/gemini-2.5-pro`.
const PLAIN_PREFIX: &str = "models";
/// A size that could be the 24th of October.
const NO_DATE: &str = "1024";
/// The years, by their last two digits, of names such as `mistral-large-2411`.
const SHORT_YEARS: std::ops::RangeInclusive<u16> = 23..=39;

/// How many characters a model's name may have, as in usage records.
pub const NAME_MAX: usize = 200;

/// Whether a text can be the name of a model.
///
/// # Errors
/// The rule that it breaks.
pub fn check(name: &str) -> Result<(), String> {
    let fits = (1..=NAME_MAX).contains(&name.chars().count());
    let plain = !name.chars().any(|c| c.is_control() || c.is_whitespace());
    // The router takes a slash at either end away, and `import` for the route of that name.
    if fits && plain && !name.starts_with('/') && !name.ends_with('/') && name != "import" {
        return Ok(());
    }
    Err(format!(
        "must be 1 to {NAME_MAX} characters without spaces, without a slash at either end, and not `import`"
    ))
}

/// The form by which names are compared.
#[must_use]
pub fn folded(name: &str) -> String {
    name.to_lowercase()
}

/// Whether two names mean the same provider, or providers that sell the same models.
#[must_use]
pub fn same_provider(one: &str, other: &str) -> bool {
    let (one, other) = (folded(one).replace('-', "_"), folded(other).replace('-', "_"));
    one == other || FAMILIES.iter().any(|family| is_of(family, &one) && is_of(family, &other))
}

fn is_of(family: &[&str], name: &str) -> bool {
    family.iter().any(|member| match member.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == *member,
    })
}

/// A name's provider and the rest of it: `openai/gpt-4` is `openai` and `gpt-4`.
#[must_use]
pub fn split(name: &str) -> Option<(&str, &str)> {
    name.split_once('/').filter(|(prefix, rest)| !prefix.is_empty() && !rest.is_empty())
}

/// Whether a prefix may be taken away from the name of a model that this provider offers.
#[must_use]
pub fn may_strip(prefix: &str, provider: Option<&str>) -> bool {
    prefix.eq_ignore_ascii_case(PLAIN_PREFIX)
        || provider.is_some_and(|provider| same_provider(prefix, provider))
}

/// A name in two parts: what it is, and the date it had behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dated<'a> {
    /// The name without the date.
    pub bare: &'a str,
    /// The date as it was written, or `latest`.
    pub date: &'a str,
}

impl Dated<'_> {
    /// The digits of the date, by which dates written in different ways are the same one; none for `latest`.
    #[must_use]
    pub fn digits(&self) -> String {
        self.date.chars().filter(char::is_ascii_digit).collect()
    }

    /// By which the newest of several is found: `latest`, then dates with a year, then those without.
    #[must_use]
    pub fn rank(&self) -> (u8, String) {
        let parts: Vec<&str> = self.date.split('-').collect();
        match parts[..] {
            [month, year] if year.len() == 4 => (1, format!("{year}{month}00")),
            [date] if date.len() == 4 && !is_month(&date[..2]) => (1, format!("20{date}00")),
            _ if self.date.eq_ignore_ascii_case("latest") => (2, String::new()),
            _ => (u8::from(self.digits().len() == 8), self.digits()),
        }
    }

    /// The name without the date, and also without a `-preview` that stood before it.
    pub fn bares(&self) -> impl Iterator<Item = &str> {
        let without = self.bare.strip_suffix("-preview").filter(|name| !name.is_empty());
        std::iter::once(self.bare).chain(without.filter(|_| !self.digits().is_empty()))
    }
}

/// Takes a date away from the end of a name, where there is one.
#[must_use]
pub fn dated(name: &str) -> Option<Dated<'_>> {
    let mut end = name.len();
    let starts: Vec<usize> = std::iter::from_fn(|| {
        end = name[..end].rfind(['-', '@', ':'])?;
        Some(end)
    })
    .take(3)
    .collect();
    // The longest first: the last part of 2024-08-06 alone is no date, but that of 05-06 might be.
    let found = starts.into_iter().rev().find(|start| is_date(&name[start + 1..]));
    found
        .filter(|start| *start > 0 && !name[..*start].ends_with('/'))
        .map(|start| Dated { bare: &name[..start], date: &name[start + 1..] })
}

fn is_date(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    match parts[..] {
        [year, month, day] => is_year(year) && is_month(month) && is_day(day),
        [month, last] => is_month(month) && (is_day(last) || is_year(last)),
        [date] if date.len() == 8 && date.is_ascii() => {
            is_year(&date[..4]) && is_month(&date[4..6]) && is_day(&date[6..])
        }
        [date] if date.len() == 4 && date.is_ascii() && date != NO_DATE => {
            let (first, second) = date.split_at(2);
            is_month(first) && is_day(second)
                || number(first, 2).is_some_and(|year| SHORT_YEARS.contains(&year)) && is_month(second)
        }
        [word] => word.eq_ignore_ascii_case("latest"),
        _ => false,
    }
}

fn number(text: &str, digits: usize) -> Option<u16> {
    (text.len() == digits && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

fn is_year(text: &str) -> bool {
    number(text, 4).is_some_and(|year| (2020..=2099).contains(&year))
}

fn is_month(text: &str) -> bool {
    number(text, 2).is_some_and(|month| (1..=12).contains(&month))
}

fn is_day(text: &str) -> bool {
    number(text, 2).is_some_and(|day| (1..=31).contains(&day))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_what_looks_like_a_date_goes() {
        for (name, bare) in [
            ("gpt-4-0613", "gpt-4"),
            ("gpt-4-32k-0613", "gpt-4-32k"),
            ("gpt-3.5-turbo-1106", "gpt-3.5-turbo"),
            ("gpt-4o-2024-08-06", "gpt-4o"),
            ("claude-3-5-sonnet-20241022", "claude-3-5-sonnet"),
            ("claude-3-5-sonnet@20241022", "claude-3-5-sonnet"),
            ("claude-3-5-sonnet-latest", "claude-3-5-sonnet"),
            ("llama3:latest", "llama3"),
            ("mistral-large-2411", "mistral-large"),
            ("gemini-2.5-pro-preview-05-06", "gemini-2.5-pro-preview"),
            ("gemini-live-preview-09-2025", "gemini-live-preview"),
            ("gpt-4o-realtime-preview-2024-12-17", "gpt-4o-realtime-preview"),
            ("openai/gpt-4-0613", "openai/gpt-4"),
        ] {
            assert_eq!(dated(name).map(|found| found.bare), Some(bare), "{name}");
        }
        for name in [
            "gpt-4",
            "gpt-4-mini",
            "gpt-4-32k",
            "gpt-4-1106-preview",
            "claude-opus-4-5",
            "claude-opus-4-8",
            "o1",
            "llama3-70b-8192",
            "titan-embed-1024",
            "titan-embed-2048",
            "gemini-embedding-001",
            "v2:0",
            "gpt-4-0000",
            "gpt-4-1332",
            "gpt-4-2024-13-06",
            "phi-4",
            "model-123",
            "-0613",
            "a/-0613",
            "",
            "-",
            "@latest",
            "0613",
            "anthropic.claude-3-5-sonnet-20241022-v2:0",
            "gpt-4-٠٦١٣",
            "qwen-72b",
            "gpt-4-turbo-preview",
        ] {
            assert_eq!(dated(name), None, "{name}");
        }
    }

    #[test]
    fn a_preview_goes_with_its_date() {
        let bares = |name| dated(name).map(|found| found.bares().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(bares("a-preview-2024-12-17"), Some(vec!["a-preview".to_owned(), "a".to_owned()]));
        assert_eq!(bares("a-preview-latest"), Some(vec!["a-preview".to_owned()]));
    }

    #[test]
    fn the_newest_is_known_whatever_way_dates_are_written() {
        let mut names = ["m-2024-05-13", "m-0613", "m-latest", "m-20240806", "m-2411", "m-12-2024"];
        names.sort_by_key(|name| dated(name).map(|found| found.rank()));
        assert_eq!(names, ["m-0613", "m-2024-05-13", "m-20240806", "m-2411", "m-12-2024", "m-latest"]);
    }

    #[test]
    fn providers_have_several_names() {
        for (one, other) in [
            ("openai", "OpenAI"),
            ("azure", "openai"),
            ("google", "vertex_ai-language-models"),
            ("gemini", "gcp.gemini"),
            ("aws.bedrock", "bedrock_converse"),
            ("xai", "xai"),
        ] {
            assert!(same_provider(one, other), "{one} {other}");
        }
        for (one, other) in
            [("openai", "anthropic"), ("openrouter", "openai"), ("", "openai"), ("deepinfra", "deepseek")]
        {
            assert!(!same_provider(one, other), "{one} {other}");
        }
        assert!(may_strip("models", None) && !may_strip("openai", None));
    }

    proptest! {
        #[test]
        fn any_name_is_answered(name in "\\PC{0,40}", tail in "[-@:0-9a-z/]{0,12}") {
            let name = format!("{name}{tail}");
            if let Some(found) = dated(&name) {
                prop_assert!(!found.bare.is_empty() && name.starts_with(found.bare));
                let _ = (found.rank(), found.bares().count());
            }
        }
    }
}
