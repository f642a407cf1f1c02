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
    let of = |lists: &[&[&str]], modality: &str| of_modality(fields, lists, modality);
    let (cached_audio, cached_image) = (of(&[cache_details], "AUDIO")?, of(&[cache_details], "IMAGE")?);
    let (mut audio, mut image) =
        (of(&[prompt_details, tool_details], "AUDIO")?, of(&[prompt_details, tool_details], "IMAGE")?);
    if !fields.has_any(prompt_details) {
        // Without them nothing is known of the prompt's kinds but what was cached.
        (audio, image) = (most(audio, &cached_audio), most(image, &cached_image));
    }
    Ok(Sides {
        prompt: Prompt {
            whole: prompt + tools,
            audio,
            image,
            cached: fields.part(&["cachedContentTokenCount", "cached_content_token_count"])?,
            cached_audio,
            cached_image,
            ..Prompt::default()
        },
        completion: Completion {
            whole: whole_out,
            reasoning,
            audio: of(&[out_details], "AUDIO")?,
            image: of(&[out_details], "IMAGE")?,
        },
        ..Sides::default()
    })
}

/// How many tokens of that kind the lists name; each list goes by any of its names.
fn of_modality(fields: &Fields<'_>, lists: &[&[&str]], modality: &str) -> Result<Part, UsageError> {
    let mut sum = Part::default();
    for names in lists {
        let Some(name) = names.iter().find(|name| fields.get(name).is_some()) else { continue };
        for entry in fields.list(name)? {
            if entry.text("modality")?.as_deref() == Some(modality) {
                sum.value += entry.count(&["tokenCount", "token_count"])?.unwrap_or_default();
                sum.at = fields.path(name);
            }
        }
    }
    Ok(sum)
}

fn most(part: Part, other: &Part) -> Part {
    if part.value >= other.value { part } else { other.clone() }
}
