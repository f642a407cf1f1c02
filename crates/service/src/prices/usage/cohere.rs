//! Cohere: what is billed, or, where nothing is said of that, the tokens.

use super::UsageError;
use super::fields::Fields;
use super::parts::{Completion, Prompt, Sides};
use crate::prices::model::Pool;

/// The fields by which it is known.
pub const MARKS: [&str; 8] = [
    "billed_units/input_tokens",
    "billed_units/output_tokens",
    "billed_units/search_units",
    "billed_units/classifications",
    "billed_units/images",
    "billed_units/image_tokens",
    "tokens/input_tokens",
    "tokens/output_tokens",
];

pub fn read(fields: &Fields<'_>) -> Result<Sides, UsageError> {
    let place = if fields.has_any(&MARKS[..6]) { "billed_units" } else { "tokens" };
    let part = |name: &str| fields.part(&[&format!("{place}/{name}")]);
    let count = |name: &str| part(name).map(|part| part.value);
    let image = part("image_tokens")?;
    let mut sides = Sides {
        prompt: Prompt { whole: count("input_tokens")? + image.value, image, ..Prompt::default() },
        completion: Completion { whole: count("output_tokens")?, ..Completion::default() },
        ..Sides::default()
    };
    sides.others.set(Pool::Search, count("search_units")?);
    sides.others.set(Pool::Image, count("images")?);
    sides.others.set(Pool::Request, count("classifications")?);
    Ok(sides)
}
