//! Resources changed with `kubectl apply` take effect in sidecars that run.

use serde_json::json;

use crate::apps::{Client, Namespace, component};
use crate::installation::control_plane;
use crate::kube::{kubectl, until};

/// A sidecar hears of a change from the operator at once; this is for slow machines.
const SOON: u64 = 45;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_takes_effect_when_it_is_applied() {
    let (images, _unchanged) = control_plane().await;
    let namespace = Namespace::create("reload", images).await;
    let redis = namespace.redis().await;
    let app = namespace.stock("reader").await;
    let sidecar = app.sidecar().await;
    let (status, said) = sidecar.get("state/store/key").await;
    assert_eq!(
        (status, said["errorCode"].as_str()),
        (500, Some("ERR_STATE_STORE_NOT_CONFIGURED")),
        "{said}"
    );

    // new
    namespace
        .component(
            "store",
            "state.redis",
            &[("redisHost", &redis), ("keyPrefix", "none")],
        )
        .await;
    until("the new store", SOON, async || save(&sidecar, 204).await).await;
    assert_eq!(sidecar.get("state/store/key").await, (200, json!("value")));

    // changed: under another prefix there is nothing yet
    namespace
        .component(
            "store",
            "state.redis",
            &[("redisHost", &redis), ("keyPrefix", "other")],
        )
        .await;
    until("the changed store", SOON, async || {
        status_of(&sidecar, 204).await
    })
    .await;
    namespace
        .component(
            "store",
            "state.redis",
            &[("redisHost", &redis), ("keyPrefix", "none")],
        )
        .await;
    until("the store as it was", SOON, async || {
        status_of(&sidecar, 200).await
    })
    .await;

    // out of this app's scope
    let mut scoped = component(
        "store",
        "state.redis",
        &[("redisHost", &redis), ("keyPrefix", "none")],
    );
    scoped["scopes"] = json!(["somebody"]);
    namespace.apply(scoped).await;
    until("the store to leave", SOON, async || {
        status_of(&sidecar, 500).await
    })
    .await;

    // back, and deleted
    namespace
        .component(
            "store",
            "state.redis",
            &[("redisHost", &redis), ("keyPrefix", "none")],
        )
        .await;
    until("the store to return", SOON, async || {
        status_of(&sidecar, 200).await
    })
    .await;
    kubectl(&["-n", &namespace.name, "delete", "component", "store"]).await;
    until("the store to be deleted", SOON, async || {
        status_of(&sidecar, 500).await
    })
    .await;
    let pods = namespace.pods("reader").await;
    let restarts = pods[0]["status"]["containerStatuses"]
        .as_array()
        .expect("statuses")
        .iter();
    assert!(
        restarts.clone().all(|status| status["restartCount"] == 0),
        "{pods:?}"
    );
    namespace.delete().await;
}

async fn save(sidecar: &Client, expected: u16) -> Result<(), String> {
    let (status, said) = sidecar
        .post("state/store", &json!([{ "key": "key", "value": "value" }]))
        .await;
    if status == expected {
        Ok(())
    } else {
        Err(format!("{status} {said}"))
    }
}

async fn status_of(sidecar: &Client, expected: u16) -> Result<(), String> {
    let (status, said) = sidecar.get("state/store/key").await;
    if status == expected {
        Ok(())
    } else {
        Err(format!("{status} {said}"))
    }
}
