//! Tests of loading, making, replacing and sharing credentials.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use clap::Parser as _;
use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::cluster::Cluster;

fn settings(folder: &Path, jwt: bool) -> Settings {
    let jwt = format!("--jwt-enabled={jwt}");
    let flags = [
        "sentry",
        &jwt,
        "--issuer-credentials",
        folder.to_str().unwrap(),
    ];
    Settings::new(&crate::Flags::parse_from(flags), |_| None).unwrap()
}

async fn keeper(store: Store, settings: Settings) -> Result<Keeper, Error> {
    let policy = Policy {
        workload_ttl: Duration::from_secs(3600),
        clock_skew: Duration::from_secs(10),
        jwks: None,
    };
    let meter = telemetry::Meter::new(
        &prometheus::Registry::new(),
        telemetry::MetricOptions::default(),
    )
    .unwrap();
    Keeper::open(store, settings, policy, Metrics::new(&meter)).await
}

async fn in_files(folder: &Path, jwt: bool) -> Result<Keeper, Error> {
    let settings = settings(folder, jwt);
    keeper(Store::Files(settings.paths.clone()), settings).await
}

#[tokio::test]
async fn missing_files_are_made_and_found_again() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("made/by/sentry");
    let first = in_files(&inner, false).await.unwrap();
    for name in ["ca.crt", "issuer.crt", "issuer.key"] {
        assert_eq!(
            std::fs::metadata(inner.join(name))
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o600
        );
    }
    assert!(!inner.join("jwt.key").exists());
    let second = in_files(&inner, true).await.unwrap();
    assert_eq!(
        first.current().authority.anchors(),
        second.current().authority.anchors()
    );
    assert!(second.current().jwt.is_some());
    let jwks = std::fs::read(inner.join("jwks.json")).unwrap();
    std::fs::remove_file(inner.join("jwks.json")).unwrap();
    let third = in_files(&inner, true).await.unwrap();
    let kid =
        |json: &[u8]| serde_json::from_slice::<Value>(json).unwrap()["keys"][0]["kid"].clone();
    assert_eq!(
        kid(third.current().jwt.as_ref().unwrap().jwks()),
        kid(&jwks)
    );
}

#[tokio::test]
async fn an_issuer_key_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    in_files(folder.path(), false).await.unwrap();
    let key = std::fs::read(folder.path().join("issuer.key")).unwrap();
    std::fs::remove_file(folder.path().join("ca.crt")).unwrap();
    assert!(matches!(
        in_files(folder.path(), false).await,
        Err(Error::Incomplete {
            missing: "the root certificate"
        })
    ));
    assert_eq!(
        std::fs::read(folder.path().join("issuer.key")).unwrap(),
        key
    );
}

#[tokio::test]
async fn changed_files_are_taken_over_unless_they_are_broken() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let keeper = in_files(folder.path(), false).await.unwrap();
    let before = keeper.current().authority.anchors().to_owned();
    assert!(!keeper.reload().await.unwrap());
    let changed = in_files(other.path(), false).await.unwrap();
    let copy =
        |name: &str| std::fs::copy(other.path().join(name), folder.path().join(name)).unwrap();
    copy("issuer.key");
    assert!(matches!(
        keeper.reload().await,
        Err(Error::Authority(ca::Error::KeyMismatch))
    ));
    assert_eq!(keeper.current().authority.anchors(), before);
    copy("issuer.crt");
    copy("ca.crt");
    assert!(keeper.reload().await.unwrap());
    assert_eq!(
        keeper.current().authority.anchors(),
        changed.current().authority.anchors()
    );
    std::fs::remove_file(folder.path().join("ca.crt")).unwrap();
    assert!(matches!(keeper.reload().await, Err(Error::Gone { .. })));
    assert_eq!(
        keeper.current().authority.anchors(),
        changed.current().authority.anchors()
    );
}

/// An API server with a Secret and a ConfigMap, which refuses writes of old versions.
#[derive(Clone, Default)]
struct Api(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    secret: Value,
    config_map: Value,
    version: u64,
    writes: usize,
    /// Does not answer any more, and says when it is asked.
    silent: Option<Arc<tokio::sync::Notify>>,
}

impl Api {
    fn new() -> Self {
        let api = Self::default();
        let object = || json!({"metadata": {"name": "dapr-trust-bundle", "resourceVersion": "0", "labels": {"a": "b"}}});
        let mut state = api.0.lock().unwrap();
        (state.secret, state.config_map) = (object(), object());
        drop(state);
        api
    }

    fn answer(&self, method: &http::Method, path: &str, body: &[u8]) -> (u16, Value) {
        let mut state = self.0.lock().unwrap();
        let version = state.version + 1;
        let object = match path {
            "/api/v1/namespaces/default/secrets/dapr-trust-bundle" => &mut state.secret,
            "/api/v1/namespaces/default/configmaps/dapr-trust-bundle" => &mut state.config_map,
            _ => return (404, json!({"kind": "Status", "code": 404})),
        };
        if method == http::Method::PUT {
            let mut new: Value = serde_json::from_slice(body).unwrap();
            if new["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] {
                return (
                    409,
                    json!({"kind": "Status", "code": 409, "reason": "Conflict"}),
                );
            }
            new["metadata"]["resourceVersion"] = version.to_string().into();
            *object = new;
            let answer = object.clone();
            (state.version, state.writes) = (version, state.writes + 1);
            return (200, answer);
        }
        (200, object.clone())
    }

    fn store(&self) -> Store {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                // Everyone gets a turn between reading and writing, so that replicas do collide.
                tokio::task::yield_now().await;
                let silent = api.0.lock().unwrap().silent.clone();
                if let Some(asked) = silent {
                    asked.notify_one();
                    std::future::pending::<()>().await;
                }
                let (status, answer) = api.answer(&parts.method, parts.uri.path(), &body);
                let body = Body::from(answer.to_string().into_bytes());
                Ok::<_, std::convert::Infallible>(
                    Response::builder().status(status).body(body).unwrap(),
                )
            }
        });
        let cluster = Cluster::new(kube::Client::new(service, "default"));
        let paths = settings(Path::new("/nowhere"), true).paths;
        Store::Cluster {
            cluster,
            namespace: "default".to_owned(),
            paths,
        }
    }
}

#[tokio::test]
async fn replicas_that_start_together_agree() {
    let api = Api::new();
    let open = || keeper(api.store(), settings(Path::new("/nowhere"), true));
    let (one, two, three) = tokio::join!(open(), open(), open());
    let anchors = one.unwrap().current().authority.anchors().to_owned();
    assert_eq!(two.unwrap().current().authority.anchors(), anchors);
    assert_eq!(three.unwrap().current().authority.anchors(), anchors);
    let state = api.0.lock().unwrap();
    assert_eq!(state.config_map["data"]["ca.crt"], anchors);
    assert!(
        state.config_map["data"]["jwks.json"]
            .as_str()
            .unwrap()
            .contains("RSA")
    );
    assert!(state.config_map["data"].get("issuer.key").is_none());
    assert_eq!(
        state.secret["metadata"]["labels"]["a"], "b",
        "nothing else is lost"
    );
    assert_eq!(state.writes, 2);
}

#[tokio::test]
async fn the_secret_wins_over_the_config_map() {
    let api = Api::new();
    let open = || keeper(api.store(), settings(Path::new("/nowhere"), false));
    let anchors = open()
        .await
        .unwrap()
        .current()
        .authority
        .anchors()
        .to_owned();
    for broken in [json!({}), json!({"ca.crt": "something else"}), Value::Null] {
        api.0.lock().unwrap().config_map["data"] = broken;
        assert_eq!(open().await.unwrap().current().authority.anchors(), anchors);
        assert_eq!(api.0.lock().unwrap().config_map["data"]["ca.crt"], anchors);
    }
    let writes = api.0.lock().unwrap().writes;
    open().await.unwrap();
    assert_eq!(api.0.lock().unwrap().writes, writes, "nothing to write");
}

#[tokio::test]
async fn a_store_that_does_not_answer_holds_up_no_shutdown() {
    let api = Api::new();
    let settings = settings(Path::new("/nowhere"), false);
    let sentry = settings.id.clone();
    let keeper = Arc::new(keeper(api.store(), settings).await.unwrap());
    let asked = Arc::new(tokio::sync::Notify::new());
    api.0.lock().unwrap().silent = Some(asked.clone());
    let own = crate::service::OwnCertificate {
        keeper: keeper.clone(),
        metrics: keeper.metrics.clone(),
        sentry,
    };
    let (security, _runner) =
        security::Security::from_source(Box::new(own), security::KeyKind::Ed25519);
    let reload = crate::reload::Reload {
        keeper,
        security,
        oidc: None,
    };
    let shutdown = tokio_util::sync::CancellationToken::new();
    let stop = async {
        asked.notified().await;
        shutdown.cancel();
    };
    let both = async { tokio::join!(reload.run(&[], shutdown.clone()), stop) };
    let ended = tokio::time::timeout(Duration::from_secs(20), both).await;
    assert!(ended.expect("at once").0.is_ok());
}
