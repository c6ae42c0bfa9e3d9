//! Tests of loading, making, replacing and sharing credentials.

mod rotation;

use std::path::Path;
use std::time::Duration;

use clap::Parser as _;
use kubernetes_fake::{Fake, Fault, On};
use serde_json::{Value, json};

use super::*;
use crate::api_server::ApiServer;

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
    Keeper::open(Options {
        store,
        settings,
        policy,
        metrics: Metrics::new(&meter),
        clock: Arc::new(values::SystemClock),
    })
    .await
}

async fn in_files(folder: &Path, jwt: bool) -> Result<Keeper, Error> {
    let settings = settings(folder, jwt);
    keeper(Store::Files(settings.paths.clone()), settings).await
}

#[tokio::test]
async fn credentials_that_were_removed_do_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    in_files(folder.path(), false).await.unwrap();
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let [root, key] = ["ca.crt", "issuer.key"].map(read);
    for name in ["ca.crt", "issuer.crt", "issuer.key"] {
        std::fs::remove_file(folder.path().join(name)).unwrap();
    }
    in_files(folder.path(), false).await.unwrap();
    assert_ne!(read("issuer.key"), key);
    assert_ne!(read("ca.crt"), root);

    // One that is missing was not written.
    let [root, key] = ["ca.crt", "issuer.key"].map(read);
    std::fs::remove_file(folder.path().join("ca.crt")).unwrap();
    in_files(folder.path(), false).await.unwrap();
    assert_eq!([read("ca.crt"), read("issuer.key")], [root, key]);
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
async fn nothing_that_somebody_else_has_put_there_is_written_over() {
    let parts = [
        ("ca.crt", "the root certificate"),
        ("issuer.crt", "the issuer certificate"),
        ("issuer.key", "the issuer key"),
        ("jwt.key", "the jwt signing key"),
    ];
    for (name, missing) in parts {
        let folder = tempfile::tempdir().unwrap();
        in_files(folder.path(), true).await.unwrap();
        let of_tokens = name == "jwt.key";
        if !of_tokens {
            // Sentry's own set is completed; without what it wrote down about it, it is somebody else's.
            std::fs::remove_file(folder.path().join(name)).unwrap();
            in_files(folder.path(), true).await.unwrap();
            std::fs::remove_file(folder.path().join("rotation.json")).unwrap();
        }
        std::fs::remove_file(folder.path().join(name)).unwrap();
        let content = || {
            let files = std::fs::read_dir(folder.path()).unwrap();
            let path = files.map(|file| file.unwrap().path());
            let mut all: Vec<_> = path
                .map(|it| (it.clone(), std::fs::read(it).unwrap()))
                .collect();
            all.sort();
            all
        };
        let before = content();
        let refused = in_files(folder.path(), true).await.err();
        assert!(
            matches!(refused, Some(Error::Incomplete { missing: it }) if it == missing),
            "{name}: {refused:?}"
        );
        assert_eq!(content(), before);
    }
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

const SECRETS: &str = "/api/v1/secrets";
const CONFIG_MAPS: &str = "/api/v1/configmaps";
const NAME: &str = "dapr-trust-bundle";

/// An API server with the Secret and the ConfigMap that the chart makes.
fn api() -> Fake {
    let fake = Fake::new();
    let object =
        || json!({"metadata": {"name": NAME, "namespace": "default", "labels": {"a": "b"}}});
    fake.put(SECRETS, object());
    fake.put(CONFIG_MAPS, object());
    fake
}

fn store(fake: &Fake) -> Store {
    Store::Cluster {
        api: ApiServer::new(kubernetes::client::over(fake.service())),
        namespace: "default".to_owned(),
        paths: settings(Path::new("/nowhere"), true).paths,
    }
}

fn object(fake: &Fake, path: &str) -> Value {
    fake.object(path, "default", NAME).expect("there")
}

/// The newest version of the two, which every write makes one newer.
fn version(fake: &Fake) -> u64 {
    let versions = [SECRETS, CONFIG_MAPS].map(|path| {
        let object = object(fake, path);
        let version = object["metadata"]["resourceVersion"]
            .as_str()
            .expect("a version");
        version.parse::<u64>().expect("a number")
    });
    versions[0].max(versions[1])
}

#[tokio::test]
async fn replicas_that_start_together_agree() {
    let fake = api();
    let before = version(&fake);
    // Everyone gets a turn between reading and writing, so that replicas do collide.
    fake.fault(On::all(), Fault::Latency(Duration::from_millis(1)));
    let open = || keeper(store(&fake), settings(Path::new("/nowhere"), true));
    let (one, two, three) = tokio::join!(open(), open(), open());
    let anchors = one.unwrap().current().authority.anchors().to_owned();
    assert_eq!(two.unwrap().current().authority.anchors(), anchors);
    assert_eq!(three.unwrap().current().authority.anchors(), anchors);
    let config_map = object(&fake, CONFIG_MAPS);
    assert_eq!(config_map["data"]["ca.crt"], anchors);
    assert!(
        config_map["data"]["jwks.json"]
            .as_str()
            .unwrap()
            .contains("RSA")
    );
    assert!(config_map["data"].get("issuer.key").is_none());
    let secret = object(&fake, SECRETS);
    assert_eq!(
        secret["metadata"]["labels"]["a"], "b",
        "nothing else is lost"
    );
    assert_eq!(version(&fake), before + 2, "one write of each");
}

#[tokio::test]
async fn the_secret_wins_over_the_config_map() {
    let fake = api();
    let open = || keeper(store(&fake), settings(Path::new("/nowhere"), false));
    let keeper = open().await.unwrap();
    let anchors = keeper.current().authority.anchors().to_owned();
    for broken in [json!({}), json!({"ca.crt": "something else"}), Value::Null] {
        let mut config_map = object(&fake, CONFIG_MAPS);
        config_map["data"] = broken;
        fake.put(CONFIG_MAPS, config_map.clone());
        assert_eq!(open().await.unwrap().current().authority.anchors(), anchors);
        assert_eq!(object(&fake, CONFIG_MAPS)["data"]["ca.crt"], anchors);
        // while sentry runs as well
        fake.put(CONFIG_MAPS, config_map);
        assert!(!keeper.reload().await.unwrap());
        assert_eq!(object(&fake, CONFIG_MAPS)["data"]["ca.crt"], anchors);
    }
    let before = version(&fake);
    open().await.unwrap();
    assert!(!keeper.reload().await.unwrap());
    assert_eq!(version(&fake), before, "nothing to write");
    let managers = |field: &str| fake.managers(CONFIG_MAPS, "default", NAME, field);
    assert_eq!(managers("data.ca.crt"), ["dapr-sentry"]);
    // With the rights of upstream's chart.
    fake.fault(On::verb("patch"), Fault::Status(403));
    let mut config_map = object(&fake, CONFIG_MAPS);
    config_map["data"]["ca.crt"] = json!("something else");
    config_map["data"]["more"] = json!("theirs");
    fake.put(CONFIG_MAPS, config_map);
    assert!(!keeper.reload().await.unwrap());
    let data = &object(&fake, CONFIG_MAPS)["data"];
    assert_eq!(
        (&data["ca.crt"], &data["more"]),
        (&json!(anchors), &json!("theirs"))
    );
}

#[tokio::test]
async fn pods_get_the_new_root_also_when_somebody_writes_at_the_same_time() {
    let (fake, other) = (api(), api());
    let keeper_of = |fake: &Fake| keeper(store(fake), settings(Path::new("/nowhere"), false));
    let keeper = keeper_of(&fake).await.unwrap();
    let anchors = keeper_of(&other)
        .await
        .unwrap()
        .current()
        .authority
        .anchors()
        .to_owned();
    fake.put(SECRETS, object(&other, SECRETS));
    fake.fault(
        On::verb("patch").of("configmaps").times(2),
        Fault::Status(409),
    );
    assert!(keeper.reload().await.unwrap());
    assert_eq!(keeper.current().authority.anchors(), anchors);
    assert_eq!(object(&fake, CONFIG_MAPS)["data"]["ca.crt"], anchors);
    // one that never ends is no success
    fake.put(
        CONFIG_MAPS,
        json!({"metadata": {"name": NAME, "namespace": "default"}}),
    );
    fake.fault(On::verb("patch").of("configmaps"), Fault::Status(409));
    assert!(matches!(
        keeper.reload().await,
        Err(Error::Store(store::Error::Conflict))
    ));
}

#[tokio::test]
async fn a_store_that_does_not_answer_holds_up_no_shutdown() {
    let fake = api();
    let settings = settings(Path::new("/nowhere"), false);
    let sentry = settings.id.clone();
    let keeper = Arc::new(keeper(store(&fake), settings).await.unwrap());
    let before = fake.seen().len();
    fake.fault(On::all(), Fault::Hang);
    let own = crate::own::OwnCertificate {
        keeper: keeper.clone(),
        metrics: keeper.options.metrics.clone(),
        sentry,
    };
    let (security, _runner) =
        security::Security::from_source(Box::new(own), security::KeyKind::Ed25519);
    let reload = crate::reload::Reload {
        renewal: None,
        keeper,
        security,
        oidc: None,
    };
    let shutdown = tokio_util::sync::CancellationToken::new();
    let stop = async {
        fake.until("asked", |fake| fake.seen().len() > before).await;
        shutdown.cancel();
    };
    let both = async { tokio::join!(reload.run(&[], shutdown.clone()), stop) };
    let ended = tokio::time::timeout(Duration::from_secs(20), both).await;
    assert!(ended.expect("at once").0.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_is_given_up() {
    let fake = api();
    let keeper = keeper(store(&fake), settings(Path::new("/nowhere"), false))
        .await
        .unwrap();
    fake.fault(On::all(), Fault::Hang);
    let reloaded = tokio::time::timeout(Duration::from_secs(300), keeper.reload()).await;
    assert!(reloaded.expect("it ends").is_err());
    fake.heal();
    assert!(!keeper.reload().await.unwrap());
}
