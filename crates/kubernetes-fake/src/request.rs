//! Requests: what they ask for, and about what.

use http::Method;
use http::request::Parts;
use percent_encoding::percent_decode_str;
use serde_json::Value;

/// One request as the API server saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The HTTP method.
    pub method: Method,
    /// What Kubernetes calls it: get, list, watch, create, update, patch, delete.
    pub verb: String,
    /// The path, without the query.
    pub path: String,
    /// The query, decoded.
    pub query: Vec<(String, String)>,
    /// The media type of the body.
    pub content_type: String,
    /// Whether only metadata are wanted.
    pub metadata_only: bool,
    /// The body, null if it is not JSON.
    pub body: Value,
}

impl Seen {
    pub(crate) fn new(head: &Parts, body: &[u8]) -> Self {
        let header = |name| {
            let value = head.headers.get(name);
            value
                .and_then(|value: &http::HeaderValue| value.to_str().ok())
                .unwrap_or_default()
        };
        let mut seen = Self {
            method: head.method.clone(),
            verb: String::new(),
            path: head.uri.path().to_owned(),
            query: pairs(head.uri.query().unwrap_or_default()),
            content_type: header(http::header::CONTENT_TYPE).to_owned(),
            metadata_only: header(http::header::ACCEPT).contains("as=PartialObjectMetadata"),
            body: serde_json::from_slice(body).unwrap_or_default(),
        };
        // What is no object, such as the version, is got.
        let named = Target::of(&seen).is_none_or(|target| target.name.is_some());
        seen.verb = match (&seen.method, named) {
            (&Method::GET, _) if matches!(seen.parameter("watch"), Some("true" | "1")) => "watch",
            (&Method::GET, true) => "get",
            (&Method::GET, false) => "list",
            (&Method::POST, _) => "create",
            (&Method::PUT, _) => "update",
            (&Method::PATCH, _) => "patch",
            (&Method::DELETE, _) => "delete",
            _ => "",
        }
        .to_owned();
        seen
    }

    /// A parameter of the query.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }
}

fn pairs(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
    };
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        })
        .collect()
}

/// What a path is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The collection in all namespaces: `/api/v1/pods`.
    pub collection: String,
    /// `v1`, `apps/v1`.
    pub api_version: String,
    /// The kind's plural.
    pub plural: String,
    /// The namespace, if the path names one.
    pub namespace: Option<String>,
    /// The object, if the path names one.
    pub name: Option<String>,
    /// The part of the object, if the path names one.
    pub subresource: Option<String>,
}

impl Target {
    pub(crate) fn of(seen: &Seen) -> Option<Self> {
        let mut parts = seen.path.split('/').filter(|part| !part.is_empty());
        let (root, api_version) = match parts.next()? {
            "api" => ("/api", parts.next()?.to_owned()),
            "apis" => ("/apis", format!("{}/{}", parts.next()?, parts.next()?)),
            _ => return None,
        };
        let mut rest: Vec<&str> = parts.collect();
        let namespace = (rest.first() == Some(&"namespaces") && rest.len() > 2).then(|| {
            let namespace = rest[1].to_owned();
            rest.drain(..2);
            namespace
        });
        let mut rest = rest.into_iter().map(str::to_owned);
        let plural = rest.next()?;
        Some(Self {
            collection: format!("{root}/{api_version}/{plural}"),
            api_version,
            plural,
            namespace,
            name: rest.next(),
            subresource: rest.next(),
        })
    }
}
