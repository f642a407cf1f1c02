//! Amazon Bedrock: cached tokens are beside the input, whichever model it is.

use super::UsageError;
use super::fields::{Fields, Part};
use super::parts::{Completion, Prompt, Sides, Written};

/// The fields by which the counts of an invocation are known.
pub const MARKS: [&str; 4] =
    ["inputTokenCount", "outputTokenCount", "inputTextTokenCount", "generation_token_count"];

pub fn read(fields: &Fields<'_>) -> Result<Sides, UsageError> {
    let foreign = fields.part(&["cachedInputTokens"])?;
    if foreign.value > 0 {
        let rule = "must be left out: it does not say whether inputTokens includes it; send what the provider answered";
        return Err(UsageError::new(foreign.at, rule));
    }
    let input = ["inputTokens", "inputTokenCount", "inputTextTokenCount", "prompt_token_count"];
    let output = ["outputTokens", "outputTokenCount", "generation_token_count", "totalOutputTextTokenCount"];
    let mut output = fields.count(&output)?.unwrap_or_default();
    // The results of Titan, which each count their own tokens.
    for result in fields.list("results")? {
        output += result.count(&["tokenCount"])?.unwrap_or_default();
    }
    let cached = fields.part(&["cacheReadInputTokens", "cacheReadInputTokenCount"])?;
    let all = fields.part(&["cacheWriteInputTokens", "cacheWriteInputTokenCount"])?;
    let (mut five_minutes, mut hour) = (Part::default(), Part::default());
    for detail in fields.list("cacheDetails")? {
        let kind = if detail.text("ttl")?.as_deref() == Some("1h") { &mut hour } else { &mut five_minutes };
        kind.value += detail.count(&["inputTokens"])?.unwrap_or_default();
        kind.at = fields.path("cacheDetails");
    }
    let written = Written::of(all, &five_minutes, hour)?;
    let whole = fields.count(&input)?.unwrap_or_default() + cached.value + written.all();
    Ok(Sides {
        prompt: Prompt { whole, cached, written, ..Prompt::default() },
        completion: Completion { whole: output, ..Completion::default() },
        ..Sides::default()
    })
}
