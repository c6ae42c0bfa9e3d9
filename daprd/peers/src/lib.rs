//! The pool of connections to other sidecars: HTTP/2 over mTLS, one client per sidecar dialled, which opens further connections
//! when there are too many calls for one. A callee whose identity is not the one dialled is refused in the handshake.

mod dialled;
pub mod metadata;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use dashmap::DashMap;
use http::{Request, Response, Uri, uri::PathAndQuery};
use security::{Expect, Security};
use telemetry::{
    GrpcMetrics,
    grpc_metrics::{Call, CountedBody, GrpcService, MeasuredBody},
};
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service as _};
use transport::{Answer, ClientOptions, Connector, Multiplexed};

use dialled::Dialled;
pub use dialled::Unreachable;

/// Most sidecars that are remembered; beyond it the one unused longest is forgotten.
pub const MAX_PEERS: usize = 4096;

/// A client to one sidecar: a tower service that generated gRPC clients take.
pub type PeerClient = GrpcService<Dialled>;

type Lanes = Multiplexed<CountedBody<tonic::body::Body>>;

/// Why a sidecar could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name resolver gave something that is no `host:port`.
    #[error("{address:?} is no address of a sidecar")]
    Address { address: String },
    /// The connection failed or broke off.
    #[error("cannot reach the sidecar of {app_id} at {address}")]
    Unreachable {
        app_id: String,
        address: String,
        source: hyper_util::client::legacy::Error,
    },
}

/// What the pool is made of.
pub struct Options {
    pub security: Security,
    /// Connections unused for this long are closed.
    pub max_idle: Duration,
    /// Between two looks for peers that nobody calls any more.
    pub collect_interval: Duration,
    /// Largest response head, in bytes.
    pub max_header_bytes: usize,
    pub metrics: GrpcMetrics,
    /// Hears of addresses where nobody could be reached.
    pub unreachable: Unreachable,
}

/// The pool. Clones share it.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

struct Inner {
    options: Options,
    began: Instant,
    peers: DashMap<Key, Arc<Known>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    address: Arc<str>,
    app_id: Arc<str>,
    namespace: Arc<str>,
}

struct Known {
    client: PeerClient,
    /// The same, to ask for the calls under way.
    lanes: Lanes,
    origin: Uri,
    /// Milliseconds since the pool began.
    last_used: AtomicU64,
}

/// One sidecar, ready to be called.
#[derive(Clone)]
pub struct Peer {
    known: Arc<Known>,
    app_id: Arc<str>,
    address: Arc<str>,
}

impl Pool {
    pub fn new(options: Options) -> Self {
        Self(Arc::new(Inner {
            options,
            began: Instant::now(),
            peers: DashMap::new(),
        }))
    }

    /// The sidecar of an app at an address; connects with the first call.
    ///
    /// # Errors
    /// [`Error::Address`].
    pub fn peer(&self, address: &str, app_id: &str, namespace: &str) -> Result<Peer, Error> {
        let key = Key {
            address: address.into(),
            app_id: app_id.into(),
            namespace: namespace.into(),
        };
        let now = self.now();
        let known = match self.0.peers.get(&key) {
            Some(known) => Arc::clone(&known),
            None => self.open(&key, now)?,
        };
        known.last_used.store(now, Ordering::Relaxed);
        Ok(Peer {
            known,
            app_id: key.app_id,
            address: key.address,
        })
    }

    /// Forgets peers that nobody has called for the idle time, until shutdown.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(self.0.options.collect_interval);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            self.collect();
        }
    }

    fn open(&self, key: &Key, now: u64) -> Result<Arc<Known>, Error> {
        let wrong = || Error::Address {
            address: key.address.to_string(),
        };
        let origin: Uri = format!("http://{}", key.address)
            .parse()
            .map_err(|_| wrong())?;
        origin
            .authority()
            .and_then(|it| it.port_u16())
            .ok_or_else(wrong)?;
        let options = &self.0.options;
        let expect = Expect::AppInNamespace {
            app_id: key.app_id.to_string(),
            namespace: key.namespace.to_string(),
        };
        let connector = Connector::maybe_tls(options.security.client(expect));
        let lanes = Multiplexed::new(
            connector,
            ClientOptions {
                idle_timeout: options.max_idle,
                max_header_bytes: options.max_header_bytes,
                ..ClientOptions::default()
            },
        );
        // Calls between sidecars are streams, also where they carry one message.
        let layer = options.metrics.client_layer(Arc::new(|_, _| Call::Stream));
        let unreachable = Arc::clone(&options.unreachable);
        let dialled = Dialled::new(lanes.clone(), Arc::clone(&key.address), unreachable);
        let client = layer.layer(dialled);
        if self.0.peers.len() >= MAX_PEERS {
            self.evict_oldest();
        }
        let known = Arc::new(Known {
            client,
            lanes,
            origin,
            last_used: AtomicU64::new(now),
        });
        self.0.peers.insert(key.clone(), Arc::clone(&known));
        Ok(known)
    }

    fn collect(&self) {
        let idle = u64::try_from(self.0.options.max_idle.as_millis()).unwrap_or(u64::MAX);
        let oldest = self.now().saturating_sub(idle);
        let before = self.0.peers.len();
        let now = self.now();
        self.0.peers.retain(|_, known| {
            // A peer in use is held, or has calls under way: what it answers may stream for as long as it likes.
            if Arc::strong_count(known) > 1 || known.lanes.calls() > 0 {
                known.last_used.store(now, Ordering::Relaxed);
            }
            known.last_used.load(Ordering::Relaxed) >= oldest
        });
        let expired = before.saturating_sub(self.0.peers.len());
        if expired > 0 {
            tracing::debug!("closed {expired} expired gRPC connection(s) to other sidecars");
        }
    }

    fn evict_oldest(&self) {
        let oldest = self
            .0
            .peers
            .iter()
            .min_by_key(|entry| entry.last_used.load(Ordering::Relaxed))
            .map(|entry| entry.key().clone());
        if let Some(key) = oldest {
            self.0.peers.remove(&key);
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Peer {
    /// The service and the origin that generated clients are made of.
    pub fn grpc(&self) -> (PeerClient, Uri) {
        (self.known.client.clone(), self.known.origin.clone())
    }

    /// Passes a gRPC request on as it is; only its path counts of the URI.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn pass(
        &self,
        mut request: Request<tonic::body::Body>,
    ) -> Result<Response<MeasuredBody<Answer>>, Error> {
        let mut parts = self.known.origin.clone().into_parts();
        let path = request.uri().path_and_query().cloned();
        parts.path_and_query = Some(path.unwrap_or(PathAndQuery::from_static("/")));
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        self.known
            .client
            .clone()
            .call(request)
            .await
            .map_err(|source| Error::Unreachable {
                app_id: self.app_id.to_string(),
                address: self.address.to_string(),
                source,
            })
    }
}
