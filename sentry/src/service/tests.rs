//! What happens before anybody knows who calls.

use std::path::Path;
use std::time::Duration;

use clap::Parser as _;
use futures::future::join_all;
use kubernetes_fake::{Fake, Fault, On};
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;

use super::*;
use crate::api_server::ApiServer;
use crate::config::Policy;
use crate::gate::{REVIEWS, REVIEWS_PER_PEER};
use crate::keeper;
use crate::settings::Settings;
use crate::store::Store;
use crate::validator::KubernetesValidator;

async fn service(fake: &Fake, folder: &Path) -> Service {
    let folder = folder.to_str().expect("a name");
    let flags = crate::Flags::parse_from(["sentry", "--issuer-credentials", folder]);
    let settings = Settings::new(&flags, |_| None).expect("settings");
    let registry = prometheus::Registry::new();
    let meter = telemetry::Meter::new(&registry, telemetry::MetricOptions::default());
    let metrics = Metrics::new(&meter.expect("a meter"));
    let policy = Policy {
        workload_ttl: Duration::from_secs(3600),
        clock_skew: Duration::from_secs(60),
        jwks: None,
    };
    let store = Store::Files(settings.paths.clone());
    let keeper = Keeper::open(keeper::Options {
        store,
        settings: settings.clone(),
        policy,
        metrics: metrics.clone(),
        clock: Arc::new(values::SystemClock),
    })
    .await;
    let api = ApiServer::new(fake.client());
    Service::new(Options {
        keeper: Arc::new(keeper.expect("credentials")),
        validators: Validators {
            kubernetes: Some(KubernetesValidator::new(api, &settings.id)),
            jwks: None,
        },
        metrics,
        sentry: settings.id,
        cluster_domain: "cluster.local".into(),
    })
}

fn request(name: &str) -> SignCertificateRequest {
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let csr = params.serialize_request(&key).expect("a request");
    SignCertificateRequest {
        id: "app".into(),
        namespace: "default".into(),
        token: json!({"kubernetes.io": {"pod": {"name": "pod-1"}}}).to_string(),
        certificate_signing_request: csr.pem().expect("text").into_bytes().into(),
        ..SignCertificateRequest::default()
    }
}

fn peer(number: u8) -> Option<IpAddr> {
    Some(IpAddr::from([10, 0, 0, number]))
}

#[tokio::test]
async fn a_bad_request_costs_the_api_server_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::new();
    let service = service(&fake, folder.path()).await;
    let nonsense = SignCertificateRequest {
        certificate_signing_request: b"nonsense".to_vec().into(),
        ..request("app")
    };
    let weak = include_bytes!("../ca/testdata/rsa1024.csr");
    let weak = SignCertificateRequest {
        certificate_signing_request: weak.to_vec().into(),
        ..request("app")
    };
    let audiences = SignCertificateRequest {
        jwt_audiences: vec![String::new(); MAX_AUDIENCES + 1],
        ..request("app")
    };
    for (bad, reason) in [
        (
            request("dapr-webhook.default.svc"),
            "dapr-webhook.default.svc",
        ),
        (nonsense, "invalid certificate signing request"),
        (weak, "RSA of 1024 bits"),
        (audiences, "32 jwt audiences"),
    ] {
        let status = service.sign(peer(1), &bad).await.unwrap_err().status();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(reason), "{}", status.message());
    }
    for token in ["", "x", "{}"] {
        let bad = SignCertificateRequest {
            token: token.into(),
            ..request("app")
        };
        let status = service.sign(peer(1), &bad).await.unwrap_err().status();
        assert_eq!(status.code(), Code::PermissionDenied);
    }
    assert!(fake.seen().is_empty(), "{:?}", fake.lines());
}

/// Callers that never hear from the API server leave turns to others, and others are told soon if there is none.
#[tokio::test]
async fn one_caller_cannot_take_all_reviews() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::new();
    let service = service(&fake, folder.path()).await;
    fake.fault(On::all(), Fault::Hang);
    let good = request("app");
    let hanging = |number: u8| std::iter::repeat_with(move || peer(number)).take(REVIEWS_PER_PEER);
    let peers = u8::try_from(REVIEWS / REVIEWS_PER_PEER).unwrap();
    let calls = (1..peers).flat_map(hanging);
    let all = join_all(calls.map(|peer| service.sign(peer, &good)));
    let asked = async {
        let full = service.sign(peer(1), &good).await.unwrap_err().status();
        assert_eq!(full.code(), Code::ResourceExhausted, "{full}");
        let expected = REVIEWS - REVIEWS_PER_PEER;
        fake.until("asked", |fake| fake.seen().len() == expected)
            .await;
        let mut rest: Vec<_> = hanging(100)
            .map(|peer| Box::pin(service.sign(peer, &good)))
            .collect();
        for call in &mut rest {
            let pending = std::future::poll_fn(|context| {
                std::task::Poll::Ready(call.as_mut().poll(context).is_pending())
            });
            assert!(pending.await);
        }
        let busy = service.sign(peer(200), &good).await.unwrap_err().status();
        assert_eq!(busy.code(), Code::Unavailable, "{busy}");
    };
    tokio::select! {
        // They come first.
        biased;
        _ = all => panic!("they were answered"),
        () = asked => {}
    }
}
