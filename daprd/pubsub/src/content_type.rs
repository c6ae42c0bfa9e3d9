//! What a content type says about data. Parameters after `;` do not matter, case neither.

const CLOUD_EVENT: &str = "application/cloudevents+json";
const CLOUD_EVENT_PROTOBUF: &str = "application/cloudevents+protobuf";
pub const JSON: &str = "application/json";
pub const BINARY: &str = "application/octet-stream";

pub fn is_cloud_event(content_type: &str) -> bool {
    is(content_type, CLOUD_EVENT)
}

pub fn is_json(content_type: &str) -> bool {
    is(content_type, JSON)
}

pub fn is_binary(content_type: &str) -> bool {
    is(content_type, BINARY)
}

/// Binary data that an envelope carries as base64.
pub fn needs_base64(content_type: &str) -> bool {
    is_binary(content_type) || is(content_type, CLOUD_EVENT_PROTOBUF)
}

pub fn is_text(content_type: &str) -> bool {
    let head = content_type.as_bytes().get(..5);
    head.is_some_and(|head| head.eq_ignore_ascii_case(b"text/"))
        || is(content_type, "application/xml")
}

fn is(content_type: &str, expected: &str) -> bool {
    let bare = content_type.split(';').next().unwrap_or_default();
    bare.eq_ignore_ascii_case(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_parameters_do_not_matter() {
        assert!(is_json("Application/JSON; charset=utf-8"));
        assert!(!is_json("application/jsonp"));
        assert!(is_cloud_event("application/cloudevents+json"));
        assert!(is_text("TEXT/html") && is_text("application/xml"));
        assert!(!is_text("é") && !is_text("text"));
    }
}
