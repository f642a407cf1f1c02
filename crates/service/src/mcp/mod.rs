//! Tools for agents: the Model Context Protocol at `/mcp`, and over standard input and output.
//!
//! What always holds:
//! - A tool stands for one operation of the REST API ([`table`]). Calling it builds that operation's request and hands it
//!   to the service's own routes, in this process: who may, what is valid, what is kept under a key and what the
//!   audit log says is decided by the same code, and written nowhere else.
//! - What a tool takes and answers is derived from the OpenAPI document ([`schema`]).
//! - Every message is counted once: as the operation that it stands for, or else as one read.
//! - Nothing is remembered between two messages, so any replica may answer the next one.
//!
//! Reading order: [`table`] (the tools), [`schema`], [`tools`] (the two together), [`call`] (from arguments to a request),
//! [`refusal`] (what an agent hears when it is refused), [`server`] (the protocol's methods), [`resources`], [`prompts`],
//! [`message`] (what is read before), [`transport`] (`/mcp`), [`guard`] (who may call from a browser), [`stdio`] and [`command`].
//! `docs/mcp.md` is for whoever connects an agent; `docs/decisions/0024-mcp.md` says why it is so.

pub mod call;
pub mod command;
pub mod guard;
pub mod message;
pub mod prompts;
pub mod refusal;
pub mod resources;
pub mod schema;
pub mod server;
pub mod stdio;
pub mod table;
pub mod tools;
pub mod transport;

use crate::app::App;
use crate::auth::grants::Caller;
use crate::http::Within;
use axum::Router;
use axum::http::HeaderMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use serde_json::value::RawValue;
use std::sync::Arc;
use tools::Tools;
use utoipa::openapi::OpenApi;

/// Where messages are taken over HTTP.
pub const ROUTE: &str = "/mcp";

/// What the addresses of requests and resources leave as it is.
const PLAIN: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What every message can reach.
pub struct Mcp {
    app: Arc<App>,
    /// The routes of the API with what is around each of them.
    routes: Router,
    tools: Tools,
}

impl Mcp {
    /// The tools over these routes, which the document describes.
    #[must_use]
    pub fn new(app: Arc<App>, routes: Router, document: &OpenApi) -> Arc<Self> {
        let tools = Tools::of(document, &app.operations);
        Arc::new(Self { app, routes, tools })
    }
}

/// Who sent a message, and with what.
#[derive(Debug, Clone)]
pub struct Asking {
    /// Who.
    pub caller: Caller,
    /// How it proves who it is; the request that a tool makes carries the same.
    pub credentials: HeaderMap,
    /// The message's own request.
    pub within: Within,
    /// The arguments of a tool as they were written, so that a decimal number keeps all its places.
    pub arguments: Option<Arc<RawValue>>,
}
