//! Health, metadata, metrics, reflection and the public port (contract 2.2, 2.6, 9.3; process behaviour 1.3).

use e2e::{App, Daprd, golden, mesh};
use http::Method;
use proto::runtime::v1::actor_runtime::ActorRuntimeStatus;
use proto::runtime::v1::{GetMetadataRequest, SetMetadataRequest};
use serde_json::{Value, json};
use tokio_stream::StreamExt as _;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use crate::resources::{PUBSUB, STATE};

/// A component without capabilities.
const SECRETS: &str = "
apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: secrets
spec:
  type: secretstores.local.env
  version: v1
";

#[tokio::test]
async fn health() {
    let daprd = Daprd::builder("app").start().await;
    let http = daprd.http();
    http.get("/v1.0/healthz").await.expect_status(204);
    http.get("/v1.0/healthz?appid=app").await.expect_status(204);
    golden::check(
        "health_app_id",
        &http.get("/v1.0/healthz?appid=other").await,
        &["content-type"],
    );
    http.get("/v1.0/healthz/outbound").await.expect_status(204);
    http.get("/v1.0/healthz/").await.expect_status(204); // a slash at the end makes no difference
    http.get("//v1.0//healthz").await.expect_status(204);
    daprd.stop().await;
}

#[tokio::test]
async fn metadata_as_clients_know_it() {
    let subscription = json!([{
        "pubsubname": "pubsub", "topic": "orders", "route": "/orders",
        "metadata": {"k": "v"}, "deadLetterTopic": "dead",
    }]);
    let app = App::builder().subscriptions(&subscription).start().await;
    let daprd = Daprd::builder("app")
        .resources(STATE)
        .resources(PUBSUB)
        .resources(SECRETS)
        .app(&app)
        .start()
        .await;
    daprd.subscribed("orders").await;
    let mut reply = daprd.http().get("/v1.0/metadata").await;
    let mut body = reply.json();
    if let Some(components) = body["components"].as_array_mut() {
        components.sort_by_key(|component| component["name"].to_string());
    }
    // Whether an idle sidecar mentions its scheduler is not part of the contract.
    body.as_object_mut()
        .expect("an object")
        .entry("scheduler")
        .or_insert(Value::Null);
    reply.body = body.to_string().into();
    golden::check("metadata", &reply, &["content-type"]);
    daprd.stop().await;
}

#[tokio::test]
async fn attributes_are_kept_until_the_end() {
    let daprd = Daprd::builder("app").start().await;
    daprd
        .http()
        .put("/v1.0/metadata/color", "sky blue")
        .await
        .expect_status(204);
    let set = SetMetadataRequest {
        key: "size".into(),
        value: "XL".into(),
    };
    daprd.grpc().set_metadata(set).await.expect("set");
    let metadata = daprd.metadata().await;
    assert_eq!(
        (
            &metadata["extended"]["color"],
            &metadata["extended"]["size"]
        ),
        (&json!("sky blue"), &json!("XL"))
    );
    daprd.stop().await;
}

#[tokio::test]
async fn grpc_metadata_agrees() {
    let daprd = Daprd::builder("app").resources(STATE).start().await;
    let metadata = daprd
        .grpc()
        .get_metadata(GetMetadataRequest {})
        .await
        .expect("read")
        .into_inner();
    assert_eq!(metadata.id, "app");
    assert_eq!(metadata.registered_components.len(), 1);
    assert_eq!(metadata.registered_components[0].name, "statestore");
    let actors = metadata.actor_runtime.expect("always there");
    assert_eq!(actors.runtime_status(), ActorRuntimeStatus::Disabled);
    let http = daprd.metadata().await;
    assert_eq!(json!(metadata.runtime_version), http["runtimeVersion"]);
    daprd.stop().await;
}

#[tokio::test]
async fn the_version_has_a_known_form() {
    let daprd = Daprd::builder("app").start().await;
    let metadata = daprd.metadata().await;
    let version = metadata["runtimeVersion"]
        .as_str()
        .expect("a string")
        .to_owned();
    let plain = version.split("-rc.").next().expect("a first part");
    let numbers: Vec<&str> = plain.split('.').collect();
    let numeric = numbers.len() == 3 && numbers.iter().all(|number| number.parse::<u32>().is_ok());
    assert!(version == "edge" || numeric, "{version}");
    daprd.stop().await;
}

#[tokio::test]
async fn error_codes_are_counted_on_both_apis() {
    let config = "
apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata:
  name: counting
spec:
  metrics:
    recordErrorCodes: true
";
    let daprd = Daprd::builder("app").config(config).start().await;
    let counted = async || {
        let text = daprd.metrics().get("/metrics").await.text();
        let series = r#"dapr_error_code_total{app_id="app",category="actor",error_code="ERR_ACTOR_NO_PLACEMENT"} "#;
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.unwrap_or("0").to_owned()
    };
    let reply = daprd
        .http()
        .post("/v1.0/actors/kind/1/method/m", &json!({}))
        .await;
    let reply = reply.expect_error(400, "ERR_ACTOR_NO_PLACEMENT");
    assert_eq!(
        reply.json()["message"],
        "placement service is not configured"
    );
    assert_eq!(counted().await, "1");
    let call = proto::runtime::v1::InvokeActorRequest {
        actor_type: "kind".into(),
        actor_id: "1".into(),
        method: "m".into(),
        ..Default::default()
    };
    let status = daprd
        .grpc()
        .invoke_actor(call)
        .await
        .expect_err("no actors");
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
    assert_eq!(status.message(), "placement service is not configured");
    assert_eq!(counted().await, "2");
    let timer = daprd.http().delete("/v1.0/actors/kind/1/timers/t").await;
    timer.expect_error(400, "ERR_ACTOR_NO_PLACEMENT");
    let reserved = "/v1.0/actors/dapr.internal.kind/1/timers/t";
    let timer = daprd.http().delete(reserved).await;
    timer.expect_error(403, "ERR_ACTOR_TYPE_RESERVED");
    daprd.stop().await;
}

#[tokio::test]
async fn only_reading_health_needs_no_token() {
    let app = App::builder()
        .respond("/v1.0/healthz", |_| async { e2e::app::Answer::status(200) })
        .respond("/v1.0/healthz/outbound", |_| async {
            e2e::app::Answer::status(200)
        })
        .start()
        .await;
    let daprd = Daprd::builder("app")
        .app(&app)
        .env("DAPR_API_TOKEN", "secret")
        .start()
        .await;
    let http = daprd.http();
    for path in ["/v1.0/healthz", "/v1.0/healthz/outbound"] {
        http.get(path).await.expect_status(204);
        for method in ["POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "X-ANY"] {
            for spelled in [path.to_owned(), format!("/{path}"), format!("{path}/")] {
                for (name, value) in [
                    ("dapr-app-id", "app"),
                    ("authorization", "Basic ZGFwci1hcHAtaWQ6YXBw"),
                ] {
                    let method = Method::from_bytes(method.as_bytes()).expect("a method");
                    let call = http.request(method, &spelled).header(name, value);
                    call.send().await.expect_status(401);
                }
            }
        }
        assert!(app.calls(path).is_empty(), "the app was called");
    }
    daprd.stop().await;
}

#[tokio::test]
async fn the_public_port_shows_health_and_metadata_only() {
    let daprd = Daprd::builder("app")
        .resources(STATE)
        .env("DAPR_API_TOKEN", "secret")
        .start()
        .await;
    let public = daprd.public();
    public.get("/v1.0/healthz").await.expect_status(204);
    assert_eq!(
        public.get("/v1.0/metadata").await.expect_status(200).json()["id"],
        "app"
    );
    let state = public
        .request(Method::GET, "/v1.0/state/statestore/k")
        .header("dapr-api-token", "secret");
    state.send().await.expect_status(404);
    daprd.stop().await;
}

#[tokio::test]
async fn metrics_are_exposed() {
    let daprd = Daprd::builder("app").resources(STATE).start().await;
    daprd
        .http()
        .get("/v1.0/state/statestore/k")
        .await
        .expect_status(204);
    for path in ["/", "/metrics"] {
        let text = daprd.metrics().get(path).await.expect_status(200).text();
        for series in [
            r#"dapr_component_state_count{app_id="app",component="statestore",namespace="",operation="get",success="true"} 1"#,
            "dapr_runtime_component_init_total{",
            "dapr_http_server_request_count{",
            "process_resident_memory_bytes ",
        ] {
            let found = text.lines().any(|line| line.starts_with(series));
            assert!(found, "{path}: no {series} in\n{text}");
        }
    }
    daprd.stop().await;
}

async fn reflect(daprd: &Daprd, request: MessageRequest) -> ServerReflectionResponse {
    let mut client = ServerReflectionClient::new(mesh::plain(daprd.grpc_port()));
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(request),
    };
    let mut answers = client
        .server_reflection_info(tokio_stream::once(request))
        .await
        .expect("reflection is on")
        .into_inner();
    answers.next().await.expect("one answer").expect("no error")
}

/// Upstream registers reflection, but its tracing refuses streams without `dapr-app-id` before they get
/// there; ours answers everybody.
#[tokio::test]
async fn reflection_names_services_and_files() {
    let daprd = Daprd::builder("app").start().await;
    let answer = reflect(&daprd, MessageRequest::ListServices(String::new())).await;
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}")
    };
    let names: Vec<&str> = list
        .service
        .iter()
        .map(|service| service.name.as_str())
        .collect();
    assert!(names.contains(&"dapr.proto.runtime.v1.Dapr"), "{names:?}");

    let answer = reflect(
        &daprd,
        MessageRequest::FileByFilename("dapr/proto/runtime/v1/dapr.proto".into()),
    )
    .await;
    assert!(
        matches!(
            answer.message_response,
            Some(MessageResponse::FileDescriptorResponse(_))
        ),
        "{answer:?}"
    );
    daprd.stop().await;
}

#[tokio::test]
async fn app_health_gates_the_app() {
    let app = App::builder().start().await; // answers 404 to its health check
    let daprd = Daprd::builder("app")
        .app(&app)
        .app_health_checks()
        .start()
        .await;
    app.called("/healthz", 1).await;
    let reply = daprd.http().get("/v1.0/invoke/app/method/x").await;
    let reply = reply.expect_error(500, "ERR_DIRECT_INVOKE");
    assert!(
        reply.text().contains("app is not in a healthy state"),
        "{}",
        reply.text()
    );
    daprd.stop().await;
}

#[tokio::test]
async fn sidecars_list_their_services_to_each_other_in_either_version() {
    let daprd = Daprd::builder("app").start().await;
    // `list_services` with an empty argument, as a gRPC frame.
    let list = b"\x00\x00\x00\x00\x02\x3a\x00".to_vec();
    for port in [daprd.internal_port(), daprd.grpc_port()] {
        let client = e2e::http::Client::h2c(format!("http://127.0.0.1:{port}"));
        for version in ["v1", "v1alpha"] {
            let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
            let reply = client
                .request(Method::POST, &path)
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(list.clone())
                .send()
                .await
                .expect_status(200);
            let text = reply.text();
            assert!(
                text.contains("dapr.proto.runtime.v1.Dapr"),
                "{version}: {text}"
            );
        }
    }
    daprd.stop().await;
}

#[tokio::test]
async fn browsers_ask_beforehand_and_without_the_token() {
    let page = "https://example.com";
    let daprd = Daprd::builder("app")
        .env("DAPR_API_TOKEN", "secret")
        .flag("allowed-origins", page)
        .start()
        .await;
    let ask = |origin: &str| {
        daprd
            .http()
            .request(Method::OPTIONS, "/v1.0/metadata")
            .header("origin", origin)
            .header("access-control-request-method", "GET")
    };
    let reply = ask(page).send().await.expect_status(200);
    assert_eq!(reply.header("access-control-allow-origin"), page);
    assert!(!reply.header("vary").is_empty());
    let reply = ask("https://elsewhere.com").send().await.expect_status(200);
    assert_eq!(reply.header("access-control-allow-origin"), "");
    assert!(!reply.header("vary").is_empty());
    let get = daprd.http().request(Method::GET, "/v1.0/metadata");
    get.header("origin", page).send().await.expect_status(401);
    daprd.stop().await;

    let daprd = Daprd::builder("app").start().await;
    let ask = daprd.http().request(Method::OPTIONS, "/v1.0/metadata");
    let ask = ask.header("origin", page);
    let ask = ask.header("access-control-request-method", "GET");
    let reply = ask.send().await.expect_status(404);
    assert_eq!(reply.header("vary"), "");
    daprd.stop().await;
}
