//! The HTTP front end: routes, decoding, encoding. It decides nothing.

pub mod actors;
pub mod bindings;
pub mod configuration;
pub mod health;
pub mod invoke;
pub mod jobs;
pub mod lock;
pub mod metadata;
mod proto_json;
pub mod pubsub;
mod routes;
pub mod secrets;
mod server;
pub mod state;
pub mod workflow;

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use component::{
    Body,
    body::{self, ReadError},
};
use futures::future::BoxFuture;
use http::{Response, StatusCode, header};

use crate::{Api, ApiError, CallContext, reason::general};

pub use proto_json::{by_path, by_proto, from_body};
pub use routes::{Matched, Routes};
pub use server::{Options, Server};

/// Decodes a request, calls an operation, encodes its reply.
pub type Codec = for<'a> fn(&'a Api, Call) -> BoxFuture<'a, Result<Response<Body>, ApiError>>;

/// A request whose route is known.
pub struct Call {
    pub context: CallContext,
    /// Path parameters, decoded.
    pub params: Vec<(String, String)>,
    /// Query pairs, decoded, in order.
    pub query: Vec<(String, String)>,
    pub body: Body,
    /// Largest body in bytes; 0 has no limit.
    pub max_body: usize,
}

/// Query parameters and response headers with this prefix are metadata.
const METADATA_PREFIX: &str = "metadata.";

impl Call {
    /// A path parameter; routes guarantee that it is there.
    pub fn param(&self, name: &str) -> &str {
        self.params
            .iter()
            .find(|(key, _)| key == name)
            .map_or("", |(_, value)| value)
    }

    /// A query parameter.
    pub fn query(&self, name: &str) -> Option<&str> {
        let (_, value) = self.query.iter().find(|(key, _)| key == name)?;
        Some(value)
    }

    /// The request's metadata: query parameters `metadata.<key>`.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        self.query
            .iter()
            .filter_map(|(key, value)| {
                let key = key.strip_prefix(METADATA_PREFIX)?;
                Some((key.to_owned(), value.clone()))
            })
            .collect()
    }

    /// Reads the whole body, up to the limit.
    pub async fn bytes(&mut self) -> Result<Bytes, ApiError> {
        let body = std::mem::replace(&mut self.body, body::empty());
        read(body, self.max_body).await
    }

    /// Reads the whole body as text; what is no UTF-8 is replaced, as Go's JSON decoder does it.
    pub async fn text(&mut self) -> Result<String, ApiError> {
        let bytes = Vec::from(self.bytes().await?);
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }
}

/// Reads a whole body of at most `limit` bytes (0: no limit).
async fn read(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let limit = if limit == 0 { usize::MAX } else { limit };
    body::read(body, limit).await.map_err(|error| {
        let reason = match error {
            ReadError::TooLarge { .. } => &general::BODY_TOO_LARGE,
            ReadError::Broken(_) => &general::BODY_READ,
        };
        ApiError::new(reason, format!("failed to read request body: {error}"))
    })
}

/// 204.
pub fn no_content() -> Response<Body> {
    status(StatusCode::NO_CONTENT)
}

/// A status and nothing else.
pub fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = status;
    response
}

/// JSON bytes with their content type.
pub fn json_reply(bytes: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(body::full(bytes.into()));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    response
}

/// Puts metadata on a response as `metadata.<key>` headers; what is no header is left out.
pub fn add_metadata(response: &mut Response<Body>, metadata: &BTreeMap<String, String>) {
    for (key, value) in metadata {
        let name = header::HeaderName::from_bytes(format!("{METADATA_PREFIX}{key}").as_bytes());
        if let (Ok(name), Ok(value)) = (name, header::HeaderValue::from_str(value)) {
            response.headers_mut().insert(name, value);
        }
    }
}

/// Decodes one path segment or query part: percent escapes, and `+` as a space.
///
/// Nothing where an escape is broken or the bytes are no UTF-8.
pub fn unescape(text: &str) -> Option<String> {
    let spaced: Cow<str> = if text.contains('+') {
        text.replace('+', " ").into()
    } else {
        text.into()
    };
    let mut rest = spaced.as_bytes();
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        let digits = rest.get(at + 1..at + 3)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        rest = &rest[at + 3..];
    }
    percent_encoding::percent_decode_str(&spaced)
        .decode_utf8()
        .ok()
        .map(Cow::into_owned)
}

/// Query pairs, decoded; a pair with a broken escape is left out.
pub fn parse_query(query: Option<&str>) -> Vec<(String, String)> {
    query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty())
        .filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((unescape(key)?, unescape(value)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    #[test]
    fn escapes_are_decoded_once() {
        assert_eq!(unescape("a+b%2Fc%2520").as_deref(), Some("a b/c%20"));
        assert_eq!(unescape("%zz"), None);
        assert_eq!(unescape("%f"), None);
        assert_eq!(unescape("%ff"), None);
    }

    #[test]
    fn metadata_comes_from_the_query() {
        let query = parse_query(Some("metadata.ttl=1&x=2&metadata.a=b%20c&bad=%"));
        assert_eq!(query.len(), 3);
        let call = Call {
            context: CallContext::new(
                crate::Transport::Http,
                HeaderMap::new(),
                &http::Extensions::new(),
            ),
            params: Vec::new(),
            query,
            body: body::empty(),
            max_body: 0,
        };
        assert_eq!(call.metadata().len(), 2);
        assert_eq!(call.metadata()["a"], "b c");
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused() {
        let error = read(body::full("12345"), 4).await.unwrap_err();
        assert_eq!(error.reason().http, 413);
        assert_eq!(read(body::full("1234"), 4).await.unwrap(), "1234");
    }
}
