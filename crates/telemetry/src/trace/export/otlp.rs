//! OTLP over HTTP and over gRPC. Both carry the same message; gRPC adds a frame in front and a status
//! in the trailers, so one HTTP client serves both.

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body_util::BodyExt as _;
use prost::Message as _;

use super::otlp_messages::request;
use super::{Record, Refused, Resource, client, refused};
use crate::Error;
use crate::trace::options::{OtlpOptions, Protocol};

/// An OTLP collector.
pub(super) struct Otlp {
    client: reqwest::Client,
    url: reqwest::Url,
    headers: HeaderMap,
    protocol: Protocol,
    resource: Resource,
}

impl Otlp {
    pub fn new(options: &OtlpOptions, resource: Resource) -> Result<Self, Error> {
        let fail = |reason: String| Error::Exporter {
            exporter: "otlp",
            reason,
        };
        let base = base(&options.endpoint, options.secure).ok_or_else(|| {
            let address = &options.endpoint;
            fail(format!(
                "tracing.otel.endpointAddress {address:?} names no host"
            ))
        })?;
        let path = match options.protocol {
            Protocol::Grpc => GRPC_PATH,
            Protocol::Http => HTTP_PATH,
        };
        let url: reqwest::Url = format!("{base}{path}").parse().map_err(|error| {
            fail(format!(
                "tracing.otel.endpointAddress {:?}: {error}",
                options.endpoint
            ))
        })?;
        let secure = match url.scheme() {
            "https" => true,
            "http" => false,
            other => {
                return Err(fail(format!(
                    "tracing.otel.endpointAddress {:?}: scheme {other:?} is not known",
                    options.endpoint
                )));
            }
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &options.headers {
            let header = HeaderName::try_from(name.as_str())
                .ok()
                .zip(HeaderValue::try_from(value.as_str()).ok());
            let (name, value) =
                header.ok_or_else(|| fail(format!("header {name:?} is malformed")))?;
            headers.append(name, value);
        }
        let kind = match options.protocol {
            Protocol::Grpc => "application/grpc",
            Protocol::Http => "application/x-protobuf",
        };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        if options.protocol == Protocol::Grpc {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        let limit = options.timeout.unwrap_or(TIMEOUT);
        let client = client("otlp", secure, options.protocol == Protocol::Grpc, limit)?;
        Ok(Otlp {
            client,
            url,
            headers,
            protocol: options.protocol,
            resource,
        })
    }

    pub async fn send(&self, batch: &[Record]) -> Result<(), Refused> {
        let message = request(batch, &self.resource);
        let body = match self.protocol {
            Protocol::Http => Bytes::from(message.encode_to_vec()),
            Protocol::Grpc => frame(&message),
        };
        let request = self
            .client
            .post(self.url.clone())
            .headers(self.headers.clone())
            .body(body);
        let response = request
            .send()
            .await
            .map_err(|error| Refused::Later(error.to_string()))?;
        if !response.status().is_success() {
            return Err(refused(response.status()));
        }
        match self.protocol {
            Protocol::Http => Ok(()),
            Protocol::Grpc => grpc_outcome(response).await,
        }
    }
}

/// The URL that an address stands for. A port alone, as in `:4317`, is one of this machine: Go dials it so.
fn base(address: &str, secure: bool) -> Option<String> {
    let scheme = if secure { "https" } else { "http" };
    let (scheme, rest) = address.split_once("://").unwrap_or((scheme, address));
    let rest = rest.trim_end_matches('/');
    // URLs would take what follows for a host, and a number for an IPv4 address.
    let nameless = rest.starts_with('/') || rest.bytes().all(|byte| byte.is_ascii_digit());
    let host = if rest.starts_with(':') {
        "localhost"
    } else {
        ""
    };
    (!nameless).then(|| format!("{scheme}://{host}{rest}"))
}

fn frame(message: &impl prost::Message) -> Bytes {
    let length = message.encoded_len();
    let mut body = BytesMut::with_capacity(5 + length);
    body.put_u8(0);
    body.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message.encode(&mut body).expect("the buffer grows");
    body.freeze()
}

async fn grpc_outcome(response: reqwest::Response) -> Result<(), Refused> {
    let mut response = http::Response::from(response);
    if let Some(status) = grpc_status(response.headers()) {
        return outcome(status);
    }
    let mut status = None;
    while let Some(frame) = response.body_mut().frame().await {
        let frame = frame.map_err(|error| Refused::Later(error.to_string()))?;
        if let Some(trailers) = frame.trailers_ref() {
            status = grpc_status(trailers);
        }
    }
    outcome(status.unwrap_or(2))
}

fn grpc_status(headers: &HeaderMap) -> Option<i32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

fn outcome(status: i32) -> Result<(), Refused> {
    let text = || format!("gRPC status {}", crate::grpc_metrics::status_name(status));
    match status {
        0 => Ok(()),
        // Cancelled, deadline, exhausted, aborted, out of range, unavailable, data loss: per the OTLP
        // specification these may be sent again.
        1 | 4 | 8 | 10 | 11 | 14 | 15 => Err(Refused::Later(text())),
        _ => Err(Refused::Never(text())),
    }
}

const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const HTTP_PATH: &str = "/v1/traces";
const TIMEOUT: Duration = Duration::from_secs(10);
