//! Metrics of gRPC calls, in the shape that OpenCensus gave them (contract 10.8, `grpc.io/...`).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request};

use crate::meter::{Counter, Histogram, Meter};

mod layer;

pub use layer::{Answer, CountedBody, GrpcLayer, GrpcService, MeasuredBody};

/// What kind of call a request starts, which decides what is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// One message each way: count, latency and sizes.
    Unary,
    /// A stream: count and latency.
    Stream,
    /// Nothing.
    Ignored,
}

/// Tells the kind of a call from its request.
pub type Classify = Arc<dyn Fn(&str, &HeaderMap) -> Call + Send + Sync>;

/// The metrics of gRPC. Cheap to clone.
#[derive(Clone)]
pub struct GrpcMetrics {
    inner: Arc<Inner>,
}

struct Inner {
    server: Side,
    client: Side,
    probe_completed_count: Counter,
    probe_roundtrip_latency: Histogram,
}

struct Side {
    received_bytes: Histogram,
    sent_bytes: Histogram,
    latency: Histogram,
    completed: Counter,
}

#[derive(Clone, Copy)]
enum Role {
    Server,
    Client,
}

/// One finished call. Sizes are of messages, without their frames.
#[derive(Clone, Copy, Debug)]
pub struct Completed<'a> {
    /// Full method, `/package.Service/Method`.
    pub method: &'a str,
    /// Status code, 0 to 16.
    pub status: i32,
    /// Bytes of the request and the response; `None` for streams.
    pub bytes: Option<(u64, u64)>,
    /// From the first byte of the request to the last of the response.
    pub elapsed: Duration,
}

impl GrpcMetrics {
    /// Registers the metrics.
    #[must_use]
    pub fn new(meter: &Meter) -> Self {
        let server_method = &["grpc_server_method"][..];
        let server = &["grpc_server_method", "grpc_server_status"][..];
        let client_method = &["grpc_client_method"][..];
        let client = &["grpc_client_method", "grpc_client_status"][..];
        let status = &["grpc_client_status"][..];
        let inner = Inner {
            server: Side {
                received_bytes: meter.size("grpc.io/server/received_bytes_per_rpc", "Total bytes received across all messages per RPC.", server_method),
                sent_bytes: meter.size("grpc.io/server/sent_bytes_per_rpc", "Total bytes sent in across all response messages per RPC.", server_method),
                latency: meter.latency("grpc.io/server/server_latency", "Time between first byte of request received to last byte of response sent, or terminal error.", server),
                completed: meter.counter("grpc.io/server/completed_rpcs", "Count of RPCs by method and status.", server),
            },
            client: Side {
                received_bytes: meter.size("grpc.io/client/received_bytes_per_rpc", "Total bytes received across all response messages per RPC.", client_method),
                sent_bytes: meter.size("grpc.io/client/sent_bytes_per_rpc", "Total bytes sent across all request messages per RPC.", client_method),
                latency: meter.latency("grpc.io/client/roundtrip_latency", "Time between first byte of request sent to last byte of response received, or terminal error.", client),
                completed: meter.counter("grpc.io/client/completed_rpcs", "Count of RPCs by method and status.", client),
            },
            probe_completed_count: meter.counter("grpc.io/healthprobes/completed_count", "Count of completed health probes", status),
            probe_roundtrip_latency: meter.latency("grpc.io/healthprobes/roundtrip_latency", "Time between first byte of health probes sent to last byte of response received, or terminal error", status),
        };
        GrpcMetrics {
            inner: Arc::new(inner),
        }
    }

    /// A layer for servers.
    #[must_use]
    pub fn server_layer(&self, classify: Classify) -> GrpcLayer {
        GrpcLayer::new(self.clone(), Role::Server, classify)
    }

    /// A layer for clients.
    #[must_use]
    pub fn client_layer(&self, classify: Classify) -> GrpcLayer {
        GrpcLayer::new(self.clone(), Role::Client, classify)
    }

    /// Records a call that this server answered.
    pub fn server_completed(&self, call: &Completed<'_>) {
        self.record(Role::Server, call);
    }

    /// Records a call that this client made.
    pub fn client_completed(&self, call: &Completed<'_>) {
        self.record(Role::Client, call);
    }

    /// Records a health probe of the app.
    pub fn health_probe(&self, status: i32, elapsed: Duration) {
        let status = status_name(status);
        self.inner.probe_completed_count.add(&[status], 1);
        self.inner
            .probe_roundtrip_latency
            .observe_duration(&[status], elapsed);
    }

    fn record(&self, role: Role, call: &Completed<'_>) {
        let side = match role {
            Role::Server => &self.inner.server,
            Role::Client => &self.inner.client,
        };
        let values = [call.method, status_name(call.status)];
        side.completed.add(&values, 1);
        side.latency.observe_duration(&values, call.elapsed);
        if let Some((request, response)) = call.bytes {
            let (received, sent) = match role {
                Role::Server => (request, response),
                Role::Client => (response, request),
            };
            side.received_bytes.observe(&[call.method], received as f64);
            side.sent_bytes.observe(&[call.method], sent as f64);
        }
    }
}

/// The usual classification of a server: everything is unary but the given methods.
#[must_use]
pub fn unary_but(streams: impl IntoIterator<Item = &'static str>) -> Classify {
    let streams: HashSet<&'static str> = streams.into_iter().collect();
    Arc::new(move |path, _| {
        if streams.contains(path) {
            Call::Stream
        } else {
            Call::Unary
        }
    })
}

/// Name of a status code as Go prints it.
#[must_use]
pub fn status_name(code: i32) -> &'static str {
    usize::try_from(code)
        .ok()
        .and_then(|code| STATUS_NAMES.get(code))
        .unwrap_or(&"Unknown")
}

fn path<B>(request: &Request<B>) -> String {
    request.uri().path().to_owned()
}

const STATUS_NAMES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

#[cfg(test)]
mod tests;
