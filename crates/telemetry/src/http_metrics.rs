//! Metrics of HTTP requests to the sidecar and from it to the app (contract 10.8): what the labels are
//! under each cardinality setting, and layers that record them.

use std::sync::Arc;
use std::time::Duration;

use crate::Error;
use crate::meter::{Counter, Histogram, Meter};
use crate::paths::{PathMatcher, normalise, verbose_label};

mod layer;

pub use layer::{ClientLayer, ClientService, MeasuredBody, ServerLayer, ServerService};

/// How labels are made (contract 3.4, `metrics.http`).
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Paths become labels even without a pattern. Dapr's default is true.
    pub increased_cardinality: bool,
    /// Patterns whose text stands for the paths that match.
    pub path_matching: Vec<String>,
    /// Leave the method label empty.
    pub exclude_verbs: bool,
}

impl Default for HttpOptions {
    fn default() -> Self {
        HttpOptions {
            increased_cardinality: true,
            path_matching: Vec::new(),
            exclude_verbs: false,
        }
    }
}

/// The metrics of HTTP. Cheap to clone.
#[derive(Clone)]
pub struct HttpMetrics {
    inner: Arc<Inner>,
}

struct Inner {
    labels: Labels,
    server_request_bytes: Histogram,
    server_response_bytes: Histogram,
    server_latency: Histogram,
    server_request_count: Counter,
    server_response_count: Option<Counter>,
    client_sent_bytes: Histogram,
    client_received_bytes: Histogram,
    client_roundtrip_latency: Histogram,
    client_completed_count: Counter,
    probe_completed_count: Counter,
    probe_roundtrip_latency: Histogram,
}

struct Labels {
    verbose: bool,
    exclude_verbs: bool,
    matcher: PathMatcher,
}

/// One finished request, from either side.
#[derive(Clone, Copy, Debug)]
pub struct Completed<'a> {
    /// Method as on the wire.
    pub method: &'a str,
    /// Path without query, percent-decoded.
    pub path: &'a str,
    /// Status code; 500 for a request that got no answer.
    pub status: u16,
    /// Bytes of the request body.
    pub request_bytes: u64,
    /// Bytes of the response body.
    pub response_bytes: u64,
    /// From the first byte of the request to the last of the response.
    pub elapsed: Duration,
}

impl HttpMetrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// When a path pattern is malformed.
    pub fn new(meter: &Meter, options: &HttpOptions) -> Result<Self, Error> {
        let verbose = options.increased_cardinality;
        let matcher = PathMatcher::new(&options.path_matching, verbose)?;
        let all = &["method", "path", "status"][..];
        let inner = Inner {
            labels: Labels { verbose, exclude_verbs: options.exclude_verbs, matcher },
            server_request_bytes: meter.size("http/server/request_bytes", "HTTP request body size if set as ContentLength (uncompressed) in server.", &[]),
            server_response_bytes: meter.size("http/server/response_bytes", "HTTP response body size (uncompressed) in server.", &[]),
            server_latency: meter.latency("http/server/latency", "HTTP request end-to-end latency in server.", all),
            server_request_count: meter.counter("http/server/request_count", "Count of HTTP requests processed by the server.", all),
            server_response_count: verbose.then(|| meter.counter("http/server/response_count", "The number of HTTP responses", all)),
            client_sent_bytes: meter.size("http/client/sent_bytes", "Total bytes sent in request body (not including headers)", all),
            client_received_bytes: meter.size("http/client/received_bytes", "Total bytes received in response bodies (not including headers but including error responses with bodies)", &[]),
            client_roundtrip_latency: meter.latency("http/client/roundtrip_latency", "Time between first byte of request headers sent to last byte of response received, or terminal error", all),
            client_completed_count: meter.counter("http/client/completed_count", "Count of completed requests", all),
            probe_completed_count: meter.counter("http/healthprobes/completed_count", "Count of completed health probes", &["status"]),
            probe_roundtrip_latency: meter.latency("http/healthprobes/roundtrip_latency", "Time between first byte of health probes headers sent to last byte of response received, or terminal error", &["status"]),
        };
        Ok(HttpMetrics {
            inner: Arc::new(inner),
        })
    }

    /// A layer for servers: records each request when its response body is over.
    #[must_use]
    pub fn server_layer(&self) -> ServerLayer {
        ServerLayer::new(self.clone())
    }

    /// A layer for clients: the same from the other side.
    #[must_use]
    pub fn client_layer(&self) -> ClientLayer {
        ClientLayer::new(self.clone())
    }

    /// Records a request that the server answered.
    pub fn server_completed(&self, request: &Completed<'_>) {
        let inner = &*self.inner;
        let path = inner.labels.server_path(request.path);
        let method = inner.labels.method(request.method);
        let status = Code::new(request.status);
        let values = [method, path.as_str(), status.text()];
        inner.server_request_count.add(&values, 1);
        inner
            .server_latency
            .observe_duration(&values, request.elapsed);
        if let Some(count) = &inner.server_response_count {
            count.add(&values, 1);
        }
        inner
            .server_request_bytes
            .observe(&[], request.request_bytes as f64);
        inner
            .server_response_bytes
            .observe(&[], request.response_bytes as f64);
    }

    /// Records a request to the app that is over.
    pub fn client_completed(&self, request: &Completed<'_>) {
        let inner = &*self.inner;
        let path = inner.labels.client_path(request.path);
        let method = inner.labels.method(request.method);
        let status = Code::new(request.status);
        let values = [method, path.as_str(), status.text()];
        // Compat: Q-metric-sent-bytes, sent bytes are recorded before the status is known.
        inner
            .client_sent_bytes
            .observe(&[method, &path, ""], request.request_bytes as f64);
        inner.client_completed_count.add(&values, 1);
        inner
            .client_roundtrip_latency
            .observe_duration(&values, request.elapsed);
        inner
            .client_received_bytes
            .observe(&[], request.response_bytes as f64);
    }

    /// Records a health probe of the app.
    pub fn health_probe(&self, status: u16, elapsed: Duration) {
        let status = Code::new(status);
        self.inner.probe_completed_count.add(&[status.text()], 1);
        self.inner
            .probe_roundtrip_latency
            .observe_duration(&[status.text()], elapsed);
    }
}

impl Labels {
    fn method<'a>(&self, method: &'a str) -> &'a str {
        if self.exclude_verbs {
            return "";
        }
        if VERBS.contains(&method) {
            method
        } else {
            "UNKNOWN"
        }
    }

    fn server_path(&self, path: &str) -> String {
        if self.matcher.is_enabled() {
            self.path(&normalise(path))
        } else if self.verbose {
            self.path(&verbose_label(path))
        } else {
            String::new()
        }
    }

    fn client_path(&self, path: &str) -> String {
        let path = self.path(path);
        if self.verbose || self.matcher.is_enabled() {
            verbose_label(&path)
        } else {
            path
        }
    }

    fn path(&self, path: &str) -> String {
        if STATIC_PATHS.contains(&path) {
            return path.to_owned();
        }
        if let Some(found) = self.matcher.find(path)
            && (!self.verbose || found != path)
        {
            return found;
        }
        if self.matcher.is_enabled() {
            // A pattern may also be written for the shortened form of one of Dapr's own paths.
            let short = verbose_label(path);
            if short != path
                && let Some(found) = self.matcher.find(&short).filter(|found| found != "/")
            {
                return found;
            }
        }
        if self.verbose {
            verbose_label(path)
        } else {
            String::new()
        }
    }
}

/// A status code as text without an allocation.
struct Code([u8; 3]);

impl Code {
    fn new(status: u16) -> Self {
        let digit = |n: u16| b'0' + u8::try_from(n % 10).unwrap_or(0);
        Code([digit(status / 100), digit(status / 10), digit(status)])
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("000")
    }
}

/// Calls that Dapr itself makes to the app keep their path under every setting.
const STATIC_PATHS: &[&str] = &[
    "/dapr/config",
    "/dapr/metrics",
    "/dapr/subscribe",
    "/healthz",
];

const VERBS: &[&str] = &[
    "GET", "PUT", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS", "CONNECT", "TRACE",
];

#[cfg(test)]
mod tests;
