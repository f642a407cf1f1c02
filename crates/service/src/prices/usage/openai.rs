//! OpenAI's interfaces and those that answer alike: parts are within their whole. Where a provider counts
//! thoughts beside the completion, `total_tokens` tells.

use super::UsageError;
use super::fields::{Fields, Part};
use super::parts::{Completion, Prompt, Sides, written_as};
use super::shape::Shape;
use crate::prices::model::Pool;

const CACHED: [&str; 10] = [
    "prompt_tokens_details/cached_tokens",
    "input_tokens_details/cached_tokens",
    "input_token_details/cached_tokens",
    "input_token_details/cache_read",
    "input_tokens_details/cache_read_input_tokens",
    "prompt_cache_hit_tokens",
    "num_cached_tokens",
    "cached_tokens",
    "cache_read_input_tokens",
    "prompt_tokens_details/cache_read_input_tokens",
];
const WRITTEN: [&str; 7] = [
    "prompt_tokens_details/cache_write_tokens",
    "input_tokens_details/cache_write_tokens",
    "prompt_tokens_details/cache_creation_tokens",
    "input_tokens_details/cache_creation_input_tokens",
    "prompt_tokens_details/cache_creation_input_tokens",
    "input_token_details/cache_creation",
    "cache_creation_input_tokens",
];
const WRITTEN_DETAILS: [&str; 3] =
    ["prompt_tokens_details/cache_creation_token_details", "input_token_details", "cache_creation"];

pub fn read(fields: &Fields<'_>, shape: Shape) -> Result<Sides, UsageError> {
    let total = fields.count(&["total_tokens"])?;
    let said_in = fields.count(&["prompt_tokens", "input_tokens"])?;
    let said_out = fields.count(&["completion_tokens", "output_tokens"])?;
    let mut sides = Sides::default();
    sides.others.set(Pool::Search, searches(fields)?);
    let seconds = seconds(fields)?;
    sides.others.set(Pool::Second, seconds);
    // Of one side that is not there, the total says how much it was.
    let rest = |other: i64| total.map_or(0, |total| (total - other).max(0));
    let whole_in = said_in.unwrap_or_else(|| rest(said_out.unwrap_or_default()));
    let mut completion = Completion {
        whole: said_out.unwrap_or_else(|| rest(whole_in)),
        audio: fields.part(&[
            "completion_tokens_details/audio_tokens",
            "output_tokens_details/audio_tokens",
            "output_token_details/audio_tokens",
            "output_token_details/audio",
        ])?,
        image: fields.part(&[
            "completion_tokens_details/image_tokens",
            "output_tokens_details/image_tokens",
            "output_token_details/image_tokens",
        ])?,
        ..Completion::default()
    };
    if shape == Shape::OpenaiImage && fields.get("output_tokens_details").is_none() {
        completion.image = Part { value: completion.whole, at: fields.path("output_tokens") };
    }
    // What `total_tokens` has beyond both sides: those that answer alike put thoughts there.
    let both = said_in.is_some() && said_out.is_some();
    let beyond = if both { rest(whole_in + completion.whole) } else { 0 };
    let chat = shape == Shape::OpenaiChat && seconds == 0;
    think(&mut completion, fields, beyond, chat)?;
    sides.prompt = prompt(fields, whole_in)?;
    sides.completion = completion;
    Ok(sides)
}

fn prompt(fields: &Fields<'_>, whole: i64) -> Result<Prompt, UsageError> {
    // What was read of the sources is paid for like what was asked.
    let cited = fields.count(&["citation_tokens"])?.unwrap_or_default();
    Ok(Prompt {
        whole: whole + cited,
        audio: fields.part(&[
            "prompt_tokens_details/audio_tokens",
            "input_tokens_details/audio_tokens",
            "input_token_details/audio_tokens",
            "input_token_details/audio",
        ])?,
        image: fields.part(&[
            "prompt_tokens_details/image_tokens",
            "input_tokens_details/image_tokens",
            "input_token_details/image_tokens",
        ])?,
        cached: fields.part(&CACHED)?,
        cached_audio: fields.part(&[
            "prompt_tokens_details/cached_tokens_details/audio_tokens",
            "input_tokens_details/cached_tokens_details/audio_tokens",
            "input_token_details/cached_tokens_details/audio_tokens",
        ])?,
        cached_image: fields.part(&[
            "prompt_tokens_details/cached_tokens_details/image_tokens",
            "input_tokens_details/cached_tokens_details/image_tokens",
            "input_token_details/cached_tokens_details/image_tokens",
        ])?,
        written: written_as(fields, &WRITTEN, &WRITTEN_DETAILS)?,
    })
}

/// Finds the thoughts, and adds those that the completion does not include.
fn think(
    completion: &mut Completion,
    fields: &Fields<'_>,
    beyond: i64,
    chat: bool,
) -> Result<(), UsageError> {
    let mut reasoning = fields.part(&[
        "completion_tokens_details/reasoning_tokens",
        "output_tokens_details/reasoning_tokens",
        "output_token_details/reasoning_tokens",
        "output_token_details/reasoning",
    ])?;
    let mut outside = beyond;
    if reasoning.value == 0 {
        // Deep research counts its thoughts beside the completion, and even beside the total.
        reasoning = fields.part(&["reasoning_tokens"])?;
        if fields.has_any(&["citation_tokens"]) {
            outside = reasoning.value;
        }
    }
    if reasoning.value == 0 && chat && beyond > 0 {
        reasoning = Part { value: beyond, at: fields.path("total_tokens") };
    }
    if reasoning.value == outside {
        completion.whole += outside;
    }
    completion.reasoning = reasoning;
    Ok(())
}

fn searches(fields: &Fields<'_>) -> Result<i64, UsageError> {
    let names = ["server_tool_use/web_search_requests", "num_search_queries", "num_sources_used"];
    Ok(fields.count(&names)?.unwrap_or_default())
}

fn seconds(fields: &Fields<'_>) -> Result<i64, UsageError> {
    if fields.get("type") == Some("\"duration\"") {
        return fields.thousandths("seconds");
    }
    fields.thousandths("prompt_audio_seconds")
}
