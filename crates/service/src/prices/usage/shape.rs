//! Whose usage object it is, by the fields that only that provider's have.

use super::UsageError;
use super::fields::Fields;
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// Whose usage object it is, that is, how it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Chat Completions of OpenAI, and of the many that answer alike.
    OpenaiChat,
    /// Responses of OpenAI.
    OpenaiResponses,
    /// Embeddings of OpenAI, and of those that answer alike.
    OpenaiEmbedding,
    /// Transcriptions of OpenAI, by tokens or by seconds.
    OpenaiAudio,
    /// Pictures of OpenAI.
    OpenaiImage,
    /// The Realtime interface of OpenAI.
    OpenaiRealtime,
    /// Usage metadata of LangChain.
    Langchain,
    /// Messages of Anthropic.
    Anthropic,
    /// Gemini, by its own interface or Vertex AI's.
    Gemini,
    /// Converse of Amazon Bedrock.
    BedrockConverse,
    /// What Amazon Bedrock and its models count of an invocation.
    BedrockInvoke,
    /// Cohere.
    Cohere,
    /// Attributes of an OpenTelemetry span.
    Otel,
    /// Tokens in and out and nothing that tells whose they are.
    Plain,
}

impl Shape {
    /// Its word in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenaiChat => "openai_chat",
            Self::OpenaiResponses => "openai_responses",
            Self::OpenaiEmbedding => "openai_embedding",
            Self::OpenaiAudio => "openai_audio",
            Self::OpenaiImage => "openai_image",
            Self::OpenaiRealtime => "openai_realtime",
            Self::Langchain => "langchain",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::BedrockConverse => "bedrock_converse",
            Self::BedrockInvoke => "bedrock_invoke",
            Self::Cohere => "cohere",
            Self::Otel => "otel",
            Self::Plain => "plain",
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where whole answers have their usage.
const WRAPPERS: [&str; 5] =
    ["usage", "usageMetadata", "usage_metadata", "amazon-bedrock-invocationMetrics", "meta"];

/// The shape, and the object within this one that has it, if it is not this one itself.
pub fn find<'a>(outer: &Fields<'a>) -> Result<(Option<Fields<'a>>, Shape), UsageError> {
    let mut found = of(outer)?.map(|shape| (None, shape));
    for wrapper in WRAPPERS {
        let Some(inner) = outer.within(wrapper)? else { continue };
        let Some(shape) = of(&inner)? else { continue };
        // Bedrock adds its own counts to those of the model; its own are what it bills.
        let both_bedrock =
            shape == Shape::BedrockInvoke && matches!(found, Some((None, Shape::BedrockInvoke)));
        if found.is_some() && !both_bedrock {
            let rule = "must not stand beside other counts of the same call";
            return Err(UsageError::new(outer.path(wrapper), rule));
        }
        found = Some((Some(inner), shape));
    }
    found.ok_or_else(|| UsageError::new("usage", "must have a field that counts what a provider used"))
}

/// The shape of one object, if any of its fields is known.
fn of(fields: &Fields<'_>) -> Result<Option<Shape>, UsageError> {
    let has = |names: &[&str]| fields.has_any(names);
    if has(&super::otel::MARKS) {
        return Ok(Some(Shape::Otel));
    }
    if has(&super::cohere::MARKS) {
        return Ok(Some(Shape::Cohere));
    }
    if has(&super::bedrock::MARKS) {
        return Ok(Some(Shape::BedrockInvoke));
    }
    if has(&["inputTokens", "outputTokens"]) {
        return Ok(Some(Shape::BedrockConverse));
    }
    if has(&super::gemini::MARKS) {
        return Ok(Some(Shape::Gemini));
    }
    if has(&["prompt_tokens", "completion_tokens"]) {
        let embedding = fields.get("completion_tokens").is_none() && !has(&["prompt_audio_seconds"]);
        return Ok(Some(if embedding { Shape::OpenaiEmbedding } else { Shape::OpenaiChat }));
    }
    if fields.get("type") == Some("\"duration\"") && has(&["seconds"]) {
        return Ok(Some(Shape::OpenaiAudio));
    }
    if has(&["input_tokens", "output_tokens"]) {
        return of_tokens_in_and_out(fields).map(Some);
    }
    Ok(has(&["total_tokens"]).then_some(Shape::OpenaiEmbedding))
}

/// Many call them `input_tokens` and `output_tokens`; the fields beside tell who.
fn of_tokens_in_and_out(fields: &Fields<'_>) -> Result<Shape, UsageError> {
    let has = |names: &[&str]| fields.has_any(names);
    let beside = fields.part(&["cache_read_input_tokens"])?;
    let within = fields.part(&["input_tokens_details/cached_tokens", "input_token_details/cached_tokens"])?;
    if beside.value > 0 && within.value > 0 {
        let rule = format!("must not stand beside {}, which counts within input_tokens", within.at);
        return Err(UsageError::new(beside.at, rule));
    }
    let written = fields.count(&["cache_creation_input_tokens"])?.unwrap_or_default();
    if beside.value > 0 || written > 0 || has(&["output_tokens_details/thinking_tokens"]) {
        return Ok(Shape::Anthropic);
    }
    if fields.get("type") == Some("\"tokens\"") {
        return Ok(Shape::OpenaiAudio);
    }
    if has(&["input_token_details", "output_token_details"]) {
        let langchain = has(&[
            "input_token_details/cache_read",
            "input_token_details/cache_creation",
            "input_token_details/audio",
            "output_token_details/reasoning",
            "output_token_details/audio",
        ]);
        return Ok(if langchain { Shape::Langchain } else { Shape::OpenaiRealtime });
    }
    if has(&["input_tokens_details", "output_tokens_details", "prompt_tokens_details"]) {
        let picture = has(&["input_tokens_details/image_tokens", "output_tokens_details/image_tokens"])
            && !has(&["output_tokens_details/reasoning_tokens"]);
        return Ok(if picture { Shape::OpenaiImage } else { Shape::OpenaiResponses });
    }
    let anthropic = has(&[
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "cache_creation",
        "server_tool_use",
        "service_tier",
        "iterations",
    ]);
    Ok(if anthropic { Shape::Anthropic } else { Shape::Plain })
}
