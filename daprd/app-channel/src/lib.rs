//! Everything said to the app, over HTTP or gRPC: invocation, topic events, its subscriptions, bindings, jobs,
//! actors, its health. Only this crate knows the app's side of the contract (2.4, 9.5).

mod actors;
mod bindings;
mod client;
mod event_headers;
mod grpc;
mod health;
mod http;
mod jobs;
mod subscriptions;

use std::{sync::Arc, time::Duration};

use ::http::Uri;
use arc_swap::ArcSwap;
use component::HttpMiddleware;
use telemetry::{GrpcMetrics, HttpMetrics};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

pub use actors::{ActorConfig, EntityConfig, Reentrancy};
pub use event_headers::event_headers;
pub use health::{HealthOptions, Probe};
pub use jobs::Triggered;
pub use subscriptions::{BulkSubscribe, ProgrammaticSubscription, Rule};

/// How to talk to the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http,
    /// Without verifying the app's certificate (contract 9.5).
    Https,
    H2c,
    Grpc,
    /// Without verifying the app's certificate.
    Grpcs,
}

impl Protocol {
    pub fn is_grpc(self) -> bool {
        matches!(self, Self::Grpc | Self::Grpcs)
    }

    fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Grpcs)
    }
}

/// Why the app could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no app port.
    #[error("app channel is not initialized")]
    NoChannel,
    /// Health checks say that the app is away.
    #[error("app is not in a healthy state")]
    Unhealthy,
    /// The app cannot be reached, or broke off.
    #[error("error invoking app channel: {0}")]
    Unreachable(String),
    /// A gRPC app answered with an error.
    #[error("{}", .0.message())]
    Status(Box<tonic::Status>),
    /// The app's answer makes no sense.
    #[error("{what}: {problem}")]
    Malformed { what: &'static str, problem: String },
}

/// What the channel is made of.
pub struct Options {
    pub app_id: String,
    /// `None`: there is no app, and every call fails with [`Error::NoChannel`].
    pub port: Option<u16>,
    pub address: String,
    pub protocol: Protocol,
    /// Sent to the app as `dapr-api-token`.
    pub token: Option<String>,
    /// Calls at a time; `None` for no limit.
    pub max_concurrency: Option<usize>,
    /// `spec.appHttpPipeline`, in order; HTTP apps only.
    pub pipeline: Arc<ArcSwap<Vec<Arc<dyn HttpMiddleware>>>>,
    /// Largest message or buffered answer, in bytes.
    pub max_message: usize,
    /// Health probes, if they are on.
    pub health: Option<HealthOptions>,
    pub http_metrics: HttpMetrics,
    pub grpc_metrics: GrpcMetrics,
}

/// The line to the app. Clones share it.
#[derive(Clone)]
pub struct AppChannel(Arc<Inner>);

struct Inner {
    options: Options,
    origin: Uri,
    clients: client::Clients,
    gate: Option<Arc<Semaphore>>,
    healthy: watch::Sender<bool>,
}

impl AppChannel {
    /// A channel, and the probe that keeps its health: run it once the app's port is open.
    pub fn new(options: Options) -> (Self, Probe) {
        let scheme = if options.protocol.is_tls() {
            "https"
        } else {
            "http"
        };
        let host = if options.address.contains(':') && !options.address.starts_with('[') {
            format!("[{}]", options.address)
        } else {
            options.address.clone()
        };
        let origin = format!("{scheme}://{host}:{}", options.port.unwrap_or_default())
            .parse()
            .unwrap_or_default();
        let health = options.health.clone();
        // Without probes the app counts as healthy once its port is open; with them, once it says so.
        let (healthy, _) = watch::channel(false);
        let channel = Self(Arc::new(Inner {
            clients: client::Clients::new(&options),
            gate: options
                .max_concurrency
                .map(|most| Arc::new(Semaphore::new(most.max(1)))),
            origin,
            healthy,
            options,
        }));
        let probe = Probe::new(channel.clone(), health);
        (channel, probe)
    }

    /// Whether there is an app.
    pub fn is_configured(&self) -> bool {
        self.0.options.port.is_some()
    }

    pub fn protocol(&self) -> Protocol {
        self.0.options.protocol
    }

    /// Whether the app is healthy; it begins as not.
    pub fn health(&self) -> watch::Receiver<bool> {
        self.0.healthy.subscribe()
    }

    /// Fails where the app cannot be asked now.
    fn check(&self) -> Result<(), Error> {
        if !self.is_configured() {
            return Err(Error::NoChannel);
        }
        if self.0.options.health.is_some() && !*self.0.healthy.borrow() {
            return Err(Error::Unhealthy);
        }
        Ok(())
    }

    /// Waits for a place among the calls under way.
    async fn enter(&self) -> Option<OwnedSemaphorePermit> {
        let gate = self.0.gate.clone()?;
        gate.acquire_owned().await.ok()
    }
}

/// A dial of the app's port at start, and the pause between two (contract 2.4).
const DIAL_TIMEOUT: Duration = Duration::from_millis(500);
const DIAL_PAUSE: Duration = Duration::from_millis(100);

/// Header and metadata key of the app's token.
const TOKEN_HEADER: &str = "dapr-api-token";
