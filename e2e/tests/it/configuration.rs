//! Configuration in a Redis that others write to: read over both APIs, and followed by apps of both kinds.

use e2e::app::Answer;
use e2e::redis::Redis;
use e2e::{App, Daprd, wait};
use proto::runtime::v1::{
    GetConfigurationRequest, SubscribeConfigurationRequest, SubscribeConfigurationResponse,
    UnsubscribeConfigurationRequest,
};
use serde_json::json;
use tonic::{Code, Streaming};

use crate::resources::component;

const SETTINGS: &str = "/v1.0/configuration/settings";

fn store(redis: &Redis) -> String {
    let address = redis.address();
    let fields = [("redisHost", address.as_str())];
    component("settings", "configuration.redis", &fields)
}

async fn sidecar(redis: &Redis) -> Daprd {
    let daprd = Daprd::builder("app").resources(&store(redis));
    daprd.start().await
}

fn get(store: &str, keys: &[&str]) -> GetConfigurationRequest {
    GetConfigurationRequest {
        store_name: store.to_owned(),
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        ..GetConfigurationRequest::default()
    }
}

#[tokio::test]
async fn values_are_read_over_both_apis_and_names() {
    let redis = Redis::start().await;
    let daprd = sidecar(&redis).await;
    let http = daprd.http();
    http.get(SETTINGS).await.expect_status(204);
    redis.ask(&["SET", "a", "1||v2"]).await;
    redis.ask(&["SET", "b", "<2>"]).await;
    let a = json!({"value": "1", "version": "v2"});
    let both = json!({"a": a, "b": {"value": "<2>"}});
    for path in [SETTINGS, "/v1.0-alpha1/configuration/settings"] {
        let all = http.get(path).await.expect_status(200);
        assert_eq!(all.json(), both, "{path}");
    }
    let one = http.get(&format!("{SETTINGS}?key=a&key=absent")).await;
    assert_eq!(one.json(), json!({ "a": a }));

    let mut grpc = daprd.grpc();
    let answer = grpc.get_configuration(get("settings", &["a"])).await;
    let items = answer.unwrap().into_inner().items;
    assert_eq!((&*items["a"].value, &*items["a"].version), ("1", "v2"));
    let answer = grpc.get_configuration_alpha1(get("settings", &[])).await;
    assert_eq!(answer.unwrap().into_inner().items.len(), 2);

    let missing = "ERR_CONFIGURATION_STORE_NOT_FOUND";
    http.get("/v1.0/configuration/other")
        .await
        .expect_error(400, missing);
    let error = grpc.get_configuration(get("other", &[])).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(error.message(), "configuration store other not found");
    let refused = http.get(&format!("{SETTINGS}/subscribe")).await;
    refused.expect_error(500, "ERR_APP_CHANNEL_NIL");
    daprd.stop().await;

    let bare = Daprd::builder("bare").start().await;
    let none = "ERR_CONFIGURATION_STORE_NOT_CONFIGURED";
    bare.http().get(SETTINGS).await.expect_error(500, none);
    let error = bare.grpc().get_configuration(get("settings", &[])).await;
    assert_eq!(error.unwrap_err().code(), Code::FailedPrecondition);
    bare.stop().await;
}

#[tokio::test]
async fn an_http_app_is_called_with_changes_until_it_has_enough() {
    let (redis, app) = (
        Redis::start().await,
        App::builder()
            .route("/configuration/settings/a", Answer::status(200))
            .route("/configuration/settings/b", Answer::status(200))
            .start()
            .await,
    );
    let daprd = Daprd::builder("app").resources(&store(&redis)).app(&app);
    let daprd = daprd.start().await;
    let http = daprd.http();
    let reply = http.get(&format!("{SETTINGS}/subscribe?key=a&key=b")).await;
    let id = reply.expect_status(200).json()["id"].clone();
    let id = id.as_str().unwrap();
    redis.ask(&["SET", "a", "1"]).await;
    let calls = app.called("/configuration/settings/a", 1).await;
    assert_eq!(
        calls[0].json(),
        json!({"id": id, "items": {"a": {"value": "1"}}})
    );
    redis.ask(&["DEL", "a"]).await;
    let calls = app.called("/configuration/settings/a", 2).await;
    assert_eq!(calls[1].json(), json!({"id": id, "items": {"a": {}}}));

    let end = format!("{SETTINGS}/{id}/unsubscribe");
    let reply = http.get(&end).await.expect_status(200);
    assert_eq!(reply.json(), json!({"ok": true}));
    wait::eventually("the subscription to end", wait::DEADLINE, || async {
        http.get(&end).await.status == 500
    })
    .await;
    let reply = http.get(&end).await.json();
    let text = reply["message"].as_str().unwrap();
    assert!(text.starts_with("failed to unsubscribe to configuration request"));
    wait::eventually("the connection to end", wait::DEADLINE, || async {
        redis.ask(&["PUBSUB", "NUMPAT"]).await == ":0\r\n"
            && redis.ask(&["PUBSUB", "CHANNELS"]).await == "*0\r\n"
    })
    .await;
    daprd.stop().await;
}

async fn follow(daprd: &Daprd, keys: &[&str]) -> Streaming<SubscribeConfigurationResponse> {
    let request = SubscribeConfigurationRequest {
        store_name: "settings".to_owned(),
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        ..SubscribeConfigurationRequest::default()
    };
    let stream = daprd.grpc().subscribe_configuration(request).await;
    stream.expect("a stream").into_inner()
}

async fn next(
    stream: &mut Streaming<SubscribeConfigurationResponse>,
) -> SubscribeConfigurationResponse {
    let next = wait::within("a message", wait::DEADLINE, stream.message()).await;
    next.expect("a message").expect("the stream goes on")
}

#[tokio::test]
async fn a_stream_tells_changes_until_it_is_ended() {
    let redis = Redis::start().await;
    let daprd = sidecar(&redis).await;
    let mut stream = follow(&daprd, &["a"]).await;
    let hello = next(&mut stream).await;
    assert!(!hello.id.is_empty() && hello.items.is_empty());
    redis.ask(&["SET", "a", "1"]).await;
    let told = next(&mut stream).await;
    assert_eq!((&told.id, &*told.items["a"].value), (&hello.id, "1"));

    let unsubscribe = UnsubscribeConfigurationRequest {
        store_name: "settings".to_owned(),
        id: hello.id,
    };
    let mut grpc = daprd.grpc();
    let ended = grpc.unsubscribe_configuration(unsubscribe.clone()).await;
    assert!(ended.unwrap().into_inner().ok);
    let end = wait::within("the end", wait::DEADLINE, stream.message()).await;
    assert_eq!(end.unwrap(), None);
    let again = grpc.unsubscribe_configuration_alpha1(unsubscribe).await;
    let again = again.unwrap().into_inner();
    assert!(!again.ok);
    assert!(again.message.ends_with("subscription does not exist"));

    // A stream that nobody ends does not hold up the sidecar's end.
    let mut last = follow(&daprd, &[]).await;
    next(&mut last).await;
    daprd.stop().await;
}

#[tokio::test]
async fn a_subscription_outlives_the_component_and_the_server() {
    let mut redis = Redis::start().await;
    let daprd = sidecar(&redis).await;
    let mut stream = follow(&daprd, &["a"]).await;
    next(&mut stream).await;
    redis.leave().await;
    redis.come_back().await;
    redis.ask(&["SET", "a", "back"]).await;
    while next(&mut stream).await.items["a"].value != "back" {}

    let address = redis.address();
    let fields = [("redisHost", address.as_str()), ("redisMaxRetries", "1")];
    let changed = component("settings", "configuration.redis", &fields);
    daprd.write_resource("0.yaml", &changed);
    wait::eventually("the component to be replaced", wait::DEADLINE, || async {
        daprd.log().matches("Component loaded: settings").count() == 2
    })
    .await;
    redis.ask(&["SET", "a", "new"]).await;
    while next(&mut stream).await.items["a"].value != "new" {}
    daprd.stop().await;
}
