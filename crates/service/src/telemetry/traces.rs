//! Traces by OTLP: a span for each request, and beneath it one for each wait that may be long.
//!
//! Off by default, and then a request costs one look at a setting and each wait one at a task's own slot. On, spans
//! wait in a bounded queue for a thread of their own: a collector that is slow or gone costs spans, never time.
//! Spans say what was done (route template, method, status, kind of principal), never for whom.

use super::TelemetryError;
use super::traceparent::TraceParent;
use crate::config::{Config, TraceSettings};
use crate::measure;
use axum::http::{Request, Response};
use bytes::Bytes;
use kernel::Clock;
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _,
    TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider,
};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;

/// How many spans wait for the collector; beyond, new ones are dropped.
const QUEUE_MAX: usize = 4_096;
/// How many go out together.
const BATCH_MAX: usize = 512;
/// How long spans are gathered.
const EVERY: Duration = Duration::from_secs(2);
/// How long the collector may take to answer, and a stop waits for the last spans.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most bytes that go out in one request.
const EXPORT_MAX_BYTES: usize = 4 << 20;

tokio::task_local! {
    /// The request that a task works for, where it is traced.
    static CURRENT: Arc<Trace>;
}

/// Where spans go.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    clock: Clock,
}

/// The trace of one request.
#[derive(Debug)]
pub struct Trace {
    tracer: SdkTracer,
    /// What child spans hang on.
    context: Context,
    began: (Instant, SystemTime),
}

/// The span of a request; it ends with [`RequestSpan::end`], or unanswered when it is dropped.
#[derive(Debug)]
pub struct RequestSpan {
    span: opentelemetry_sdk::trace::Span,
    trace: Arc<Trace>,
}

impl Traces {
    /// The way to the collector that the settings name; nothing is asked of it yet.
    ///
    /// # Errors
    /// [`TelemetryError::Traces`] when no client can be made.
    pub fn start(config: &Config, clock: &Clock) -> Result<Option<Self>, TelemetryError> {
        let Some(settings) = &config.traces else { return Ok(None) };
        let failed = |error: &dyn std::fmt::Display| TelemetryError::Traces(error.to_string());
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(PATIENCE);
        let client = client.build().map_err(|error| failed(&error))?;
        let carrier = Carrier { client, runtime: Handle::current(), failing: Arc::default() };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(carrier)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", settings.endpoint))
            .with_headers(
                settings
                    .headers
                    .iter()
                    .map(|(name, value)| (name.clone(), value.expose().to_owned()))
                    .collect(),
            )
            .with_timeout(PATIENCE)
            .with_max_request_body_size(EXPORT_MAX_BYTES)
            .build()
            .map_err(|error| failed(&error))?;
        Ok(Some(Self::over(exporter, settings, config, clock)))
    }

    fn over(exporter: SpanExporter, settings: &TraceSettings, config: &Config, clock: &Clock) -> Self {
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_MAX)
            .with_max_export_batch_size(BATCH_MAX)
            .with_scheduled_delay(EVERY)
            .build();
        let resource = Resource::builder_empty().with_attributes([
            KeyValue::new("service.name", settings.service_name.clone()),
            KeyValue::new("service.version", config.app_version.clone()),
            KeyValue::new("deployment.environment.name", config.environment.as_str()),
        ]);
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.ratio)));
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batches).build())
            .with_sampler(sampler)
            .with_resource(resource.build())
            .build();
        Self { tracer: provider.tracer("user-service"), provider, clock: clock.clone() }
    }

    /// Begins the span of a request, beneath the caller's where it names one.
    #[must_use]
    pub fn begin(&self, method: &'static str, route: &str, parent: Option<&TraceParent>) -> RequestSpan {
        let micros = u64::try_from(self.clock.now().micros()).unwrap_or(0);
        let began = (Instant::now(), UNIX_EPOCH + Duration::from_micros(micros));
        let parent = parent
            .map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent.context()));
        let attributes =
            vec![KeyValue::new("http.request.method", method), KeyValue::new("http.route", route.to_owned())];
        let builder = SpanBuilder::from_name(format!("{method} {route}"))
            .with_kind(SpanKind::Server)
            .with_start_time(began.1)
            .with_attributes(attributes);
        let span = self.tracer.build_with_context(builder, &parent);
        let of = span.span_context();
        let of =
            SpanContext::new(of.trace_id(), of.span_id(), of.trace_flags(), false, of.trace_state().clone());
        let context = Context::new().with_remote_span_context(of);
        RequestSpan { span, trace: Arc::new(Trace { tracer: self.tracer.clone(), context, began }) }
    }

    /// Sends what waits, for five seconds at most.
    pub async fn finish(&self) {
        let provider = self.provider.clone();
        let sent = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(PATIENCE)).await;
        if !matches!(sent, Ok(Ok(()))) {
            tracing::warn!("the last spans did not reach the collector");
        }
    }
}

impl RequestSpan {
    /// The trace, for whatever works for the request.
    #[must_use]
    pub fn trace(&self) -> Arc<Trace> {
        Arc::clone(&self.trace)
    }

    /// The trace's id in hex.
    #[must_use]
    pub fn trace_id(&self) -> String {
        self.span.span_context().trace_id().to_string()
    }

    /// The span as a header: what the caller may call the request.
    #[must_use]
    pub fn traceparent(&self) -> String {
        let of = self.span.span_context();
        format!("00-{}-{}-{:02x}", of.trace_id(), of.span_id(), of.trace_flags().to_u8())
    }

    /// Ends the span with what the request was answered with.
    pub fn end(mut self, status: u16, principal: &'static str, error_code: Option<&'static str>) {
        self.span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        self.span.set_attribute(KeyValue::new("user_service.principal", principal));
        if let Some(code) = error_code {
            self.span.set_attribute(KeyValue::new("error.type", code));
        }
        if status >= 500 {
            self.span.set_status(Status::error(error_code.unwrap_or("failed")));
        }
        let end = self.trace.at(Instant::now());
        self.span.end_with_timestamp(end);
    }
}

impl Trace {
    /// Runs what works for the request, so that its waits become spans of the trace.
    pub fn scope<F: Future>(self: Arc<Self>, work: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, work)
    }

    fn at(&self, instant: Instant) -> SystemTime {
        let (began, at) = self.began;
        at + instant.saturating_duration_since(began)
    }

    fn add(&self, name: &'static str, from: Instant, to: Instant, attributes: Vec<KeyValue>) {
        let builder = SpanBuilder::from_name(name)
            .with_kind(SpanKind::Internal)
            .with_start_time(self.at(from))
            .with_attributes(attributes);
        self.tracer.build_with_context(builder, &self.context).end_with_timestamp(self.at(to));
    }
}

/// The id in hex of the trace that this task works for, while traces are on.
#[must_use]
pub fn current_id() -> Option<String> {
    let id = |trace: &Arc<Trace>| trace.context.span().span_context().trace_id().to_string();
    CURRENT.try_with(id).ok()
}

/// The span of the request that this task works for, while traces are on.
#[must_use]
pub fn current() -> Option<TraceParent> {
    CURRENT.try_with(|trace| TraceParent::of_span(trace.context.span().span_context())).ok()
}

/// A wait that becomes a span when this is dropped, where the task works for a traced request.
#[derive(Debug)]
#[must_use]
pub struct Wait(Option<(Arc<Trace>, &'static str, Instant, Vec<KeyValue>)>);

/// Begins a wait, with what is said of it; `attributes` runs for traced requests only.
pub fn wait<const N: usize>(name: &'static str, attributes: impl FnOnce() -> [KeyValue; N]) -> Wait {
    let traced =
        CURRENT.try_with(|trace| trace.context.span().span_context().is_sampled().then(|| Arc::clone(trace)));
    Wait(traced.ok().flatten().map(|trace| (trace, name, Instant::now(), attributes().into())))
}

impl Drop for Wait {
    fn drop(&mut self) {
        if let Some((trace, name, began, attributes)) = self.0.take() {
            trace.add(name, began, Instant::now(), attributes);
        }
    }
}

/// A wait for the writer that is over: first in the queue, then for the batch that began at that instant.
pub fn written(queued: Instant, began: Instant) {
    let _ = CURRENT.try_with(|trace| {
        if trace.context.span().span_context().is_sampled() {
            trace.add("writer.queue", queued, began, Vec::new());
            trace.add("writer.commit", began, Instant::now(), Vec::new());
        }
    });
}

/// Carries spans to the collector on the service's own runtime, with its one TLS library.
#[derive(Debug)]
struct Carrier {
    client: reqwest::Client,
    runtime: Handle,
    /// Whether the last try failed, so that the log says it once.
    failing: Arc<AtomicBool>,
}

type Sent<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl HttpClient for Carrier {
    fn send_bytes<'client, 'sent>(&'client self, request: Request<Bytes>) -> Sent<'sent>
    where
        'client: 'sent,
        Self: 'sent,
    {
        let (client, failing) = (self.client.clone(), Arc::clone(&self.failing));
        let sent = self.runtime.spawn(async move {
            let (parts, body) = request.into_parts();
            let asked = client.post(parts.uri.to_string()).headers(parts.headers).body(body);
            // The answer's body says nothing that matters, and might have no end.
            let status = asked.send().await.map(|answer| answer.status());
            let fine = status.as_ref().is_ok_and(reqwest::StatusCode::is_success);
            measure::trace_export(fine);
            if failing.swap(!fine, Ordering::Relaxed) == fine {
                if fine {
                    tracing::info!("spans reach the collector again");
                } else {
                    tracing::warn!("spans do not reach the collector; they are dropped until they do");
                }
            }
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = status.map_err(reqwest::Error::without_url)?;
            Ok(response)
        });
        Box::pin(async move { sent.await? })
    }
}
