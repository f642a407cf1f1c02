//! OpenTelemetry: attributes of a span, in which each part is within its whole.

use super::fields::Fields;
use super::parts::{Completion, Prompt, Sides, Written};
use super::{UsageError, named};
use kernel::Text;

/// The attributes by which it is known.
pub const MARKS: [&str; 4] = [
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.prompt_tokens",
    "gen_ai.usage.completion_tokens",
];

pub fn read(fields: &Fields<'_>) -> Result<Sides, UsageError> {
    let count = |names: &[&str]| fields.count(names).map(Option::unwrap_or_default);
    let usual = fields.part(&[
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.input_tokens.cache_write",
    ])?;
    let provider = fields.text("gen_ai.provider.name")?.or(fields.text("gen_ai.system")?);
    let provider = provider.filter(|name| !name.is_empty()).map(Text::<1, 100>::new).transpose();
    let provider = provider.map_err(|rule| UsageError::new(fields.path("gen_ai.provider.name"), rule))?;
    Ok(Sides {
        prompt: Prompt {
            whole: count(&["gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"])?,
            audio: fields.part(&["gen_ai.usage.audio.input_tokens"])?,
            image: fields.part(&["gen_ai.usage.image.input_tokens"])?,
            cached: fields.part(&[
                "gen_ai.usage.cache_read.input_tokens",
                "gen_ai.usage.cache_read_input_tokens",
                "gen_ai.usage.input_tokens.cached",
            ])?,
            written: Written { usual, ..Written::default() },
            ..Prompt::default()
        },
        completion: Completion {
            whole: count(&["gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"])?,
            reasoning: fields
                .part(&["gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.output_tokens.reasoning"])?,
            audio: fields.part(&["gen_ai.usage.audio.output_tokens"])?,
            ..Completion::default()
        },
        model: named(fields, &["gen_ai.response.model", "gen_ai.request.model"])?,
        provider: provider.map(Text::into_string),
        ..Sides::default()
    })
}
