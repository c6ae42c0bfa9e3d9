//! Headers of an invocation: what is added for the callee, what is dropped between hops, and how both travel in messages.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use proto::internals::v1::ListStringValue;

/// Headers that concern one connection only (RFC 9110 7.6.1, contract 2.3).
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "te",
    "trailer",
    "proxy-authorization",
    "proxy-authenticate",
];

const CALLER_APP_ID: HeaderName = HeaderName::from_static("dapr-caller-app-id");
const CALLER_NAMESPACE: HeaderName = HeaderName::from_static("dapr-caller-namespace");
const CALLEE_APP_ID: HeaderName = HeaderName::from_static("dapr-callee-app-id");
const DESTINATION_APP_ID: &str = "destination-app-id";
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What this sidecar says of itself in every call.
pub struct Own {
    app_id: HeaderValue,
    namespace: HeaderValue,
    address: Option<HeaderValue>,
    host_name: Option<HeaderValue>,
    forwarded: Option<HeaderValue>,
}

impl Own {
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
    pub fn add(&self, headers: &mut HeaderMap, callee: &str) {
        headers.insert(CALLER_APP_ID, self.app_id.clone());
        headers.insert(CALLER_NAMESPACE, self.namespace.clone());
        if let Ok(callee) = HeaderValue::from_str(callee) {
            headers.insert(CALLEE_APP_ID, callee);
        }
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

/// Drops what concerns one connection, and the headers that `Connection` names.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
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

/// Headers as they travel inside a message; the body's length is known by its end.
pub fn into_metadata(headers: &HeaderMap, callee: &str) -> BTreeMap<String, ListStringValue> {
    let mut metadata = from_headers(headers);
    let callee = ListStringValue {
        values: vec![callee.to_owned()],
    };
    metadata.insert(DESTINATION_APP_ID.to_owned(), callee);
    metadata
}

/// Headers as they travel inside a message.
pub fn from_headers(headers: &HeaderMap) -> BTreeMap<String, ListStringValue> {
    let mut metadata: BTreeMap<String, ListStringValue> = BTreeMap::new();
    for (name, value) in headers {
        if name == header::CONTENT_LENGTH {
            continue;
        }
        // Values outside of UTF-8 have no place in a proto string.
        let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
        metadata
            .entry(name.as_str().to_owned())
            .or_default()
            .values
            .push(text);
    }
    metadata
}

/// The headers of a message; what is no header is left out.
pub fn from_metadata(metadata: &BTreeMap<String, ListStringValue>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, list) in metadata {
        let skipped = name.starts_with(':')
            || name.eq_ignore_ascii_case(DESTINATION_APP_ID)
            || name.eq_ignore_ascii_case("content-length");
        let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
            continue;
        };
        for value in list.values.iter().filter(|_| !skipped) {
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                headers.append(header.clone(), value);
            }
        }
    }
    headers
}

/// The one value of a header in a message.
pub fn value<'m>(metadata: &'m BTreeMap<String, ListStringValue>, name: &str) -> Option<&'m str> {
    let (_, list) = metadata
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(name))?;
    list.values.first().map(String::as_str)
}

/// Name of the header that says who calls.
pub fn caller_app_id(metadata: &BTreeMap<String, ListStringValue>) -> &str {
    value(metadata, CALLER_APP_ID.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_of_the_app_are_overwritten() {
        let mut headers = HeaderMap::new();
        headers.insert(CALLER_APP_ID, HeaderValue::from_static("spoofed"));
        Own::new("me", "ns", "10.0.0.1", "host").add(&mut headers, "you");
        assert_eq!(headers["dapr-caller-app-id"], "me");
        assert_eq!(headers["dapr-caller-namespace"], "ns");
        assert_eq!(headers["dapr-callee-app-id"], "you");
        assert_eq!(headers["forwarded"], "for=10.0.0.1;by=10.0.0.1;host=host");
    }

    #[test]
    fn connection_headers_stay_behind() {
        let mut headers = HeaderMap::new();
        headers.insert("connection", HeaderValue::from_static("x-one, close"));
        headers.insert("x-one", HeaderValue::from_static("1"));
        headers.insert("x-two", HeaderValue::from_static("2"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        remove_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["x-two"]);
    }

    #[test]
    fn headers_survive_the_message() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_static("1"));
        headers.append("x-a", HeaderValue::from_static("2"));
        headers.insert("content-length", HeaderValue::from_static("9"));
        let back = from_metadata(&into_metadata(&headers, "app"));
        assert_eq!(back.get_all("x-a").iter().count(), 2);
        assert_eq!(back.len(), 2);
    }
}
