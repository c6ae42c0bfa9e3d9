//! What a program has to say about its identity.

use std::path::PathBuf;

/// How this workload gets and proves its identity. The caller has read flags and environment; nothing here does.
#[derive(Clone, Debug)]
pub struct Options {
    /// The app id, or the name of a control-plane service such as [`crate::PLACEMENT`].
    pub app_id: String,
    /// Asked for instead of `app_id` (`SENTRY_LOCAL_IDENTITY`).
    pub requested_id: Option<String>,
    /// Namespace of this workload.
    pub namespace: String,
    /// Trust domain to ask for. None: the control plane's for its own services, else Sentry decides.
    pub trust_domain: Option<String>,
    /// Trust domain of Sentry.
    pub control_plane_trust_domain: String,
    /// Namespace of Sentry.
    pub control_plane_namespace: String,
    /// `host:port` of Sentry.
    pub sentry_address: String,
    /// Roots that Sentry's certificate, and everyone else's, must chain to.
    pub anchors: Anchors,
    /// How to prove the identity to Sentry.
    pub token: TokenSource,
    /// Kind of private key.
    pub key: KeyKind,
    /// Mutual TLS between sidecars.
    pub mtls: bool,
    /// Kubernetes mode: the control plane is called with TLS even without `mtls`.
    pub kubernetes: bool,
    /// Audiences of JWTs to ask for.
    pub jwt_audiences: Vec<String>,
    /// Where `dapr_runtime_mtls_*` metrics are registered.
    pub registry: prometheus::Registry,
}

impl Options {
    /// Of a workload without an identity: nobody asks sentry for one, and nothing speaks mTLS.
    #[must_use]
    pub fn without_identity(app_id: &str, registry: &prometheus::Registry) -> Self {
        Self {
            trust_domain: None,
            mtls: false,
            ..Self::control_plane(
                app_id,
                "default",
                "cluster.local",
                "",
                Anchors::Static(Vec::new()),
                registry,
            )
        }
    }

    /// Those of a service of the control plane that sidecars call, with mutual TLS and outside Kubernetes.
    #[must_use]
    pub fn control_plane(
        service: &str,
        namespace: &str,
        trust_domain: &str,
        sentry_address: &str,
        anchors: Anchors,
        registry: &prometheus::Registry,
    ) -> Self {
        Self {
            app_id: service.to_owned(),
            requested_id: None,
            namespace: namespace.to_owned(),
            trust_domain: Some(trust_domain.to_owned()),
            control_plane_trust_domain: trust_domain.to_owned(),
            control_plane_namespace: namespace.to_owned(),
            sentry_address: sentry_address.to_owned(),
            anchors,
            token: TokenSource::default(),
            key: KeyKind::default(),
            mtls: true,
            kubernetes: false,
            jwt_audiences: Vec::new(),
            registry: registry.clone(),
        }
    }
}

/// Where trust anchors come from.
#[derive(Clone, Debug)]
pub enum Anchors {
    /// PEM that does not change, as in `DAPR_TRUST_ANCHORS`.
    Static(Vec<u8>),
    /// A PEM file that is watched; it may appear later.
    File(PathBuf),
}

/// Where the token for Sentry comes from; files are read anew for every request.
#[derive(Clone, Debug)]
pub struct TokenSource {
    /// A file named by the user (`DAPR_SENTRY_TOKEN_FILE`): must exist, for the JWKS validator outside Kubernetes.
    pub file: Option<PathBuf>,
    /// Without `file`, on Kubernetes: the first of these that exists is used. None of them existing is no error.
    pub kubernetes: Vec<PathBuf>,
}

impl Default for TokenSource {
    /// The projected token, then the legacy service account token (contract 6.4).
    fn default() -> Self {
        Self {
            file: None,
            kubernetes: vec![
                "/var/run/secrets/dapr.io/sentrytoken/token".into(),
                "/var/run/secrets/kubernetes.io/serviceaccount/token".into(),
            ],
        }
    }
}

/// Kind of a workload's private key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyKind {
    /// The default.
    #[default]
    Ed25519,
    /// For services that the Kubernetes API server calls: some distributions refuse Ed25519.
    Rsa2048,
}
