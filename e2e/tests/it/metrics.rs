//! The metrics of built building blocks (contract 10.8): every family appears once what it measures has happened.

use e2e::app::{Answer, Callbacks};
use e2e::{App, Daprd, wait};
use proto::common::v1::{HttpExtension, InvokeRequest, http_extension::Verb};
use proto::runtime::v1::{InvokeServiceRequest, PublishEventRequest};
use serde_json::json;
use tokio::sync::watch;

use crate::resources::{PUBSUB, STATE};

const SECRETS: &str = "
apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: env
spec:
  type: secretstores.local.env
  version: v1
";

const RESILIENCY: &str = "
apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata:
  name: defaults
spec:
  policies:
    retries:
      DefaultAppRetryPolicy: {duration: 1ms, maxRetries: 2, matching: {httpStatusCodes: '503'}}
    circuitBreakers:
      DefaultAppCircuitBreakerPolicy: {trip: totalFailures > 0}
";

/// Waits until every family has a series: some are written when a body has been read to its end.
async fn expect(daprd: &Daprd, families: &[&str]) {
    for family in families {
        let written = || async {
            let text = daprd.metrics().get("/metrics").await.text();
            text.lines().any(|line| {
                line.strip_prefix(family)
                    .is_some_and(|rest| rest.starts_with(['{', ' ', '_']))
            })
        };
        wait::eventually(family, wait::DEADLINE, written).await;
    }
}

#[tokio::test]
async fn every_family_of_a_built_block_is_written() {
    let (_healthy, health) = watch::channel(true);
    let app = App::builder()
        .health(health)
        .subscriptions(&json!([{"pubsubname": "pubsub", "topic": "orders", "route": "/orders"}]))
        .route("/orders", Answer::status(200))
        .route("/echo", Answer::bytes("hello"))
        .route("/failing", Answer::status(503))
        .start()
        .await;
    // Names of its own: mDNS finds the sidecars of other suites as well.
    let callee = Daprd::builder("measured")
        .app(&app)
        .app_health_checks()
        .resources(&format!("{STATE}\n---\n{PUBSUB}\n---\n{SECRETS}"))
        .start()
        .await;
    let caller = Daprd::builder("measuring")
        .resources(RESILIENCY)
        .start()
        .await;
    callee.subscribed("orders").await;
    let http = callee.http();
    http.get("/v1.0/state/statestore/k").await;
    http.get("/v1.0/secrets/env/k").await;
    callee
        .grpc()
        .publish_event(PublishEventRequest {
            pubsub_name: "pubsub".into(),
            topic: "orders".into(),
            data: "1".into(),
            ..PublishEventRequest::default()
        })
        .await
        .expect("published");
    app.called("/orders", 1).await;
    let path = "/v1.0/invoke/measured/method";
    let echo = caller.http().get(&format!("{path}/echo")).await;
    echo.expect_status(200);
    // The circuit breaker opens with the first failure, and refuses the retry.
    let failing = caller.http().get(&format!("{path}/failing")).await;
    failing.expect_status(500);
    assert_eq!(app.calls("/failing").len(), 1);
    expect(&callee, CALLEE).await;
    expect(&caller, CALLER).await;
    caller.stop().await;
    callee.stop().await;
}

const CALLEE: &[&str] = &[
    "dapr_runtime_component_loaded",
    "dapr_runtime_component_init_total",
    "dapr_component_state_count",
    "dapr_component_state_latencies",
    "dapr_component_secret_count",
    "dapr_component_secret_latencies",
    "dapr_component_pubsub_egress_count",
    "dapr_component_pubsub_egress_latencies",
    "dapr_component_pubsub_ingress_count",
    "dapr_component_pubsub_ingress_latencies",
    "dapr_runtime_service_invocation_req_recv_total",
    "dapr_runtime_service_invocation_res_sent_total",
    "dapr_runtime_acl_global_policy_action_allowed_total",
    "dapr_grpc_io_server_received_bytes_per_rpc",
    "dapr_grpc_io_server_sent_bytes_per_rpc",
    "dapr_grpc_io_server_server_latency",
    "dapr_grpc_io_server_completed_rpcs",
    "dapr_http_server_request_bytes",
    "dapr_http_server_response_bytes",
    "dapr_http_server_latency",
    "dapr_http_server_request_count",
    "dapr_http_server_response_count",
    "dapr_http_client_sent_bytes",
    "dapr_http_client_received_bytes",
    "dapr_http_client_roundtrip_latency",
    "dapr_http_client_completed_count",
    "dapr_http_healthprobes_completed_count",
    "dapr_http_healthprobes_roundtrip_latency",
    "process_resident_memory_bytes",
];

const CALLER: &[&str] = &[
    "dapr_runtime_service_invocation_req_sent_total",
    "dapr_runtime_service_invocation_res_recv_total",
    "dapr_runtime_service_invocation_res_recv_latency_ms",
    "dapr_grpc_io_client_roundtrip_latency",
    "dapr_grpc_io_client_completed_rpcs",
    "dapr_resiliency_loaded",
    "dapr_resiliency_count",
    "dapr_resiliency_activations_total",
    "dapr_resiliency_cb_state",
];

#[tokio::test]
async fn calls_of_a_grpc_app_are_measured() {
    let app = App::builder().callbacks(Callbacks::default()).start().await;
    let daprd = Daprd::builder("app").grpc_app(&app).start().await;
    let request = InvokeServiceRequest {
        id: "app".into(),
        message: Some(InvokeRequest {
            method: "hi".into(),
            http_extension: Some(HttpExtension {
                verb: Verb::Get.into(),
                ..HttpExtension::default()
            }),
            ..InvokeRequest::default()
        }),
    };
    daprd
        .grpc()
        .invoke_service(request)
        .await
        .expect("answered");
    let families = [
        "dapr_grpc_io_client_sent_bytes_per_rpc",
        "dapr_grpc_io_client_received_bytes_per_rpc",
        "dapr_grpc_io_client_roundtrip_latency",
        "dapr_grpc_io_client_completed_rpcs",
    ];
    expect(&daprd, &families).await;
    daprd.stop().await;
    // An app without the health service counts as one that fails its probes.
    let mut daprd = Daprd::builder("app")
        .grpc_app(&app)
        .app_health_checks()
        .spawn();
    daprd.ready().await;
    let families = [
        "dapr_grpc_io_healthprobes_completed_count",
        "dapr_grpc_io_healthprobes_roundtrip_latency",
    ];
    expect(&daprd, &families).await;
    daprd.stop().await;
}
