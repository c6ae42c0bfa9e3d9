//! Sentry and the security library against each other over real sockets.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use proto::sentry::v1::ca_server::CaServer;
use security::{Anchors, KeyKind, Options, Security, TokenSource};
use sentry::config::Policy;
use sentry::keeper::{self, Keeper};
use sentry::metrics::Metrics;
use sentry::own::OwnCertificate;
use sentry::reload::Reload;
use sentry::service::{self, Service};
use sentry::settings::Settings;
use sentry::store::Store;
use sentry::validator::Validators;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use transport::Listener;

const DEADLINE: Duration = Duration::from_secs(30);

#[allow(clippy::disallowed_methods, reason = "the handle owns the task")]
fn spawn<F>(future: F) -> AbortOnDropHandle<()>
where
    F: Future + Send + 'static,
{
    AbortOnDropHandle::new(tokio::spawn(async move { drop(future.await) }))
}

struct Sentry {
    address: String,
    keeper: Arc<Keeper>,
    security: Security,
    settings: Settings,
    metrics: prometheus::Registry,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

async fn sentry(folder: &Path) -> Sentry {
    let flags = [
        "sentry",
        "--jwt-enabled",
        "--issuer-credentials",
        folder.to_str().unwrap(),
    ];
    let settings = Settings::new(&sentry::Flags::parse_from(flags), |_| None).unwrap();
    let policy = Policy {
        workload_ttl: Duration::from_secs(3600),
        clock_skew: Duration::from_secs(60),
        jwks: None,
    };
    let registry = prometheus::Registry::new();
    let metrics = Metrics::new(
        &telemetry::Meter::new(&registry, telemetry::MetricOptions::default()).unwrap(),
    );
    let store = Store::Files(settings.paths.clone());
    let keeper = Keeper::open(keeper::Options {
        store,
        settings: settings.clone(),
        policy,
        metrics: metrics.clone(),
        clock: Arc::new(values::SystemClock),
    })
    .await
    .unwrap();
    let keeper = Arc::new(keeper);
    let own = OwnCertificate {
        keeper: keeper.clone(),
        metrics: metrics.clone(),
        sentry: settings.id.clone(),
    };
    let (security, runner) = Security::from_source(Box::new(own), KeyKind::Ed25519);
    let identity = spawn(runner.run(CancellationToken::new()));
    timeout(DEADLINE, security.ready()).await.unwrap().unwrap();
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let service = Service::new(service::Options {
        keeper: keeper.clone(),
        validators: Validators {
            kubernetes: None,
            jwks: None,
        },
        metrics: metrics.clone(),
        sentry: settings.id.clone(),
        cluster_domain: "cluster.local".into(),
    });
    let service = CaServer::new(service).max_decoding_message_size(sentry::server::MAX_MESSAGE);
    let service = sentry::server::bounded(tonic::service::Routes::new(service), &metrics);
    let options = sentry::server::options(security.server_tls(), &metrics);
    let server = spawn(transport::serve(
        listener,
        options,
        service,
        CancellationToken::new(),
    ));
    Sentry {
        address,
        keeper,
        security,
        settings,
        metrics: registry,
        _tasks: vec![identity, server],
    }
}

fn options(sentry: &Sentry, app_id: &str, key: KeyKind) -> Options {
    Options {
        app_id: app_id.into(),
        requested_id: None,
        namespace: "default".into(),
        trust_domain: None,
        control_plane_trust_domain: "localhost".into(),
        control_plane_namespace: "default".into(),
        sentry_address: sentry.address.clone(),
        anchors: Anchors::Static(sentry.keeper.current().authority.anchors().into()),
        token: TokenSource::default(),
        key,
        mtls: true,
        kubernetes: false,
        jwt_audiences: vec!["cloud".into()],
        registry: prometheus::Registry::new(),
    }
}

async fn workload(options: Options) -> (Security, AbortOnDropHandle<()>) {
    let (security, runner) = security::new(options).unwrap();
    let runner = spawn(runner.run(CancellationToken::new()));
    timeout(DEADLINE, security.ready()).await.unwrap().unwrap();
    (security, runner)
}

#[tokio::test]
async fn workloads_get_certificates_and_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let sentry = sentry(folder.path()).await;
    let (app, _app) = workload(options(&sentry, "app", KeyKind::Ed25519)).await;
    assert_eq!(
        app.id().unwrap().to_string(),
        "spiffe://public/ns/default/app"
    );
    let keys = sentry.keeper.current();
    let keys = tokens::KeySet::from_json(keys.jwt.as_ref().unwrap().jwks()).unwrap();
    for (audience, wanted) in [
        (None, "cloud"),
        (None, "public"),
        (Some("cloud"), "cloud"),
        (Some("public"), "public"),
    ] {
        let check = tokens::Check {
            audience: Some(wanted.into()),
            subject: Some("spiffe://public/ns/default/app".into()),
            ..tokens::Check::default()
        };
        keys.verify(&app.jwt(audience).unwrap(), &check, jiff::Timestamp::now())
            .unwrap();
    }
    let (injector, _injector) = workload(options(&sentry, "dapr-injector", KeyKind::Rsa2048)).await;
    assert_eq!(
        injector.id().unwrap().to_string(),
        "spiffe://localhost/ns/default/dapr-injector"
    );
    let svid = injector.svid().borrow().clone().unwrap();
    let leaf = &svid.certificates()[0];
    let name = b"dapr-sidecar-injector.default.svc";
    assert!(leaf.windows(name.len()).any(|window| window == name));
    let count = |name: &str| {
        let families = sentry.metrics.gather();
        let family = families
            .iter()
            .find(|family| family.name() == name)
            .unwrap();
        family.get_metric()[0].get_counter().get_value()
    };
    assert!((count("dapr_sentry_cert_sign_success_total") - 2.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn a_new_root_is_taken_over_under_open_connections() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sentry = sentry(folder.path()).await;
    let (app, _app) = workload(options(&sentry, "app", KeyKind::Ed25519)).await;
    let new = crate::sentry(other.path()).await;
    let old_root = sentry.keeper.current().authority.anchors().to_owned();
    let new_root = new.keeper.current().authority.anchors().to_owned();

    let reload = Reload {
        keeper: sentry.keeper.clone(),
        security: sentry.security.clone(),
        oidc: None,
        renewal: None,
    };
    let watched: Vec<_> = sentry
        .settings
        .watched()
        .into_iter()
        .map(Path::to_owned)
        .collect();
    let _reload = spawn(async move {
        let watched: Vec<&Path> = watched.iter().map(AsRef::as_ref).collect();
        reload.run(&watched, CancellationToken::new()).await
    });
    let mut own_anchors = sentry.security.anchors();
    own_anchors.borrow_and_update();
    // Both roots are handed out first, then the new issuer signs: nobody is cut off in between.
    std::fs::write(
        folder.path().join("ca.crt"),
        format!("{old_root}{new_root}"),
    )
    .unwrap();
    timeout(DEADLINE, own_anchors.changed())
        .await
        .unwrap()
        .unwrap();
    assert!(own_anchors.borrow().pem().ends_with(new_root.as_bytes()));
    let mut anchors = app.anchors();
    anchors.borrow_and_update();
    app.renew();
    timeout(DEADLINE, anchors.changed()).await.unwrap().unwrap();
    assert_eq!(anchors.borrow().certificates().len(), 2);

    for name in ["issuer.crt", "issuer.key"] {
        std::fs::copy(other.path().join(name), folder.path().join(name)).unwrap();
    }
    let mut own = sentry.security.svid();
    own.borrow_and_update();
    timeout(DEADLINE, own.changed()).await.unwrap().unwrap();
    let mut svid = app.svid();
    svid.borrow_and_update();
    app.renew();
    timeout(DEADLINE, svid.changed()).await.unwrap().unwrap();
    let issuer = new.security.svid().borrow().clone().unwrap().certificates()[1].clone();
    assert_eq!(svid.borrow().as_ref().unwrap().certificates()[1], issuer);
}
