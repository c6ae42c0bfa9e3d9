//! SPIFFE identities, trust bundles, workload certificates and mutual TLS (contract 6.2, 6.4).
//!
//! [`new`] gives a [`Security`] handle and a [`Runner`]; the runner keeps the workload certificate and the trust
//! anchors fresh. TLS configurations taken from the handle stay valid for the life of the process: they look up
//! the current certificate and anchors at every handshake.
#![deny(missing_docs)]

mod anchors;
mod bundle;
mod chain;
pub mod files;
mod id;
mod metrics;
mod options;
mod rotation;
mod runner;
mod sentry;
mod session;
mod source;
mod svid;
mod tls;
mod verify;

use std::sync::Arc;

use tokio::sync::{Notify, watch};

pub use bundle::{TrustBundle, pem_block};
pub use chain::{CertificateChain, ChainError};
pub use id::{SpiffeId, TrustDomain};
pub use options::{Anchors, KeyKind, Options, TokenSource};
pub use rotation::{Effect, Rotation};
pub use runner::Runner;
pub use source::{CertificateSource, Signed, SourceError};
pub use svid::Svid;
pub use verify::Expect;

use crate::metrics::Metrics;
use crate::tls::Shared;

/// App id of Sentry in its SPIFFE id.
pub const SENTRY: &str = "dapr-sentry";
/// App id of the operator.
pub const OPERATOR: &str = "dapr-operator";
/// App id of the injector.
pub const INJECTOR: &str = "dapr-injector";
/// App id of placement.
pub const PLACEMENT: &str = "dapr-placement";
/// App id of the scheduler.
pub const SCHEDULER: &str = "dapr-scheduler";
/// Every id that only the control plane may carry.
pub const CONTROL_PLANE: [&str; 5] = [SENTRY, OPERATOR, INJECTOR, PLACEMENT, SCHEDULER];

/// What can go wrong with identities and certificates.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is no SPIFFE id of Dapr's form.
    #[error(
        "{text:?} is not a spiffe id of the form spiffe://<trust domain>/ns/<namespace>/<app id>: {reason}"
    )]
    Id {
        /// The text, cut to a sensible length.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The trust anchors cannot be used.
    #[error("invalid trust anchors: {reason}")]
    Anchors {
        /// What is wrong with them.
        reason: String,
    },
    /// The trust anchors file cannot be read or watched.
    #[error("cannot read the trust anchors file {path}")]
    AnchorsFile {
        /// The file.
        path: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A needed option is missing or wrong.
    #[error("security option {name}: {reason}")]
    Option {
        /// Name of the option.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A signed certificate cannot be used.
    #[error("unusable workload certificate: {reason}")]
    Svid {
        /// What is wrong with it.
        reason: String,
    },
    /// A file or its folder cannot be watched.
    #[error("cannot watch {path}")]
    Watch {
        /// The folder.
        path: String,
        /// The watcher's answer.
        source: notify::Error,
    },
    /// The runner ended before there was a certificate.
    #[error("security stopped before the first certificate was obtained")]
    Stopped,
}

/// Handle on this workload's identity. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Security(Arc<Shared>);

/// Builds the handle and the runner that a program spawns. Certificates come from Sentry.
///
/// # Errors
/// [`Error::Option`] and [`Error::Anchors`] for options that can never work; a missing anchors *file* is waited for.
pub fn new(options: Options) -> Result<(Security, Runner), Error> {
    let metrics = Metrics::new(&options.registry, &options.app_id);
    let needed = options.mtls || options.kubernetes;
    let (anchors, bundle) = if needed {
        anchors::Configured::open(&options.anchors)?
    } else {
        tracing::warn!("mutual TLS is off: no certificate is asked for");
        (anchors::Configured::none(), TrustBundle::default())
    };
    let shared = Arc::new(Shared::new(options.mtls, needed, bundle));
    let source = if needed {
        Some(sentry::Client::new(&options, shared.clone())?)
    } else {
        None
    };
    let source = source.map(|client| Box::new(client) as Box<dyn CertificateSource>);
    let runner = Runner::new(shared.clone(), source, anchors, options.key, metrics);
    Ok((Security(shared), runner))
}

impl Security {
    /// Like [`new`], for a workload that is its own authority: Sentry itself, and tests. Its trust anchors are
    /// those of the latest [`Signed`].
    #[must_use]
    pub fn from_source(source: Box<dyn CertificateSource>, key: KeyKind) -> (Self, Runner) {
        let shared = Arc::new(Shared::new(true, true, TrustBundle::default()));
        let anchors = anchors::Configured::none();
        let runner = Runner::new(shared.clone(), Some(source), anchors, key, Metrics::none());
        (Self(shared), runner)
    }

    /// Waits for the first certificate; returns at once where none is needed.
    ///
    /// # Errors
    /// [`Error::Stopped`] when the runner ended before.
    pub async fn ready(&self) -> Result<(), Error> {
        if !self.0.needed {
            return Ok(());
        }
        let mut svid = self.0.svid.subscribe();
        tokio::select! {
            found = svid.wait_for(Option::is_some) => found.map(drop).map_err(|_| Error::Stopped),
            () = self.0.stopped.cancelled() => Err(Error::Stopped),
        }
    }

    /// Whether sidecars speak mutual TLS with each other.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.0.mtls
    }

    /// This workload's SPIFFE id, as signed; none before [`Security::ready`] and without certificates.
    #[must_use]
    pub fn id(&self) -> Option<SpiffeId> {
        self.0.svid.borrow().as_ref().map(|svid| svid.id().clone())
    }

    /// The current certificate, and every one after it.
    #[must_use]
    pub fn svid(&self) -> watch::Receiver<Option<Arc<Svid>>> {
        self.0.svid.subscribe()
    }

    /// The current JWT for `audience`, or the one for the trust domain; none unless Sentry issues them.
    #[must_use]
    pub fn jwt(&self, audience: Option<&str>) -> Option<String> {
        self.0
            .svid
            .borrow()
            .as_ref()
            .and_then(|svid| svid.jwt(audience).map(str::to_owned))
    }

    /// The trust anchors; the receiver sees every change.
    #[must_use]
    pub fn anchors(&self) -> watch::Receiver<Arc<TrustBundle>> {
        self.0.bundle.subscribe()
    }

    /// Renews the certificate now instead of at half its life.
    pub fn renew(&self) {
        self.0.renew.notify_one();
    }

    /// Server side of mutual TLS: callers need a certificate that chains to the anchors. ALPN h2 and http/1.1.
    #[must_use]
    pub fn server(&self) -> Option<Arc<rustls::ServerConfig>> {
        self.0.mtls.then(|| tls::server(&self.0, true))
    }

    /// TLS with this workload's certificate and without client certificates: webhooks, Sentry.
    #[must_use]
    pub fn server_tls(&self) -> Option<Arc<rustls::ServerConfig>> {
        self.0.needed.then(|| tls::server(&self.0, false))
    }

    /// Client side of mutual TLS; a server that is not the expected one is refused. Control-plane peers
    /// ([`Expect::Id`]) are called with TLS on Kubernetes even when mTLS between sidecars is off.
    ///
    /// Keep the configuration for as long as the target is called: it holds the sessions to resume.
    #[must_use]
    pub fn client(&self, expect: Expect) -> Option<Arc<rustls::ClientConfig>> {
        let wanted = self.0.mtls || (self.0.needed && matches!(expect, Expect::Id(_)));
        wanted.then(|| tls::client(&self.0, expect, true))
    }
}

/// The identity behind a request: none without mutual TLS.
///
/// # Errors
/// [`Error::Id`] when the caller's URI name is not of Dapr's form.
pub fn peer_id(peer: &transport::Peer) -> Result<Option<SpiffeId>, Error> {
    peer.identity
        .as_ref()
        .map(|identity| identity.uri().parse())
        .transpose()
}

pub(crate) type Signal = Notify;
