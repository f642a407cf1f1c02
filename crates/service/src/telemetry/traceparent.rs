//! `traceparent`, the header of W3C Trace Context by which a caller names its trace.

use axum::http::HeaderMap;
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// The caller's trace and the span that asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceParent {
    trace: TraceId,
    span: SpanId,
    flags: TraceFlags,
}

impl TraceParent {
    /// Reads the header; one that breaks the rules, or comes twice, is as good as none.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut all = headers.get_all("traceparent").iter();
        let text = all.next()?.to_str().ok()?;
        if all.next().is_some() { None } else { Self::parse(text) }
    }

    fn parse(text: &str) -> Option<Self> {
        let hex = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // A later version may add parts; this one has none.
        let known = hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
        if !(known && hex(trace, 32) && hex(span, 16) && hex(flags, 2)) {
            return None;
        }
        let parent = Self {
            trace: TraceId::from_hex(trace).ok().filter(|id| *id != TraceId::INVALID)?,
            span: SpanId::from_hex(span).ok().filter(|id| *id != SpanId::INVALID)?,
            flags: TraceFlags::new(u8::from_str_radix(flags, 16).ok()? & TraceFlags::SAMPLED.to_u8()),
        };
        Some(parent)
    }

    /// A span of this service, for what belongs beneath it.
    #[must_use]
    pub fn of_span(span: &SpanContext) -> Self {
        Self { trace: span.trace_id(), span: span.span_id(), flags: span.trace_flags() }
    }

    /// The trace's id in hex.
    #[must_use]
    pub fn trace_id(&self) -> String {
        self.trace.to_string()
    }

    /// The span that asks, as a parent.
    #[must_use]
    pub fn context(&self) -> SpanContext {
        SpanContext::new(self.trace, self.span, self.flags, true, TraceState::NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_breaks_the_rules_is_as_good_as_none() {
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let good = format!("00-{trace}-{span}-01");
        let parent = TraceParent::parse(&good).expect("good");
        assert_eq!((parent.trace_id().as_str(), parent.context().is_sampled()), (trace, true));
        assert!(parent.context().is_remote());
        assert!(
            TraceParent::parse(&format!("01-{trace}-{span}-00-more"))
                .is_some_and(|p| !p.context().is_sampled())
        );
        for bad in [
            format!("ff-{trace}-{span}-01"),
            format!("00-{trace}-{span}-01-more"),
            format!("00-{}-{span}-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{}-{span}-01", trace.to_uppercase()),
            format!("00-{trace}-{span}"),
            format!("00-{trace}-{span}-1"),
            format!("0-{trace}-{span}-01"),
            String::new(),
        ] {
            assert_eq!(TraceParent::parse(&bad), None, "{bad}");
        }
        let mut headers = HeaderMap::new();
        headers.append("traceparent", good.parse().expect("a value"));
        assert!(TraceParent::of(&headers).is_some());
        headers.append("traceparent", good.parse().expect("a value"));
        assert!(TraceParent::of(&headers).is_none(), "twice");
    }
}
