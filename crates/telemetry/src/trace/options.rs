//! What shapes tracing (contract 3.4, `tracing`), and OpenTelemetry's environment variables.

use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::Error;

/// How to trace.
#[derive(Clone, Debug, Default)]
pub struct TraceOptions {
    /// Name of the service, normally the app id.
    pub service_name: String,
    /// Share of traces to record, as configured; see [`super::Sampler::new`].
    pub sampling_rate: String,
    /// Log spans.
    pub stdout: bool,
    /// URL of a Zipkin collector's span endpoint.
    pub zipkin: Option<String>,
    /// An OTLP collector.
    pub otlp: Option<OtlpOptions>,
    /// Further attributes of the resource.
    pub resource: Vec<(String, String)>,
}

/// An OTLP collector.
#[derive(Clone, Debug)]
pub struct OtlpOptions {
    /// `host:port`; a scheme is accepted and then decides about TLS.
    pub endpoint: String,
    /// Which protocol to speak.
    pub protocol: Protocol,
    /// Use TLS with the system's roots.
    pub secure: bool,
    /// Headers of each request.
    pub headers: Vec<(String, String)>,
    /// Limit for one request; 10 seconds if unset.
    pub timeout: Option<Duration>,
}

/// OTLP's two carriers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Unary gRPC.
    Grpc,
    /// Protobuf over HTTP.
    Http,
}

impl std::str::FromStr for Protocol {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "grpc" => Ok(Protocol::Grpc),
            "http" => Ok(Protocol::Http),
            other => Err(Error::Protocol(other.to_owned())),
        }
    }
}

impl TraceOptions {
    /// Applies `OTEL_*` variables, read through `lookup` (contract 10.7): the service name and resource
    /// attributes override, headers and timeout fill in what the configuration leaves out.
    #[must_use]
    pub fn with_environment(mut self, lookup: impl Fn(&str) -> Option<String>) -> Self {
        if let Some(attributes) = lookup("OTEL_RESOURCE_ATTRIBUTES") {
            for (key, value) in pairs(&attributes) {
                if key == SERVICE_NAME {
                    self.service_name = value;
                } else {
                    self.resource.push((key, value));
                }
            }
        }
        if let Some(name) = lookup("OTEL_SERVICE_NAME").filter(|name| !name.is_empty()) {
            self.service_name = name;
        }
        if let Some(otlp) = &mut self.otlp {
            let either = |suffix: &str| {
                lookup(&format!("OTEL_EXPORTER_OTLP_TRACES_{suffix}"))
                    .or_else(|| lookup(&format!("OTEL_EXPORTER_OTLP_{suffix}")))
            };
            if otlp.headers.is_empty() {
                otlp.headers = either("HEADERS")
                    .map(|text| pairs(&text))
                    .unwrap_or_default();
            }
            if otlp.timeout.is_none() {
                let millis = either("TIMEOUT").and_then(|text| text.trim().parse().ok());
                otlp.timeout = millis.map(Duration::from_millis);
            }
        }
        self
    }
}

/// `k=v,k2=v2` with percent-encoded values; what has no `=` is left out.
fn pairs(text: &str) -> Vec<(String, String)> {
    text.split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| {
            let value = percent_decode_str(value.trim())
                .decode_utf8_lossy()
                .into_owned();
            (key.trim().to_owned(), value)
        })
        .filter(|(key, _)| !key.is_empty())
        .take(MAX_PAIRS)
        .collect()
}

/// The one resource attribute that every backend reads.
pub(super) const SERVICE_NAME: &str = "service.name";

/// Entries of one variable.
const MAX_PAIRS: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn options(headers: Vec<(String, String)>) -> TraceOptions {
        let otlp = OtlpOptions {
            endpoint: "localhost:4317".into(),
            protocol: Protocol::Grpc,
            secure: false,
            headers,
            timeout: None,
        };
        TraceOptions {
            service_name: "myapp".into(),
            otlp: Some(otlp),
            ..TraceOptions::default()
        }
    }

    #[test]
    fn environment_overrides_and_fills_in() {
        let lookup = |name: &str| match name {
            "OTEL_SERVICE_NAME" => Some("custom".to_owned()),
            "OTEL_RESOURCE_ATTRIBUTES" => {
                Some("service.name=x,k8s.pod.name=pod%20123,bad".to_owned())
            }
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS" => Some("x-a=1".to_owned()),
            "OTEL_EXPORTER_OTLP_TIMEOUT" => Some("5000".to_owned()),
            _ => None,
        };
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let filled = options(vec![]).with_environment(lookup);
        assert_eq!(filled.service_name, "custom");
        assert_eq!(filled.resource, [pair("k8s.pod.name", "pod 123")]);
        let otlp = filled.otlp.unwrap();
        assert_eq!(otlp.headers, [pair("x-a", "1")]);
        assert_eq!(otlp.timeout, Some(Duration::from_secs(5)));
        let kept = options(vec![pair("x-b", "2")]).with_environment(lookup);
        assert_eq!(kept.otlp.unwrap().headers, [pair("x-b", "2")]);
    }

    #[test]
    fn protocols() {
        assert_eq!("grpc".parse::<Protocol>().unwrap(), Protocol::Grpc);
        let error = "thrift".parse::<Protocol>().unwrap_err().to_string();
        assert_eq!(error, "invalid protocol thrift provided for Otel endpoint");
    }
}
