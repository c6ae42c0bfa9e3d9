//! Headers of an invocation: what is added for the callee, what is dropped between hops, and what goes with them in messages.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use peers::metadata::{self, DESTINATION_APP_ID, Metadata};
use proto::internals::v1::ListStringValue;
use security::SpiffeId;
use telemetry::trace::{GRPC_TRACE_BIN, TRACEPARENT, TRACESTATE};
use transport::remove_hop_by_hop;

const CALLER_APP_ID: HeaderName = HeaderName::from_static("dapr-caller-app-id");
const CALLER_NAMESPACE: HeaderName = HeaderName::from_static("dapr-caller-namespace");
pub const CALLEE_APP_ID: HeaderName = HeaderName::from_static("dapr-callee-app-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What this sidecar says of itself in every call.
pub struct CallerHeaders {
    app_id: HeaderValue,
    namespace: HeaderValue,
    address: Option<HeaderValue>,
    host_name: Option<HeaderValue>,
    forwarded: Option<HeaderValue>,
}

impl CallerHeaders {
    pub fn new(app_id: &str, namespace: &str, address: &str, host_name: &str) -> Self {
        let value = |text: &str| HeaderValue::from_str(text).ok().filter(|v| !v.is_empty());
        let mut parts = Vec::new();
        if !address.is_empty() {
            // IPv6 addresses stand in quotes and brackets (RFC 7239).
            let node = if address.contains(':') {
                format!("\"[{address}]\"")
            } else {
                address.to_owned()
            };
            parts.push(format!("for={node};by={node}"));
        }
        if !host_name.is_empty() {
            parts.push(format!("host={host_name}"));
        }
        Self {
            app_id: value(app_id).unwrap_or(HeaderValue::from_static("")),
            namespace: value(namespace).unwrap_or(HeaderValue::from_static("")),
            address: value(address),
            host_name: value(host_name),
            forwarded: value(&parts.join(";")),
        }
    }

    /// Says who calls whom; what the caller's app claims is overwritten.
    pub fn identify(&self, headers: &mut HeaderMap, callee: &str) {
        headers.insert(CALLER_APP_ID, self.app_id.clone());
        headers.insert(CALLER_NAMESPACE, self.namespace.clone());
        if let Ok(callee) = HeaderValue::from_str(callee) {
            headers.insert(CALLEE_APP_ID, callee);
        }
    }

    /// Says through whom the call comes, where it leaves this sidecar for another.
    pub fn forward(&self, headers: &mut HeaderMap) {
        for (name, value) in [
            (FORWARDED_FOR, &self.address),
            (FORWARDED_HOST, &self.host_name),
            (header::FORWARDED, &self.forwarded),
        ] {
            if let Some(value) = value {
                headers.append(name, value.clone());
            }
        }
    }
}

/// Says who calls as the connection proved it, whatever the message claims. Q-caller-identity
pub fn name_caller(headers: &mut HeaderMap, id: &SpiffeId) {
    for (name, text) in [
        (CALLER_APP_ID, id.app_id()),
        (CALLER_NAMESPACE, id.namespace()),
    ] {
        headers.remove(&name);
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(name, value);
        }
    }
}

/// Drops what concerns one connection of a gRPC request; `te` belongs to gRPC itself.
pub fn remove_connection(headers: &mut HeaderMap) {
    let te = headers.remove(header::TE);
    remove_hop_by_hop(headers);
    if let Some(te) = te {
        headers.insert(header::TE, te);
    }
}

/// Metadata of a gRPC call as headers of the invocation: what belongs to the call itself stays behind.
pub fn from_call(mut metadata: HeaderMap) -> HeaderMap {
    let own: Vec<HeaderName> = metadata
        .keys()
        .filter(|name| {
            let name = name.as_str();
            name.starts_with("grpc-") && name != GRPC_TRACE_BIN || OF_CALL.contains(&name)
        })
        .cloned()
        .collect();
    for name in own {
        metadata.remove(name);
    }
    remove_hop_by_hop(&mut metadata);
    metadata
}

/// Drops binary metadata, which HTTP has no place for.
pub fn remove_binary(headers: &mut HeaderMap) {
    let binary: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().ends_with("-bin"))
        .cloned()
        .collect();
    for name in binary {
        headers.remove(name);
    }
}

/// Headers of an HTTP app's answer as metadata of a gRPC one. Names that HTTP itself gives a meaning to get a prefix.
pub fn into_call(headers: &HeaderMap) -> HeaderMap {
    let mut metadata = HeaderMap::with_capacity(headers.len() + 1);
    for (name, value) in headers {
        let text = name.as_str();
        if text == "content-length" || text.starts_with("grpc-") || OF_TRACE.contains(&text) {
            continue;
        }
        let name = if PERMANENT.contains(&text) {
            HeaderName::from_bytes(format!("dapr-{text}").as_bytes()).unwrap_or(name.clone())
        } else {
            name.clone()
        };
        metadata.append(name, value.clone());
    }
    metadata
}

/// Metadata that says how a gRPC call travels.
const OF_CALL: [&str; 6] = [
    "content-type",
    "content-length",
    "te",
    "host",
    "user-agent",
    "accept-encoding",
];

const OF_TRACE: [&str; 2] = [TRACEPARENT, TRACESTATE];

/// Headers of the permanent registry that an app may answer with (contract 2.3).
const PERMANENT: [&str; 20] = [
    "accept",
    "accept-charset",
    "accept-language",
    "accept-ranges",
    "cache-control",
    "content-type",
    "cookie",
    "date",
    "expect",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "max-forwards",
    "origin",
    "pragma",
    "referer",
    "via",
    "warning",
];

/// Headers as they travel inside a message, which says whom it is for.
pub fn into_metadata(headers: &HeaderMap, callee: &str) -> Metadata {
    let mut metadata = from_headers(headers);
    let callee = ListStringValue {
        values: vec![callee.to_owned()],
    };
    metadata.insert(DESTINATION_APP_ID.to_owned(), callee);
    metadata
}

/// Headers as they travel inside a message.
pub fn from_headers(headers: &HeaderMap) -> Metadata {
    metadata::from_headers(headers, |name| name.as_str().to_owned())
}

/// Name of the header that says who calls.
pub fn caller_app_id(metadata: &Metadata) -> &str {
    metadata::value(metadata, &CALLER_APP_ID).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_of_the_app_are_overwritten() {
        let mut headers = HeaderMap::new();
        headers.insert(CALLER_APP_ID, HeaderValue::from_static("spoofed"));
        let own = CallerHeaders::new("me", "ns", "10.0.0.1", "host");
        own.identify(&mut headers, "you");
        assert!(!headers.contains_key("forwarded"));
        own.forward(&mut headers);
        assert_eq!(headers["dapr-caller-app-id"], "me");
        assert_eq!(headers["dapr-caller-namespace"], "ns");
        assert_eq!(headers["dapr-callee-app-id"], "you");
        assert_eq!(headers["forwarded"], "for=10.0.0.1;by=10.0.0.1;host=host");
    }

    #[test]
    fn the_connection_says_who_calls() {
        let mut headers = HeaderMap::new();
        headers.append(CALLER_APP_ID, HeaderValue::from_static("claimed"));
        headers.append(CALLER_APP_ID, HeaderValue::from_static("again"));
        let id: SpiffeId = "spiffe://td/ns/shop/caller".parse().unwrap();
        name_caller(&mut headers, &id);
        assert_eq!(headers.get_all(CALLER_APP_ID).iter().count(), 1);
        assert_eq!(headers["dapr-caller-app-id"], "caller");
        assert_eq!(headers["dapr-caller-namespace"], "shop");
    }

    #[test]
    fn metadata_of_the_call_itself_is_no_header_of_the_invocation() {
        let mut metadata = HeaderMap::new();
        for name in ["grpc-timeout", "te", "user-agent", "content-type"] {
            metadata.insert(name, HeaderValue::from_static("v"));
        }
        metadata.insert("x-app", HeaderValue::from_static("v"));
        let mut headers = from_call(metadata);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["x-app"]);
        headers.insert("x-bin", HeaderValue::from_static("v"));
        remove_binary(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["x-app"]);
    }

    #[test]
    fn an_answers_own_headers_are_told_from_those_of_grpc() {
        let mut headers = HeaderMap::new();
        for name in ["content-type", "content-length", "server", "traceparent"] {
            headers.insert(name, HeaderValue::from_static("v"));
        }
        let metadata = into_call(&headers);
        let mut names: Vec<_> = metadata.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["dapr-content-type", "server"]);
    }
}
