//! Gemini: cached tokens are within the prompt, thoughts and what tools put in are beside it.

use super::UsageError;
use super::fields::{Fields, Part};
use super::parts::{Completion, Prompt, Sides};

/// The fields by which it is known.
pub const MARKS: [&str; 14] = [
    "promptTokenCount",
    "prompt_token_count",
    "candidatesTokenCount",
    "candidates_token_count",
    "responseTokenCount",
    "response_token_count",
    "thoughtsTokenCount",
    "thoughts_token_count",
    "cachedContentTokenCount",
    "cached_content_token_count",
    "toolUsePromptTokenCount",
    "tool_use_prompt_token_count",
    "totalTokenCount",
    "total_token_count",
];

pub fn read(fields: &Fields<'_>) -> Result<Sides, UsageError> {
    let tools =
        fields.count(&["toolUsePromptTokenCount", "tool_use_prompt_token_count"])?.unwrap_or_default();
    let said = fields.count(&[
        "candidatesTokenCount",
        "candidates_token_count",
        "responseTokenCount",
        "response_token_count",
    ])?;
    let candidates = said.unwrap_or_default();
    let reasoning = fields.part(&["thoughtsTokenCount", "thoughts_token_count"])?;
    let total = fields.count(&["totalTokenCount", "total_token_count"])?;
    // Of a prompt that is not there, the total says how much it was.
    let rest = total.map_or(0, |total| (total - tools - candidates - reasoning.value).max(0));
    let prompt = fields.count(&["promptTokenCount", "prompt_token_count"])?.unwrap_or(rest);
    // Some answers have the thoughts within the candidates; then the total comes out without them.
    let within = reasoning.value > 0 && total == Some(prompt + tools + candidates);
    let whole_out = if within { candidates } else { candidates + reasoning.value };
    let prompt_details = &["promptTokensDetails", "prompt_tokens_details"][..];
    let tool_details = &["toolUsePromptTokensDetails", "tool_use_prompt_tokens_details"][..];
    let cache_details = &["cacheTokensDetails", "cache_tokens_details"][..];
    let out_details = &[
        "candidatesTokensDetails",
        "candidates_tokens_details",
        "responseTokensDetails",
        "response_tokens_details",
    ][..];
    let cached = Kinds::of(fields, &[cache_details])?;
    let mut into = Kinds::of(fields, &[prompt_details, tool_details])?;
    let out = Kinds::of(fields, &[out_details])?;
    if !fields.has_any(prompt_details) {
        // Without them nothing is known of the prompt's kinds but what was cached.
        into = Kinds { audio: most(into.audio, &cached.audio), image: most(into.image, &cached.image) };
    }
    Ok(Sides {
        prompt: Prompt {
            whole: prompt + tools,
            audio: into.audio,
            image: into.image,
            cached: fields.part(&["cachedContentTokenCount", "cached_content_token_count"])?,
            cached_audio: cached.audio,
            cached_image: cached.image,
            ..Prompt::default()
        },
        completion: Completion { whole: whole_out, reasoning, audio: out.audio, image: out.image },
        ..Sides::default()
    })
}

/// Tokens that have a price of their own for what they are.
#[derive(Default)]
struct Kinds {
    audio: Part,
    image: Part,
}

impl Kinds {
    /// What the lists name of each; a list goes by any of its names.
    fn of(fields: &Fields<'_>, lists: &[&[&str]]) -> Result<Self, UsageError> {
        let mut kinds = Self::default();
        for names in lists {
            let Some(name) = names.iter().find(|name| fields.get(name).is_some()) else { continue };
            for entry in fields.list(name)? {
                let kind = match entry.text("modality")?.as_deref() {
                    Some("AUDIO") => &mut kinds.audio,
                    Some("IMAGE") => &mut kinds.image,
                    _ => continue,
                };
                kind.value += entry.count(&["tokenCount", "token_count"])?.unwrap_or_default();
                kind.at = fields.path(name);
            }
        }
        Ok(kinds)
    }
}

fn most(part: Part, other: &Part) -> Part {
    if part.value >= other.value { part } else { other.clone() }
}
