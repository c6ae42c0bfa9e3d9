//! Headers of a call as they travel inside a message between sidecars: of an app's invocation and of an actor's alike.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use proto::internals::v1::ListStringValue;

/// Headers in a message.
pub type Metadata = BTreeMap<String, ListStringValue>;

/// Metadata that a sidecar of the caller adds: whom the call is for.
pub const DESTINATION_APP_ID: &str = "destination-app-id";

/// Headers as they travel, under names as `spell` says them; the body's length is known by its end.
pub fn from_headers(headers: &HeaderMap, spell: impl Fn(&HeaderName) -> String) -> Metadata {
    let mut metadata = Metadata::new();
    for (name, value) in headers {
        if name == header::CONTENT_LENGTH {
            continue;
        }
        // Values outside of UTF-8 have no place in a proto string.
        let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
        metadata.entry(spell(name)).or_default().values.push(text);
    }
    metadata
}

/// The headers of a message; what is no header of the call is left out.
pub fn into_headers(metadata: &Metadata) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, list) in metadata {
        let of_message = name.eq_ignore_ascii_case(DESTINATION_APP_ID)
            || name.eq_ignore_ascii_case(header::CONTENT_LENGTH.as_str());
        // Pseudo headers of HTTP/2 are no names of headers.
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            continue;
        };
        for value in list.values.iter().filter(|_| !of_message) {
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                headers.append(name.clone(), value);
            }
        }
    }
    headers
}

/// A name as Go spells it: `X-Daprerrorresponseheader`.
pub fn as_go(name: &HeaderName) -> String {
    values::header::canonical(name.as_str())
}

/// The first value of a header in a message.
pub fn value<'m>(metadata: &'m Metadata, name: &HeaderName) -> Option<&'m str> {
    let (_, list) = metadata
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(name.as_str()))?;
    list.values.first().map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_the_message() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_static("1"));
        headers.append("x-a", HeaderValue::from_static("2"));
        headers.append(
            "x-name",
            HeaderValue::from_bytes("Zo\u{eb}".as_bytes()).unwrap(),
        );
        let all = headers.clone();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("9"));
        for spell in [as_go, |name: &HeaderName| name.as_str().to_owned()] {
            let mut metadata = from_headers(&headers, spell);
            for name in [":path", DESTINATION_APP_ID] {
                let list = metadata.entry(name.to_owned()).or_default();
                list.values.push("v".to_owned());
            }
            assert_eq!(into_headers(&metadata), all);
        }
    }

    #[test]
    fn a_value_is_found_whatever_the_spelling() {
        let name = HeaderName::from_static("x-a");
        let headers = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static("1"))]);
        let metadata = from_headers(&headers, as_go);
        assert!(metadata.contains_key("X-A"));
        assert_eq!(value(&metadata, &name), Some("1"));
    }
}
