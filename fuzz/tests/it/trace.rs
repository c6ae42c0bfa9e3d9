//! Headers of traces: of HTTP, of gRPC, and baggage.

use std::str::from_utf8;

use telemetry::trace::{Baggage, TraceContext};

#[test]
fn trace_context() {
    fuzz::run("trace_context", |input| {
        if let Some(context) = TraceContext::from_binary(input) {
            let again = TraceContext::from_binary(&context.to_binary());
            let again = again.expect("what we send can be read");
            assert_eq!(again.traceparent(), context.traceparent());
        }
        let Ok(text) = from_utf8(input) else { return };
        let mut lines = text.lines();
        let (parent, state) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
        let Some(context) = TraceContext::parse(parent) else {
            return;
        };
        let context = context.with_state(state);
        let mut headers = http::HeaderMap::new();
        context.inject(&mut headers);
        let again = TraceContext::from_headers(&headers).expect("what we send can be read");
        assert_eq!(again.traceparent(), context.traceparent());
        assert_eq!(again.tracestate(), context.tracestate());
        context.inject_grpc(&mut headers);
        assert!(TraceContext::from_grpc(&headers).is_some());
    });
}

#[test]
fn baggage() {
    fuzz::run("baggage", |input| {
        let Ok(text) = from_utf8(input) else { return };
        if let Ok(baggage) = Baggage::parse(text) {
            let again = Baggage::parse(baggage.as_str()).expect("what we send can be read");
            assert_eq!(again.as_str(), baggage.as_str());
        }
        if let Ok(value) = http::HeaderValue::from_bytes(input) {
            let headers = [(http::HeaderName::from_static("baggage"), value)];
            let _ = Baggage::from_headers(&headers.into_iter().collect());
        }
    });
}
