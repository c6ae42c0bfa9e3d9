//! Hot reload from disk and SIGHUP (contract 9.4).

use e2e::process::Signal;
use e2e::{App, Daprd, app::Answer, wait};
use serde_json::{Value, json};

use crate::resources::{PUBSUB, STATE, component, configuration};

fn has_component(metadata: &Value, name: &str) -> bool {
    metadata["components"]
        .as_array()
        .is_some_and(|all| all.iter().any(|component| component["name"] == name))
}

#[tokio::test]
async fn components_come_change_and_go() {
    let daprd = Daprd::builder("app").start().await;
    daprd
        .http()
        .get("/v1.0/state/statestore/k")
        .await
        .expect_error(500, "ERR_STATE_STORE_NOT_CONFIGURED");

    daprd.write_resource("state.yaml", STATE);
    daprd
        .metadata_until("the new component", |metadata| {
            has_component(metadata, "statestore")
        })
        .await;
    let save = json!([{"key": "k", "value": 1}]);
    daprd
        .http()
        .post("/v1.0/state/statestore", &save)
        .await
        .expect_status(204);

    // A new key prefix is a change; the new instance is empty, too.
    daprd.write_resource(
        "state.yaml",
        &component("statestore", "state.in-memory", &[("keyPrefix", "name")]),
    );
    wait::eventually("the changed component", wait::DEADLINE, || async {
        daprd.http().get("/v1.0/state/statestore/k").await.status == 204
    })
    .await;

    daprd.remove_resource("state.yaml");
    daprd
        .metadata_until("the component to go", |metadata| {
            !has_component(metadata, "statestore")
        })
        .await;
    daprd
        .http()
        .get("/v1.0/state/statestore/k")
        .await
        .expect_error(500, "ERR_STATE_STORE_NOT_CONFIGURED");
    daprd.stop().await;
}

#[tokio::test]
async fn a_broken_file_changes_nothing() {
    let daprd = Daprd::builder("app").resources(STATE).start().await;
    daprd
        .http()
        .post("/v1.0/state/statestore", &json!([{"key": "k", "value": 1}]))
        .await
        .expect_status(204);
    daprd.write_resource(
        "broken.yaml",
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nspec: [",
    );
    daprd.write_resource("pubsub.yaml", PUBSUB);
    // The good file beside it is taken, so the broken one was seen.
    daprd
        .metadata_until("the good component", |metadata| {
            has_component(metadata, "pubsub")
        })
        .await;
    assert_eq!(
        daprd
            .http()
            .get("/v1.0/state/statestore/k")
            .await
            .expect_status(200)
            .text(),
        "1"
    );
    daprd.stop().await;
}

#[tokio::test]
async fn subscriptions_come_and_go() {
    let app = App::builder()
        .route("/late", e2e::app::Answer::status(200))
        .start()
        .await;
    let daprd = Daprd::builder("app")
        .resources(PUBSUB)
        .app(&app)
        .start()
        .await;
    let subscription = "
apiVersion: dapr.io/v2alpha1
kind: Subscription
metadata:
  name: late
spec:
  pubsubname: pubsub
  topic: late
  routes:
    default: /late
";
    daprd.write_resource("late.yaml", subscription);
    daprd.subscribed("late").await;
    daprd
        .http()
        .post("/v1.0/publish/pubsub/late", &json!(1))
        .await
        .expect_status(204);
    app.called("/late", 1).await;
    daprd.remove_resource("late.yaml");
    let gone = |metadata: &Value| {
        metadata["subscriptions"]
            .as_array()
            .is_none_or(Vec::is_empty)
    };
    daprd.metadata_until("the subscription to go", gone).await;
    daprd.stop().await;
}

#[tokio::test]
async fn a_component_that_cannot_start_leaves_the_sidecar_and_the_one_before_it_alone() {
    let daprd = Daprd::builder("app").resources(STATE).start().await;
    let save = json!([{"key": "k", "value": 1}]);
    daprd
        .http()
        .post("/v1.0/state/statestore", &save)
        .await
        .expect_status(204);
    // Without a connection string this store cannot start, and nothing says that errors are to be ignored.
    daprd.write_resource("0.yaml", &component("statestore", "state.sqlite", &[]));
    daprd.write_resource("1.yaml", &component("b", "unheard.of", &[]));
    let failed = "b (unheard.of/v1), statestore (state.sqlite/v1)";
    daprd
        .metadata_until("the failed components", |metadata| {
            metadata["extended"]["daprFailedComponents"] == failed
        })
        .await;
    daprd
        .logged("the one before it stays in use; the next attempt is in")
        .await;
    daprd.logged("incorrect type unheard.of").await;
    let kept = daprd.http().get("/v1.0/state/statestore/k").await;
    assert_eq!(kept.expect_status(200).text(), "1");
    assert!(has_component(&daprd.metadata().await, "statestore"));

    // As it was before: what runs is what is asked for, and nothing is opened anew.
    daprd.write_resource("0.yaml", STATE);
    daprd.remove_resource("1.yaml");
    daprd
        .metadata_until("no failed component", |metadata| {
            metadata["extended"]["daprFailedComponents"].is_null()
        })
        .await;
    let kept = daprd.http().get("/v1.0/state/statestore/k").await;
    assert_eq!(kept.expect_status(200).text(), "1");
    daprd.stop().await;
}

#[tokio::test]
async fn a_component_that_cannot_start_is_tried_until_it_can() {
    let daprd = Daprd::builder("app").start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let secrets = folder.path().join("secrets.json");
    let metadata = [("secretsFile", secrets.to_str().expect("a path of ours"))];
    let store = component("files", "secretstores.local.file", &metadata);
    daprd.write_resource("secrets.yaml", &store);
    daprd
        .logged("there is none of that name meanwhile; the next attempt is in")
        .await;
    std::fs::write(&secrets, r#"{"key": "value"}"#).expect("the folder is ours");
    daprd
        .metadata_until("the store", |metadata| has_component(metadata, "files"))
        .await;
    daprd.stop().await;
}

#[tokio::test]
async fn a_component_that_cannot_start_ends_the_start() {
    let _alone = wait::alone().await;
    let broken = component("a", "state.sqlite", &[]);
    let mut daprd = Daprd::builder("app").resources(&broken).spawn();
    daprd
        .logged("Error processing component, daprd will exit gracefully")
        .await;
    daprd.process().exit_code(wait::DEADLINE).await;

    let ignored = format!("{broken}  ignoreErrors: true\n");
    let daprd = Daprd::builder("app").resources(&ignored).start().await;
    daprd.logged("Ignoring error processing component").await;
    daprd.http().get("/v1.0/healthz").await.expect_status(204);
    daprd.stop().await;
}

/// Nobody knows which of them is meant: what runs stays, and the other resources go on being reloaded.
#[tokio::test]
async fn a_name_that_is_there_twice_holds_up_no_other() {
    let daprd = Daprd::builder("app").resources(STATE).start().await;
    let twice = component("statestore", "state.sqlite", &[]);
    daprd.write_resource("twice.yaml", &twice);
    daprd
        .logged("duplicate definition of Component name statestore")
        .await;
    let other = component("other", "state.in-memory", &[]);
    daprd.write_resource("other.yaml", &other);
    daprd
        .metadata_until("the other one", |metadata| has_component(metadata, "other"))
        .await;
    assert!(has_component(&daprd.metadata().await, "statestore"));
    daprd.remove_resource("other.yaml");
    daprd
        .metadata_until("the end of the other one", |metadata| {
            !has_component(metadata, "other")
        })
        .await;
    daprd.stop().await;
}

#[tokio::test]
async fn sighup_restarts_in_place() {
    let plain = configuration("  metric:\n    enabled: true");
    let mut daprd = Daprd::builder("app")
        .resources(STATE)
        .config(&plain)
        .start()
        .await;
    let before = daprd.process().id();
    daprd
        .http()
        .put("/v1.0/metadata/marker", "set")
        .await
        .expect_status(204);
    assert_eq!(daprd.metadata().await["extended"]["marker"], "set");
    daprd.signal(Signal::Hangup).await;
    // The attribute lived in the runtime that is gone now; process and ports are the same.
    daprd
        .metadata_until("a fresh runtime", |metadata| {
            metadata["extended"]["marker"].is_null()
        })
        .await;
    daprd.ready().await;
    assert_eq!(daprd.process().id(), before);
    assert!(has_component(&daprd.metadata().await, "statestore"));
    daprd
        .grpc()
        .get_metadata(proto::runtime::v1::GetMetadataRequest {})
        .await
        .expect("gRPC is back, too");
    daprd.stop().await;
}

#[tokio::test]
async fn many_restarts_leak_nothing() {
    let mut daprd = Daprd::builder("app").resources(STATE).start().await;
    for round in 0..5 {
        let marker = json!(round.to_string());
        daprd
            .http()
            .put("/v1.0/metadata/marker", round.to_string())
            .await
            .expect_status(204);
        assert_eq!(daprd.metadata().await["extended"]["marker"], marker);
        daprd.signal(Signal::Hangup).await;
        daprd
            .metadata_until("a fresh runtime", |metadata| {
                metadata["extended"]["marker"].is_null()
            })
            .await;
        daprd.ready().await;
    }
    daprd.stop().await;
}

#[tokio::test]
async fn middleware_that_comes_later_is_taken_into_the_pipeline() {
    let app = App::builder()
        .route("/upper", Answer::status(200))
        .start()
        .await;
    let pipeline = configuration(
        "  appHttpPipeline:\n    handlers:\n    - name: alias\n      type: middleware.http.routeralias",
    );
    let daprd = Daprd::builder("app")
        .config(&pipeline)
        .app(&app)
        .start()
        .await;
    let call = || async {
        daprd
            .http()
            .get("/v1.0/invoke/app/method/lower")
            .await
            .status
    };
    wait::eventually("a call without the middleware", wait::DEADLINE, || async {
        call().await == 404
    })
    .await;
    let routes = [("routes", r#"{"/lower": "/upper"}"#)];
    daprd.write_resource(
        "alias.yaml",
        &component("alias", "middleware.http.routeralias", &routes),
    );
    wait::eventually("a call through the middleware", wait::DEADLINE, || async {
        call().await == 200
    })
    .await;

    // A component of the name and of another type is not the one that the pipeline means.
    daprd.write_resource(
        "alias.yaml",
        &component("alias", "middleware.http.uppercase", &[]),
    );
    wait::eventually(
        "a call without the middleware again",
        wait::DEADLINE,
        || async { call().await == 404 },
    )
    .await;
    daprd.stop().await;
}
