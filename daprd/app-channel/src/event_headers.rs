//! What is known of an event besides its data, as headers for the app: for topics and bindings the same.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// What describes the event's own transport must not reach the app's.
const OWN: [HeaderName; 9] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::EXPECT,
];

/// The metadata of an event as headers. What cannot be one is left out; of two that differ by case only, the last one holds.
pub fn event_headers<'m>(
    metadata: impl IntoIterator<Item = (&'m String, &'m String)>,
) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in metadata {
        let Ok(name) = HeaderName::try_from(name) else {
            continue;
        };
        if OWN.contains(&name) {
            continue;
        }
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    headers
}
