//! Who this sidecar is: its certificate from sentry, or no identity at all.

use anyhow::{Context, Result, bail};
use daemon::Daemon;
use security::{Anchors, Expect, KeyKind, Options, Security, SpiffeId, TokenSource};
use settings::{Mode, Resolved};

/// Opens the identity and keeps it fresh.
///
/// # Errors
/// Where mTLS lacks its trust anchors or the address of sentry.
pub fn open(
    settings: &Resolved,
    trust_domain: Option<String>,
    daemon: &Daemon,
) -> Result<Security> {
    let kubernetes = settings.mode == Mode::Kubernetes;
    let anchors = settings.trust_anchors.clone().unwrap_or_default();
    if settings.mtls || kubernetes {
        if anchors.is_empty() {
            bail!("DAPR_TRUST_ANCHORS must hold the trust anchors when mTLS is on");
        }
        if settings.sentry_address.is_empty() {
            bail!("--sentry-address must be set when mTLS is on");
        }
    }
    let (security, runner) = security::new(Options {
        app_id: settings.app.id.clone(),
        requested_id: settings.sentry_local_identity.clone(),
        namespace: namespace(settings),
        trust_domain,
        control_plane_trust_domain: settings.control_plane_trust_domain.clone(),
        control_plane_namespace: settings.control_plane_namespace.clone(),
        sentry_address: settings.sentry_address.clone(),
        anchors: Anchors::Static(anchors.into_bytes()),
        token: TokenSource {
            file: settings.sentry_token_file.clone(),
            ..TokenSource::default()
        },
        key: KeyKind::Ed25519,
        mtls: settings.mtls,
        kubernetes,
        jwt_audiences: settings.sentry_request_jwt_audiences.clone(),
        registry: daemon.registry().clone(),
    })
    .context("identity")?;
    let shutdown = daemon.shutdown();
    daemon.spawn("identity", async move { Ok(runner.run(shutdown).await?) });
    Ok(security)
}

/// The namespace of the certificate: on a machine without one it is `default`.
pub fn namespace(settings: &Resolved) -> String {
    match settings.namespace.as_str() {
        "" => "default".to_owned(),
        given => given.to_owned(),
    }
}

/// A service of the control plane, as the peer that its clients expect.
pub fn control_plane(settings: &Resolved, service: &str) -> Result<Expect> {
    let domain = &settings.control_plane_trust_domain;
    let namespace = &settings.control_plane_namespace;
    let id: SpiffeId = format!("spiffe://{domain}/ns/{namespace}/{service}").parse()?;
    Ok(Expect::Id(id))
}
