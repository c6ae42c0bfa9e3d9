//! The port that everybody may call before anybody knows who calls: small limits, and an end for every call.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use tokio::sync::Semaphore;
use tonic::Status;
use tonic::body::Body;
use tower::ServiceExt as _;
use transport::{KeepAlive, Peer, PeerGate, RequestBody, Serve, ServerOptions};

use crate::metrics::Metrics;

/// Connections at a time. A caller needs one for a moment, twice a day; more of them wait in the kernel.
const MAX_CONNECTIONS: usize = 2048;
/// Of them, so many from one address. All pods of a node may come from one, where their addresses are translated.
const CONNECTIONS_PER_PEER: usize = 256;
/// Calls at a time on one connection; a caller makes one.
const MAX_STREAMS: u32 = 8;
/// Calls under way on all connections, each of which may hold a message,
const MAX_CALLS: usize = 1024;
/// and of those so many from one address.
const CALLS_PER_PEER: usize = 128;
/// Headers of a call.
const MAX_HEADER: usize = 16 << 10;
/// A connection without a call is closed after this time.
const IDLE: Duration = Duration::from_secs(20);
/// A TLS handshake and the headers of a call take no longer.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Nor does a whole call, from its headers to its answer: callers give up a try after 3 seconds.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest message: a certificate request, a token, and the audiences of JWTs.
pub const MAX_MESSAGE: usize = 256 << 10;
/// Bytes of a stream that are taken unread; a message fits in.
const STREAM_WINDOW: u32 = 256 << 10;

/// How the port is served.
pub fn options(tls: Option<Arc<rustls::ServerConfig>>, metrics: &Metrics) -> ServerOptions {
    let metrics = metrics.clone();
    ServerOptions {
        tls,
        http1: false,
        max_header_bytes: MAX_HEADER,
        header_timeout: HEADER_TIMEOUT,
        keep_alive: Some(KeepAlive {
            idle: Some(IDLE),
            ..KeepAlive::default()
        }),
        max_connections: MAX_CONNECTIONS,
        peers: Some(PeerGate::new(CONNECTIONS_PER_PEER, move || {
            metrics.peer_refused("connections");
        })),
        max_concurrent_streams: MAX_STREAMS,
        stream_window: STREAM_WINDOW,
        ..ServerOptions::default()
    }
}

/// Ends calls that take too long, also those whose message never comes, and refuses those that are too many.
pub fn bounded(service: impl Serve<Body = Body>, metrics: &Metrics) -> impl Serve {
    let calls = Calls::new(metrics);
    tower::service_fn(move |request: Request<RequestBody>| {
        let (calls, address) = (calls.clone(), Peer::ip_of(&request));
        let call = service.clone().oneshot(request);
        Box::pin(async move { calls.admit(address, call).await })
    })
}

/// Calls under way.
#[derive(Clone)]
struct Calls {
    all: Arc<Semaphore>,
    peers: PeerGate,
}

impl Calls {
    fn new(metrics: &Metrics) -> Self {
        let metrics = metrics.clone();
        Self {
            all: Arc::new(Semaphore::new(MAX_CALLS)),
            peers: PeerGate::new(CALLS_PER_PEER, move || metrics.peer_refused("calls")),
        }
    }

    async fn admit(
        &self,
        address: Option<IpAddr>,
        call: impl Future<Output = Result<Response<Body>, Infallible>>,
    ) -> Result<Response<Body>, Infallible> {
        let Some(_own) = self.peers.try_enter(address, 1) else {
            return Ok(Status::resource_exhausted(TOO_MANY_OF_ONE).into_http());
        };
        let Ok(_one) = self.all.try_acquire() else {
            return Ok(Status::unavailable("too many calls at a time, try again").into_http());
        };
        within(call).await
    }
}

const TOO_MANY_OF_ONE: &str = "too many calls at a time from one address";

async fn within(
    call: impl Future<Output = Result<Response<Body>, Infallible>>,
) -> Result<Response<Body>, Infallible> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => answer,
        Err(_) => Ok(Status::deadline_exceeded("the call took too long").into_http()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_never_ends_is_ended() {
        let began = tokio::time::Instant::now();
        let answer = within(std::future::pending()).await.unwrap();
        assert_eq!(began.elapsed(), CALL_TIMEOUT);
        assert_eq!(answer.headers()["grpc-status"], "4");
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_does_not_take_the_calls_of_all() {
        let registry = prometheus::Registry::new();
        let meter = telemetry::Meter::new(&registry, telemetry::MetricOptions::default()).unwrap();
        let calls = Calls::new(&Metrics::new(&meter));
        let from = |host: u8| Some(IpAddr::from([10, 0, 0, host]));
        let slow = (0..=CALLS_PER_PEER).map(|_| calls.admit(from(1), std::future::pending()));
        let done = async { Ok(Status::ok("").into_http()) };
        let other = async {
            tokio::task::yield_now().await;
            calls.admit(from(2), done).await
        };
        let (slow, other) = tokio::join!(futures::future::join_all(slow), other);
        let code = |answer: &Response<Body>| answer.headers()["grpc-status"].clone();
        assert_eq!(code(&other.unwrap()), "0");
        let refused = slow.iter().filter(|it| code(it.as_ref().unwrap()) == "8");
        assert_eq!(refused.count(), 1);
        let families = registry.gather();
        let found = families
            .iter()
            .find(|family| family.name() == "dapr_sentry_peer_refused_total");
        let count = found.unwrap().get_metric()[0].get_counter().get_value();
        assert!((count - 1.0).abs() < f64::EPSILON, "{count}");
    }
}
