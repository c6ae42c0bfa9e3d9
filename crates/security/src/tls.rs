//! rustls configurations that read the current certificate and anchors at every handshake.

use std::sync::Arc;

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig, SignatureScheme};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::session::Sessions;
use crate::verify::{Expect, Verifier};
use crate::{Signal, Svid, TrustBundle};

/// What handle, runner and TLS configurations have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Sidecars speak mutual TLS.
    pub(crate) mtls: bool,
    /// There is a certificate at all.
    pub(crate) needed: bool,
    pub(crate) svid: watch::Sender<Option<Arc<Svid>>>,
    pub(crate) bundle: watch::Sender<Arc<TrustBundle>>,
    pub(crate) renew: Signal,
    /// Cancelled when the runner has ended.
    pub(crate) stopped: CancellationToken,
}

impl Shared {
    pub(crate) fn new(mtls: bool, needed: bool, bundle: TrustBundle) -> Self {
        Self {
            mtls,
            needed,
            svid: watch::Sender::new(None),
            bundle: watch::Sender::new(Arc::new(bundle)),
            renew: Signal::new(),
            stopped: CancellationToken::new(),
        }
    }
}

const H2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";

pub(crate) fn server(shared: &Arc<Shared>, mutual: bool) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = verifier(shared, Expect::Any, &provider);
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3");
    let builder = if mutual {
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_cert_resolver(Arc::new(CurrentSvid(shared.clone())));
    config.alpn_protocols = vec![H2.to_vec(), HTTP_1_1.to_vec()];
    config.session_storage = Arc::new(Sessions::server(shared.bundle.subscribe()));
    Arc::new(config)
}

pub(crate) fn client(
    shared: &Arc<Shared>,
    expect: Expect,
    authenticate: bool,
) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = verifier(shared, expect, &provider);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = if authenticate {
        builder.with_client_cert_resolver(Arc::new(CurrentSvid(shared.clone())))
    } else {
        builder.with_no_client_auth()
    };
    config.alpn_protocols = vec![H2.to_vec()];
    config.resumption = Resumption::store(Arc::new(Sessions::client(shared.bundle.subscribe())));
    Arc::new(config)
}

fn verifier(
    shared: &Arc<Shared>,
    expect: Expect,
    provider: &rustls::crypto::CryptoProvider,
) -> Arc<Verifier> {
    let algorithms = provider.signature_verification_algorithms;
    Arc::new(Verifier {
        shared: shared.clone(),
        expect,
        algorithms,
    })
}

/// Presents the current certificate.
#[derive(Debug)]
struct CurrentSvid(Arc<Shared>);

impl CurrentSvid {
    fn now(&self) -> Option<Arc<CertifiedKey>> {
        self.0.svid.borrow().as_ref().map(|svid| svid.certified())
    }
}

impl ResolvesServerCert for CurrentSvid {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.now()
    }
}

impl ResolvesClientCert for CurrentSvid {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.now()
    }

    fn has_certs(&self) -> bool {
        self.0.svid.borrow().is_some()
    }
}
