//! Tests of the OIDC documents and of whom they are shown to.

use http_body_util::BodyExt as _;
use serde_json::Value;

use super::*;
use crate::config::Policy;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::store::Store;

async fn keeper(folder: &std::path::Path) -> Arc<Keeper> {
    use clap::Parser as _;
    let flags = [
        "sentry",
        "--jwt-enabled=true",
        "--issuer-credentials",
        folder.to_str().unwrap(),
    ];
    let settings = Settings::new(&crate::Flags::parse_from(flags), |_| None).unwrap();
    let policy = Policy {
        workload_ttl: Duration::from_secs(60),
        clock_skew: Duration::from_secs(10),
        jwks: None,
    };
    let meter = telemetry::Meter::new(
        &prometheus::Registry::new(),
        telemetry::MetricOptions::default(),
    )
    .unwrap();
    let store = Store::Files(settings.paths.clone());
    Arc::new(
        Keeper::open(crate::keeper::Options {
            store,
            settings,
            policy,
            metrics: Metrics::new(&meter),
            clock: Arc::new(values::SystemClock),
        })
        .await
        .unwrap(),
    )
}

fn oidc() -> Oidc {
    Oidc {
        host: String::new(),
        port: 0,
        tls: None,
        issuer: None,
        jwks_uri: None,
        path_prefix: None,
        allowed_hosts: Vec::new(),
    }
}

struct Asked<'a> {
    keeper: &'a Arc<Keeper>,
    settings: Oidc,
}

impl Asked<'_> {
    async fn get(&self, path: &str, headers: &[(&'static str, &str)]) -> (u16, Value) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let server = Server::new(self.keeper.clone(), self.settings.clone());
        let answer = server.0.answer(&Method::GET, &path.parse().unwrap(), &map);
        let status = answer.status().as_u16();
        if status == 200 {
            assert_eq!(answer.headers()["cache-control"], "public, max-age=3600");
        }
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }
}

const DISCOVERY: &str = "/.well-known/openid-configuration";

#[tokio::test]
async fn documents_name_issuer_and_keys() {
    let folder = tempfile::tempdir().unwrap();
    let keeper = keeper(folder.path()).await;
    let plain = Asked {
        keeper: &keeper,
        settings: oidc(),
    };
    let (status, discovery) = plain.get(DISCOVERY, &[("host", "me:9080")]).await;
    assert_eq!(status, 200);
    assert_eq!(discovery["issuer"], "http://me:9080");
    assert_eq!(discovery["jwks_uri"], "http://me:9080/jwks.json");
    assert_eq!(
        discovery["id_token_signing_alg_values_supported"],
        serde_json::json!(["RS256"])
    );
    let (status, jwks) = plain.get("/jwks.json", &[("host", "me")]).await;
    assert_eq!(
        (status, &jwks["keys"][0]["kty"]),
        (200, &serde_json::json!("RSA"))
    );
    assert!(jwks["keys"][0].get("d").is_none());
    assert_eq!(plain.get("/authorize", &[]).await.0, 404);

    let settings = Oidc {
        issuer: Some("https://issuer:443/x".into()),
        path_prefix: Some("/p/".into()),
        ..oidc()
    };
    let prefixed = Asked {
        keeper: &keeper,
        settings,
    };
    assert_eq!(prefixed.get(DISCOVERY, &[("host", "me")]).await.0, 404);
    let (_, discovery) = prefixed
        .get("/p/.well-known/openid-configuration", &[("host", "me")])
        .await;
    assert_eq!(discovery["issuer"], "https://issuer:443/x");
    assert_eq!(discovery["jwks_uri"], "https://issuer:443/p/jwks.json");
    let settings = Oidc {
        jwks_uri: Some("https://elsewhere/keys".into()),
        ..oidc()
    };
    let (_, discovery) = Asked {
        keeper: &keeper,
        settings,
    }
    .get(DISCOVERY, &[("host", "me")])
    .await;
    assert_eq!(discovery["jwks_uri"], "https://elsewhere/keys");
}

#[tokio::test]
async fn hosts_are_checked_and_forwarded_ones_only_believed_when_listed() {
    let folder = tempfile::tempdir().unwrap();
    let keeper = keeper(folder.path()).await;
    let with = |hosts: &[&str]| Asked {
        keeper: &keeper,
        settings: Oidc {
            allowed_hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            ..oidc()
        },
    };
    let evil = [("host", "good"), ("x-forwarded-host", "evil")];
    assert_eq!(
        with(&[]).get(DISCOVERY, &evil).await.1["issuer"],
        "http://good"
    );
    assert_eq!(
        with(&["*"]).get(DISCOVERY, &evil).await.1["issuer"],
        "http://good"
    );
    assert_eq!(with(&["good"]).get(DISCOVERY, &evil).await.0, 403);
    assert_eq!(
        with(&["good"])
            .get(DISCOVERY, &[("host", "good:9080")])
            .await
            .0,
        200
    );
    assert_eq!(
        with(&["good"]).get(DISCOVERY, &[("host", "bad")]).await.0,
        403
    );
    let listed = [("host", "good"), ("x-forwarded-host", "front")];
    assert_eq!(
        with(&["front"]).get(DISCOVERY, &listed).await.1["issuer"],
        "http://front"
    );
    assert_eq!(
        with(&[]).get(DISCOVERY, &[("host", "not a host")]).await.0,
        400
    );
}
