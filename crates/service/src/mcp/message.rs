//! What is read of a message before the SDK reads it: what it is, what it names, and which revision it speaks.

use super::prompts;
use super::resources;
use super::tools::Tools;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::sync::Arc;

/// Under this name a message of the newest revision says which one it speaks.
const SPOKEN: &str = "io.modelcontextprotocol/protocolVersion";

/// The members of a message, as they were written.
#[derive(Debug, Default, Deserialize)]
pub struct Message<'a> {
    /// Always `"2.0"`.
    #[serde(borrow)]
    pub jsonrpc: Option<&'a RawValue>,
    /// Its id, where it wants an answer.
    #[serde(borrow)]
    pub id: Option<&'a RawValue>,
    /// The method.
    pub method: Option<String>,
    /// Its parameters.
    #[serde(borrow)]
    pub params: Option<&'a RawValue>,
}

/// What the parameters of any method may name.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Params {
    name: Option<Value>,
    uri: Option<Value>,
    request_id: Option<Value>,
    arguments: Option<Box<RawValue>>,
    #[serde(rename = "_meta")]
    meta: HashMap<String, Value>,
}

impl Message<'_> {
    /// The id, read.
    #[must_use]
    pub fn id(&self) -> Option<Value> {
        serde_json::from_str(self.id?.get()).ok()
    }

    /// The method, or nothing.
    #[must_use]
    pub fn method(&self) -> &str {
        self.method.as_deref().unwrap_or_default()
    }

    /// The parameters, where they can be read.
    #[must_use]
    pub fn params(&self) -> Params {
        self.params.and_then(|params| serde_json::from_str(params.get()).ok()).unwrap_or_default()
    }
}

impl Params {
    /// What a method is asked of: the tool's or the prompt's name, the resource's address.
    #[must_use]
    pub fn named(&self, method: &str) -> Option<&str> {
        match method {
            "tools/call" | "prompts/get" => self.name.as_ref()?.as_str(),
            "resources/read" => self.uri.as_ref()?.as_str(),
            _ => None,
        }
    }

    /// The revision that the message itself says it speaks.
    #[must_use]
    pub fn spoken(&self) -> Option<&str> {
        self.meta.get(SPOKEN)?.as_str()
    }

    /// The id of the message that this one cancels.
    #[must_use]
    pub const fn cancelled(&self) -> Option<&Value> {
        self.request_id.as_ref()
    }

    /// The arguments of a tool.
    #[must_use]
    pub fn into_arguments(self) -> Option<Arc<RawValue>> {
        self.arguments.map(Arc::from)
    }

    /// Whether the message stands for an operation that is counted as what it is.
    #[must_use]
    pub fn stands_for_an_operation(&self, method: &str, tools: &Tools) -> bool {
        let counted = |tool: &str| tools.find(tool).is_some_and(|tool| tool.known.class.authenticated());
        match (method, self.named(method)) {
            ("tools/call", Some(name)) => counted(name),
            ("prompts/get", Some(name)) => name == prompts::WHY,
            ("resources/read", Some(uri)) => resources::named(uri).is_some(),
            _ => false,
        }
    }
}
