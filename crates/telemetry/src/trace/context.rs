//! Trace context on the wire: `traceparent` and `tracestate` (W3C), and `grpc-trace-bin` (OpenCensus),
//! which gRPC clients of Dapr still send and expect.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Header of the W3C trace parent.
pub const TRACEPARENT: &str = "traceparent";
/// Header of the W3C trace state.
pub const TRACESTATE: &str = "tracestate";
/// Metadata key of the binary form.
pub const GRPC_TRACE_BIN: &str = "grpc-trace-bin";

/// Where a span stands: its trace, itself, whether it is sampled, and what vendors added.
/// Neither id is ever all zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
    state: Option<Arc<str>>,
}

impl TraceContext {
    /// A context of these parts; `None` when an id is all zero.
    #[must_use]
    pub fn new(trace_id: [u8; 16], span_id: [u8; 8], sampled: bool) -> Option<Self> {
        let valid = trace_id != [0; 16] && span_id != [0; 8];
        valid.then_some(TraceContext {
            trace_id,
            span_id,
            flags: u8::from(sampled),
            state: None,
        })
    }

    /// Parses a `traceparent`. Versions up to 254 are taken by their first four fields, since later
    /// ones may only append.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split('-');
        let version = lower_hex::<1>(fields.next()?)?[0];
        let trace_id = lower_hex::<16>(fields.next()?)?;
        let span_id = lower_hex::<8>(fields.next()?)?;
        let flags = hex::decode(fields.next()?).ok()?;
        if version > MAX_VERSION || (version == 0 && fields.next().is_some()) {
            return None;
        }
        let mut context = TraceContext::new(trace_id, span_id, false)?;
        context.flags = *flags.first()?;
        Some(context)
    }

    /// The same with a `tracestate`; an invalid one counts as none.
    #[must_use]
    pub fn with_state(mut self, text: &str) -> Self {
        self.state = parse_state(text);
        self
    }

    /// The context in HTTP headers.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let context = TraceContext::parse(text(headers, TRACEPARENT)?)?;
        Some(match text(headers, TRACESTATE) {
            Some(state) => context.with_state(state),
            None => context,
        })
    }

    /// The context in gRPC metadata: the binary form if it is there, else as in HTTP.
    #[must_use]
    pub fn from_grpc(headers: &HeaderMap) -> Option<Self> {
        match text(headers, GRPC_TRACE_BIN) {
            Some(encoded) => {
                let encoded = encoded.trim_end_matches('=');
                TraceContext::from_binary(&STANDARD_NO_PAD.decode(encoded).ok()?)
            }
            None => TraceContext::from_headers(headers),
        }
    }

    /// Parses the binary form. A missing span id is an error here, because nothing could follow it.
    #[must_use]
    pub fn from_binary(bytes: &[u8]) -> Option<Self> {
        // Version 0, then fields by number: 0 trace id, 1 span id, 2 flags.
        let rest = bytes.strip_prefix(&[0, 0])?;
        let (trace_id, rest) = rest.split_first_chunk::<16>()?;
        let (span_id, rest) = rest.strip_prefix(&[1])?.split_first_chunk::<8>()?;
        let mut context = TraceContext::new(*trace_id, *span_id, false)?;
        if let [2, flags, ..] = rest {
            context.flags = *flags;
        }
        Some(context)
    }

    /// The binary form, without the trace state.
    #[must_use]
    pub fn to_binary(&self) -> [u8; 29] {
        let mut bytes = [0; 29];
        bytes[2..18].copy_from_slice(&self.trace_id);
        bytes[18] = 1;
        bytes[19..27].copy_from_slice(&self.span_id);
        bytes[27] = 2;
        bytes[28] = self.flags;
        bytes
    }

    /// The binary form as metadata carries it.
    #[must_use]
    pub fn to_grpc_trace_bin(&self) -> HeaderValue {
        HeaderValue::from_str(&STANDARD.encode(self.to_binary())).expect("base64 is ASCII")
    }

    /// The `traceparent` text, always of version 0.
    #[must_use]
    pub fn traceparent(&self) -> String {
        let mut text = String::with_capacity(55);
        let _ = write!(
            text,
            "00-{}-{}-{:02x}",
            self.trace_id(),
            self.span_id(),
            self.flags
        );
        text
    }

    /// The `tracestate` text, if there is one short enough to send on (512 bytes).
    #[must_use]
    pub fn tracestate(&self) -> Option<&str> {
        self.state
            .as_deref()
            .filter(|state| state.len() <= MAX_STATE)
    }

    /// Writes `traceparent` and `tracestate`, replacing what is there.
    pub fn inject(&self, headers: &mut HeaderMap) {
        let parent = HeaderValue::from_str(&self.traceparent()).expect("hex is ASCII");
        headers.insert(HeaderName::from_static(TRACEPARENT), parent);
        match self
            .tracestate()
            .and_then(|state| HeaderValue::from_str(state).ok())
        {
            Some(state) => headers.insert(HeaderName::from_static(TRACESTATE), state),
            None => headers.remove(TRACESTATE),
        };
    }

    /// Writes all three forms, for gRPC metadata (`tonic`'s converts to and from headers).
    pub fn inject_grpc(&self, headers: &mut HeaderMap) {
        headers.insert(
            HeaderName::from_static(GRPC_TRACE_BIN),
            self.to_grpc_trace_bin(),
        );
        self.inject(headers);
    }

    /// The trace id in hex.
    #[must_use]
    pub fn trace_id(&self) -> String {
        hex::encode(self.trace_id)
    }

    /// The span id in hex.
    #[must_use]
    pub fn span_id(&self) -> String {
        hex::encode(self.span_id)
    }

    /// Whether the trace is recorded.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    pub(super) fn trace_id_bytes(&self) -> [u8; 16] {
        self.trace_id
    }

    /// The span id.
    #[must_use]
    pub fn span_id_bytes(&self) -> [u8; 8] {
        self.span_id
    }

    pub(super) fn flags(&self) -> u8 {
        self.flags
    }

    /// The context of a new span below this one.
    pub(super) fn child(&self, span_id: [u8; 8], sampled: bool) -> Self {
        let flags = if sampled {
            self.flags | SAMPLED
        } else {
            self.flags & !SAMPLED
        };
        TraceContext {
            trace_id: self.trace_id,
            span_id,
            flags,
            state: self.state.clone(),
        }
    }
}

/// The `traceparent` of no trace. It is invalid on purpose: whoever gets it begins a trace of its own.
const NO_PARENT: HeaderValue =
    HeaderValue::from_static("00-00000000000000000000000000000000-0000000000000000-00");

/// Says that there is no trace, in place of what headers say of one.
pub fn inject_none(headers: &mut HeaderMap) {
    headers.remove(GRPC_TRACE_BIN);
    headers.remove(TRACESTATE);
    headers.insert(HeaderName::from_static(TRACEPARENT), NO_PARENT);
}

/// The binary form of no trace, beside a `traceparent` that says so.
pub fn inject_none_grpc(headers: &mut HeaderMap) {
    if headers.get(TRACEPARENT) == Some(&NO_PARENT) {
        let mut none = [0; 29];
        (none[18], none[27]) = (1, 2);
        let none = HeaderValue::from_str(&STANDARD.encode(none)).expect("base64 is ASCII");
        headers.insert(HeaderName::from_static(GRPC_TRACE_BIN), none);
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get(name)?
        .to_str()
        .ok()
        .filter(|text| !text.is_empty())
}

fn lower_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let lower = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let mut bytes = [0; N];
    (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

/// Checks a trace state as a whole: one bad member spoils it, as the specification asks.
fn parse_state(text: &str) -> Option<Arc<str>> {
    let mut seen = HashSet::new();
    let mut members = Vec::new();
    for member in text.split(',') {
        let member = member.trim_matches([' ', '\t']);
        if member.is_empty() {
            continue;
        }
        let (key, value) = member.split_once('=')?;
        if !state_key(key)
            || !state_value(value)
            || !seen.insert(key)
            || members.len() == MAX_MEMBERS
        {
            return None;
        }
        members.push(member);
    }
    (!members.is_empty()).then(|| members.join(",").into())
}

fn state_key(key: &str) -> bool {
    let rest = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/');
    let part = |part: &str, digit_first: bool, max: usize| {
        let first = part.bytes().next();
        let starts =
            first.is_some_and(|b| b.is_ascii_lowercase() || (digit_first && b.is_ascii_digit()));
        starts && part.len() <= max && part.bytes().all(rest)
    };
    match key.split_once('@') {
        Some((tenant, system)) => part(tenant, true, 241) && part(system, false, 14),
        None => part(key, true, 256),
    }
}

fn state_value(value: &str) -> bool {
    let inner = |b: u8| matches!(b, 0x20..=0x7e) && b != b',' && b != b'=';
    (1..=256).contains(&value.len()) && value.bytes().all(inner) && !value.ends_with(' ')
}

const SAMPLED: u8 = 1;

/// Version 255 is reserved as invalid.
const MAX_VERSION: u8 = 254;

/// A longer trace state is not sent on.
const MAX_STATE: usize = 512;

/// Members of a trace state.
const MAX_MEMBERS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn traceparent_round_trip() {
        let context = TraceContext::parse(PARENT).unwrap();
        assert_eq!(context.traceparent(), PARENT);
        assert!(context.is_sampled());
        assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.span_id(), "00f067aa0ba902b7");
        let later = PARENT.replacen("00", "cc", 1) + "-what-comes";
        assert_eq!(TraceContext::parse(&later).unwrap().traceparent(), PARENT);
    }

    #[test]
    fn bad_traceparents() {
        for bad in [
            "",
            "x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473\u{e9}-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn binary_round_trip() {
        let context = TraceContext::parse(PARENT).unwrap();
        let bytes = context.to_binary();
        assert_eq!(bytes[..3], [0, 0, 0x4b]);
        assert_eq!((bytes[18], bytes[27], bytes[28]), (1, 2, 1));
        assert_eq!(TraceContext::from_binary(&bytes), Some(context.clone()));
        assert!(
            !TraceContext::from_binary(&bytes[..27])
                .unwrap()
                .is_sampled()
        );
        for end in 0..27 {
            assert_eq!(TraceContext::from_binary(&bytes[..end]), None, "{end}");
        }
        let mut headers = HeaderMap::new();
        context.inject_grpc(&mut headers);
        assert_eq!(TraceContext::from_grpc(&headers), Some(context.clone()));
        headers.remove(GRPC_TRACE_BIN);
        assert_eq!(TraceContext::from_grpc(&headers), Some(context));
        headers.insert(GRPC_TRACE_BIN, "!".parse().unwrap());
        assert_eq!(TraceContext::from_grpc(&headers), None);
    }

    #[test]
    fn no_trace_is_told_and_understood() {
        let mut headers = HeaderMap::new();
        TraceContext::parse(PARENT)
            .unwrap()
            .with_state("a=b")
            .inject_grpc(&mut headers);
        inject_none(&mut headers);
        assert_eq!(headers.len(), 1, "{headers:?}");
        inject_none_grpc(&mut headers);
        assert_eq!(TraceContext::from_grpc(&headers), None);
        headers.remove(GRPC_TRACE_BIN).expect("the binary form");
        assert_eq!(TraceContext::from_grpc(&headers), None);
        TraceContext::parse(PARENT).unwrap().inject(&mut headers);
        inject_none_grpc(&mut headers);
        assert!(headers.get(GRPC_TRACE_BIN).is_none());
    }

    #[test]
    fn states() {
        let state = |text: &str| {
            TraceContext::parse(PARENT)
                .unwrap()
                .with_state(text)
                .tracestate()
                .map(str::to_owned)
        };
        assert_eq!(state("foo=1, bar=2,").as_deref(), Some("foo=1,bar=2"));
        assert_eq!(state("0t@sys=a b").as_deref(), Some("0t@sys=a b"));
        let long = format!("a={}", "x".repeat(256));
        for bad in [
            "",
            "foo",
            "foo=",
            "Foo=1",
            "foo=1,foo=2",
            "t@0=1",
            "a=b=c",
            &format!("{long}x"),
        ] {
            assert_eq!(state(bad), None, "{bad}");
        }
        let many = |n: usize| {
            (0..n)
                .map(|i| format!("k{i}=v"))
                .collect::<Vec<_>>()
                .join(",")
        };
        assert!(state(&many(32)).is_some());
        assert!(state(&many(33)).is_none());
        let too_long = format!("{long},b{long},c{long}");
        assert_eq!(state(&too_long), None);
    }

    #[test]
    fn headers() {
        let context = TraceContext::parse(PARENT).unwrap().with_state("a=b");
        let mut headers = HeaderMap::new();
        context.inject(&mut headers);
        assert_eq!(TraceContext::from_headers(&headers), Some(context.clone()));
        context.with_state("").inject(&mut headers);
        assert!(headers.get(TRACESTATE).is_none());
        assert!(TraceContext::from_headers(&HeaderMap::new()).is_none());
    }
}
