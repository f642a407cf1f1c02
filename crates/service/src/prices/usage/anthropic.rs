//! Anthropic: `input_tokens` are only those that no cache has to do with; thoughts are within the output.

use super::UsageError;
use super::fields::{Fields, Part};
use super::parts::{Completion, Prompt, Sides, Written, written_as};
use crate::prices::model::Pool;

pub fn read(fields: &Fields<'_>) -> Result<Sides, UsageError> {
    let mut sides = one(fields)?;
    // A compaction is a call of the same model that the outer counts leave out. An entry of any other type
    // is in the outer counts already, or is another model's.
    for entry in fields.list("iterations")? {
        if entry.text("type")?.as_deref() == Some("compaction") {
            add(&mut sides, one(&entry)?);
        }
    }
    let searches = fields.count(&["server_tool_use/web_search_requests"])?;
    sides.others.set(Pool::Search, searches.unwrap_or_default());
    Ok(sides)
}

fn one(fields: &Fields<'_>) -> Result<Sides, UsageError> {
    let input = fields.count(&["input_tokens"])?.unwrap_or_default();
    let output = fields.count(&["output_tokens"])?.unwrap_or_default();
    let cached = fields.part(&["cache_read_input_tokens"])?;
    let written = written_as(fields, &["cache_creation_input_tokens"], &["cache_creation"])?;
    let by_cache = cached.value + written.all();
    // Anthropic gives no total. A proxy that gives one, without the cached, has put them into the input.
    let total = fields.count(&["total_tokens"])?;
    let within = by_cache > 0 && total == Some(input + output);
    let whole = if within { input } else { input + by_cache };
    Ok(Sides {
        prompt: Prompt { whole, cached, written, ..Prompt::default() },
        completion: Completion {
            whole: output,
            reasoning: fields.part(&["output_tokens_details/thinking_tokens"])?,
            ..Completion::default()
        },
        ..Sides::default()
    })
}

fn add(sides: &mut Sides, more: Sides) {
    sides.prompt.whole += more.prompt.whole;
    sides.completion.whole += more.completion.whole;
    let plus = |part: &mut Part, other: Part| {
        part.value += other.value;
        if part.at.is_empty() {
            part.at = other.at;
        }
    };
    let Written { usual, hour } = more.prompt.written;
    plus(&mut sides.prompt.cached, more.prompt.cached);
    plus(&mut sides.prompt.written.usual, usual);
    plus(&mut sides.prompt.written.hour, hour);
    plus(&mut sides.completion.reasoning, more.completion.reasoning);
}
