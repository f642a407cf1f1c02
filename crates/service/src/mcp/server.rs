//! The protocol's methods over the tools; the SDK reads and writes the messages.

use super::call::{Arguments, Done};
use super::refusal::Refusal;
use super::resources::{self, KIND};
use super::tools::Tool;
use super::{Asking, Mcp, call, prompts};
use axum::http::request::Parts;
use rmcp::ErrorData;
use rmcp::handler::server::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, CustomRequest, CustomResult,
    ErrorCode, GetPromptRequestParams, GetPromptResponse, GetPromptResult, Implementation, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, PaginatedRequestParams,
    ProtocolVersion, ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, ResourceContents,
    ServerCapabilities, ServerConfig, Tool as Shown,
};
use rmcp::service::{NotificationContext, RequestContext, RoleServer};
use serde_json::json;
use serde_json::value::to_raw_value;
use std::borrow::Cow;
use std::sync::Arc;

/// The revisions of the protocol that are spoken. Older ones want batches, or another transport.
pub static REVISIONS: [ProtocolVersion; 3] =
    [ProtocolVersion::V_2025_06_18, ProtocolVersion::V_2025_11_25, ProtocolVersion::V_2026_07_28];

/// The methods whose name is right where their parameters could not be read.
const KNOWN: [&str; 9] = [
    "initialize",
    "ping",
    "tools/list",
    "tools/call",
    "resources/list",
    "resources/templates/list",
    "resources/read",
    "prompts/list",
    "prompts/get",
];

const INSTRUCTIONS: &str = "Users, their prepaid credits, usage and sessions. Before work that costs, ask credits_balance or credits_quote; where \
    the cost is known only afterwards, set credits aside with credits_hold, then credits_capture what it cost or credits_release all of it. A \
    refused tool says in `details` what to act on: `required` and `available` credits, `top_up_url`, `retry_after` in seconds. Repeat a call \
    that spends with the same idempotency_key only.";

/// How long a client may keep the list of tools, in milliseconds: as long as scopes hardly change.
const LIST_KEPT_MS: u64 = 60_000;

/// Answers one message; made anew for each.
#[derive(Clone)]
pub struct Server(Arc<Mcp>);

impl Server {
    /// One over what every message can reach.
    #[must_use]
    pub const fn over(mcp: Arc<Mcp>) -> Self {
        Self(mcp)
    }

    /// Asks what a tool stands for, as long as somebody waits for the answer: the SDK would go on without. What was
    /// given to the writer is done all the same, as everywhere.
    async fn ask(
        &self,
        context: &RequestContext<RoleServer>,
        asking: &Asking,
        tool: &Tool,
        arguments: Arguments,
    ) -> Result<Result<Done, Refusal>, ErrorData> {
        tokio::select! {
            done = self.0.ask(asking, tool, arguments) => Ok(done),
            () = context.ct.cancelled() => Err(ErrorData::internal_error("Nobody waits for the answer", None)),
        }
    }
}

/// Who sent the message; [`super::transport`] put it there.
fn asking(context: &RequestContext<RoleServer>) -> Result<&Asking, ErrorData> {
    let found = context.extensions.get::<Parts>().and_then(|parts| parts.extensions.get::<Asking>());
    found.ok_or_else(|| ErrorData::internal_error("Internal server error", None))
}

/// Every list is one page.
fn whole(asked: Option<PaginatedRequestParams>) -> Result<(), ErrorData> {
    match asked.and_then(|asked| asked.cursor) {
        None => Ok(()),
        Some(_) => Err(ErrorData::invalid_params("cursor: the list has one page", None)),
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let config = &self.0.app.config;
        let capabilities =
            ServerCapabilities::builder().enable_prompts().enable_resources().enable_tools().build();
        let version = config.app_version.clone();
        ServerConfig::new(capabilities)
            .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
            .with_server_info(
                Implementation::new("user-service", version).with_title(config.app_name.clone()),
            )
            .with_instructions(INSTRUCTIONS)
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(&REVISIONS)
    }

    fn get_tool(&self, name: &str) -> Option<Shown> {
        self.0.tools.find(name).map(|tool| tool.shown.clone())
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        whole(request)?;
        let caller = &asking(&context)?.caller;
        let may = self.0.tools.iter().filter(|tool| caller.may_call(&tool.known));
        let tools = may.map(|tool| tool.shown.clone()).collect();
        Ok(ListToolsResult::with_all_items(tools).with_ttl_ms(LIST_KEPT_MS))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let asking = asking(&context)?;
        let Some(tool) = self.0.tools.find(&request.name) else {
            let name: String = request.name.chars().take(100).collect();
            return Err(ErrorData::invalid_params(format!("Unknown tool: {name}"), None));
        };
        let done = match call::read(asking.arguments.as_deref()) {
            Ok(arguments) => self.ask(&context, asking, tool, arguments).await?,
            Err(error) => Err(Refusal::of_arguments(&error, &asking.within.outer.id)),
        };
        let result = match done {
            Ok(done) => {
                let mut result = CallToolResult::success(vec![ContentBlock::text(done.text)]);
                result.structured_content = Some(done.value);
                result
            }
            Err(refusal) => refusal.into_result(),
        };
        Ok(result.into())
    }

    async fn list_resources(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        whole(request)?;
        let own = resources::own(&self.0.tools, &asking(&context)?.caller);
        Ok(ListResourcesResult::with_all_items(own))
    }

    async fn list_resource_templates(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        whole(request)?;
        let templates = resources::templates(&self.0.tools, &asking(&context)?.caller);
        Ok(ListResourceTemplatesResult::with_all_items(templates))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let asking = asking(&context)?;
        let found = resources::named(&request.uri).and_then(|(kind, user)| {
            let user = to_raw_value(&user).ok()?;
            Some((self.0.tools.find(kind.tool)?, [("auth0_id".to_owned(), user)].into()))
        });
        let Some((tool, arguments)) = found else {
            let uri: String = request.uri.chars().take(300).collect();
            let data = json!({"uri": uri});
            return Err(ErrorData::resource_not_found(format!("There is no resource {uri}"), Some(data)));
        };
        match self.ask(&context, asking, tool, arguments).await? {
            Ok(done) => {
                let contents = ResourceContents::text(done.text, request.uri).with_mime_type(KIND);
                Ok(ReadResourceResult::new(vec![contents]).into())
            }
            Err(mut refusal) => {
                refusal.told["uri"] = request.uri.into();
                Err(refusal.into_error())
            }
        }
    }

    async fn list_prompts(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        whole(request)?;
        let caller = &asking(&context)?.caller;
        let may = self.0.tools.find(prompts::TOOL).is_some_and(|tool| caller.may_call(&tool.known));
        Ok(ListPromptsResult::with_all_items(if may { vec![prompts::why()] } else { Vec::new() }))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let asking = asking(&context)?;
        let Some(tool) = self.0.tools.find(prompts::TOOL).filter(|_| request.name == prompts::WHY) else {
            let name: String = request.name.chars().take(100).collect();
            return Err(ErrorData::invalid_params(format!("Unknown prompt: {name}"), None));
        };
        let given = request.arguments.unwrap_or_default();
        if let Some(odd) = given.keys().find(|name| !matches!(name.as_str(), "transaction_id" | "user")) {
            let odd: String = odd.chars().take(100).collect();
            return Err(ErrorData::invalid_params(format!("{odd}: is no argument of this prompt"), None));
        }
        let transaction = given.get("transaction_id").and_then(|id| id.as_str());
        let Some(transaction) = transaction.filter(|id| !id.is_empty()) else {
            return Err(ErrorData::invalid_params("transaction_id: Field required", None));
        };
        let mut arguments = Arguments::new();
        for (name, value) in
            [("transaction_id", given.get("transaction_id")), ("auth0_id", given.get("user"))]
        {
            if let Some(value) = value.and_then(|value| to_raw_value(value).ok()) {
                arguments.insert(name.to_owned(), value);
            }
        }
        match self.ask(&context, asking, tool, arguments).await? {
            Ok(done) => {
                let messages = prompts::messages(transaction, &done.value, &done.text);
                let result = GetPromptResult::new(messages);
                Ok(result.with_description(format!("Why the transaction {transaction} is what it is")).into())
            }
            Err(refusal) => Err(refusal.into_error()),
        }
    }

    async fn on_custom_request(
        &self,
        request: CustomRequest,
        context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        // The SDK takes a request whose parameters it cannot read for one that it does not know.
        let method: String = request.method.chars().take(100).collect();
        let newest = context.protocol_version().is_some_and(|spoken| !spoken.has_initialize());
        let gone = newest && matches!(method.as_str(), "initialize" | "ping");
        if KNOWN.contains(&method.as_str()) && !gone {
            return Err(ErrorData::invalid_params(format!("params: are not what {method} takes"), None));
        }
        Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, format!("There is no method {method}"), None))
    }

    async fn on_initialized(&self, _: NotificationContext<RoleServer>) {}
}
