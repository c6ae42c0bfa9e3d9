//! The front ends of workflows: refusals over HTTP and gRPC, the token, and workers that answer what nobody asked for.

use e2e::{
    Daprd,
    worker::{Skills, TaskHub, Worker},
};
use proto::{
    durabletask::{
        ActivityResponse, CreateInstanceRequest, GetInstanceRequest, GetWorkItemsRequest,
        WorkflowResponse,
    },
    runtime::v1::{GetWorkflowRequest, StartWorkflowRequest},
};
use tonic::Code;

use crate::workflow::Ground;

#[tokio::test]
async fn without_placement_there_are_no_workflows() {
    let daprd = Daprd::builder("alone").start().await;
    let request = daprd
        .http()
        .request(http::Method::POST, "/v1.0-beta1/workflows/dapr/order/start");
    let refused = request.send().await;
    refused.expect_error(400, "ERR_ACTOR_NO_PLACEMENT");
    let mut hub = TaskHub::new(daprd.channel());
    hub.hello(()).await.expect("somebody is there");
    let refused = hub.get_work_items(GetWorkItemsRequest::default()).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unavailable);
    daprd.stop().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_its_code() {
    let ground = Ground::new().await;
    let daprd = ground.daprd("shop").start().await;
    let worker = Worker::start(&daprd, &Skills::default()).await;
    let long = "x".repeat(65);
    for (version, path, code) in [
        (
            "v1.0",
            format!("order/start?instanceID={long}"),
            "ERR_INSTANCE_ID_TOO_LONG",
        ),
        (
            "v1.0",
            "order/start?instanceID=a%2Fb".to_owned(),
            "ERR_INSTANCE_ID_INVALID",
        ),
        (
            "v1.0-alpha1",
            "order/start?instanceID=a..b".to_owned(),
            "ERR_INSTANCE_ID_INVALID",
        ),
        (
            "v1.0-beta1",
            "order/start?appID=a.b".to_owned(),
            "ERR_WORKFLOW_APP_ID_INVALID",
        ),
        (
            "v1.0-beta1",
            "a/pause?appID=a.b".to_owned(),
            "ERR_WORKFLOW_APP_ID_INVALID",
        ),
    ] {
        let path = format!("/{version}/workflows/dapr/{path}");
        let request = daprd.http().request(http::Method::POST, &path);
        request.send().await.expect_error(400, code);
    }
    for path in ["nobody/terminate", "nobody/purge"] {
        let path = format!("/v1.0/workflows/dapr/{path}");
        let request = daprd.http().request(http::Method::POST, &path);
        let reply = request.send().await;
        reply.expect_error(404, "ERR_INSTANCE_ID_NOT_FOUND");
    }
    for (path, code) in [
        ("nobody/pause", "ERR_PAUSE_WORKFLOW"),
        ("nobody/resume", "ERR_RESUME_WORKFLOW"),
        ("nobody/raiseEvent/e", "ERR_RAISE_EVENT_WORKFLOW"),
    ] {
        let path = format!("/v1.0/workflows/dapr/{path}");
        let request = daprd.http().request(http::Method::POST, &path);
        request.send().await.expect_error(500, code);
    }
    let mut dapr = daprd.grpc();
    let nameless = dapr.start_workflow_beta1(StartWorkflowRequest::default());
    assert_eq!(nameless.await.unwrap_err().code(), Code::InvalidArgument);
    let found = dapr.get_workflow_alpha1(GetWorkflowRequest {
        instance_id: "nobody".to_owned(),
        ..GetWorkflowRequest::default()
    });
    let found = found.await.expect("it is no failure").into_inner();
    assert_eq!(
        (found.instance_id.as_str(), found.runtime_status.as_str()),
        ("nobody", "")
    );
    drop(worker);
    daprd.stop().await;
}

#[tokio::test]
async fn answers_that_nobody_waits_for_disturb_nobody() {
    let ground = Ground::new().await;
    let daprd = ground.daprd("shop").start().await;
    let mut hub = TaskHub::new(daprd.channel());
    let items = hub.get_work_items(GetWorkItemsRequest::default()).await;
    let mut items = items.expect("a stream").into_inner();
    e2e::worker::hosted(&daprd).await;
    let metadata = daprd.metadata().await;
    assert_eq!(metadata["workflows"]["connectedWorkers"], 1);
    for id in ["", "nobody", "\u{0}||::1"] {
        let turn = WorkflowResponse {
            instance_id: id.to_owned(),
            completion_token: "made up".to_owned(),
            ..WorkflowResponse::default()
        };
        hub.complete_workflow_task(turn.clone())
            .await
            .expect("passed over");
        hub.complete_orchestrator_task(turn)
            .await
            .expect("passed over");
        let activity = ActivityResponse {
            instance_id: id.to_owned(),
            task_id: -7,
            ..ActivityResponse::default()
        };
        hub.complete_activity_task(activity)
            .await
            .expect("passed over");
    }
    let mut starter = hub.clone();
    let start = starter.start_instance(CreateInstanceRequest {
        instance_id: "one".to_owned(),
        name: "order".to_owned(),
        ..CreateInstanceRequest::default()
    });
    let work = async {
        let item = items
            .message()
            .await
            .expect("the stream holds")
            .expect("an item");
        let foreign = WorkflowResponse {
            instance_id: "two".to_owned(),
            completion_token: item.completion_token.clone(),
            ..WorkflowResponse::default()
        };
        hub.complete_workflow_task(foreign)
            .await
            .expect("passed over");
        let asked = GetInstanceRequest {
            instance_id: "one".to_owned(),
            ..GetInstanceRequest::default()
        };
        let state = hub
            .get_instance(asked)
            .await
            .expect("an answer")
            .into_inner();
        let status = state.workflow_state.map(|it| it.workflow_status());
        hub.complete_workflow_task(WorkflowResponse {
            instance_id: "one".to_owned(),
            completion_token: item.completion_token,
            ..WorkflowResponse::default()
        })
        .await
        .expect("taken");
        status
    };
    let (started, status) = tokio::join!(start, work);
    assert_eq!(
        started.expect("it has begun").into_inner().instance_id,
        "one"
    );
    assert_eq!(
        status,
        Some(proto::durabletask::OrchestrationStatus::Pending)
    );
    drop(items);
    daprd.stop().await;
}

#[tokio::test]
async fn the_task_hub_wants_the_token_like_everything_else() {
    let daprd = Daprd::builder("alone")
        .env("DAPR_API_TOKEN", "secret")
        .start()
        .await;
    let mut hub = TaskHub::new(daprd.channel());
    let refused = hub.hello(()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let mut request = tonic::Request::new(());
    let token = "secret".parse().expect("ASCII");
    request.metadata_mut().insert("dapr-api-token", token);
    hub.hello(request).await.expect("the token is right");
    daprd.stop().await;
}
