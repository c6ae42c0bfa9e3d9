//! Workers as the engine and the task hub service see them.

use futures::{FutureExt, StreamExt, future::join};
use proto::durabletask::{
    CompleteWorkflowAction, ExecutionStartedEvent, HistoryEvent, OrchestrationStatus,
    WorkflowAction, WorkflowInstance, history_event::EventType,
    workflow_action::WorkflowActionType,
};

use super::*;

fn workers() -> Workers {
    Workers::new(Limits::default())
}

fn turn(instance: &str) -> WorkflowRequest {
    WorkflowRequest {
        instance_id: instance.to_owned(),
        ..WorkflowRequest::default()
    }
}

fn activity(instance: &str, number: i32) -> ActivityRequest {
    ActivityRequest {
        workflow_instance: Some(WorkflowInstance {
            instance_id: instance.to_owned(),
            execution_id: None,
        }),
        task_id: number,
        ..ActivityRequest::default()
    }
}

fn answer(instance: &str, token: &str) -> WorkflowResponse {
    WorkflowResponse {
        instance_id: instance.to_owned(),
        completion_token: token.to_owned(),
        ..WorkflowResponse::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_goes_to_a_worker_and_its_answer_comes_back() {
    let workers = workers();
    let mut present = workers.present();
    assert!(!*present.borrow_and_update());
    let mut stream = workers.connect(GetWorkItemsRequest::default());
    assert!(*present.borrow_and_update());
    assert_eq!(workers.count(), 1);
    let work = async {
        let item = stream.next().await.unwrap();
        let Some(Request::WorkflowRequest(request)) = &item.request else {
            panic!("{item:?}");
        };
        assert_eq!(request.instance_id, "a");
        for (instance, token) in [
            ("b", item.completion_token.as_str()),
            ("a", "of another sidecar"),
            ("a", &format!("{}9", item.completion_token)),
            ("", ""),
        ] {
            let response = answer(instance, token);
            assert_eq!(workers.complete_workflow(response), Err(Unknown));
        }
        let response = answer("a", &item.completion_token);
        assert_eq!(workers.complete_workflow(response.clone()), Ok(()));
        assert_eq!(workers.complete_workflow(response), Err(Unknown), "twice");
    };
    let (answered, ()) = join(workers.workflow(turn("a")), work).await;
    assert_eq!(answered.unwrap().instance_id, "a");
    drop(stream);
    assert!(!*present.borrow_and_update());
    assert_eq!(workers.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_activity_is_lost_with_its_worker_and_its_answer_unknown() {
    let workers = workers();
    let mut stream = workers.connect(GetWorkItemsRequest::default());
    let work = async {
        let item = stream.next().await.unwrap();
        drop(stream);
        item
    };
    let (answered, item) = join(workers.activity(activity("a", 7)), work).await;
    assert_eq!(answered, Err(Lost));
    let response = ActivityResponse {
        instance_id: "a".to_owned(),
        task_id: 7,
        completion_token: item.completion_token,
        ..ActivityResponse::default()
    };
    assert_eq!(workers.complete_activity(response), Err(Unknown));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_withdraws_its_item() {
    let workers = workers();
    let mut call = Box::pin(workers.workflow(turn("a")));
    assert!(call.as_mut().now_or_never().is_none());
    drop(call);
    let mut stream = workers.connect(GetWorkItemsRequest::default());
    assert!(stream.next().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_takes_nothing_does_not_keep_others_from_it() {
    let workers = workers();
    let _stuck = workers.connect(GetWorkItemsRequest::default());
    let began = tokio::time::Instant::now();
    let work = async {
        let mut call = Box::pin(workers.workflow(turn("a")));
        assert!(call.as_mut().now_or_never().is_none());
        let mut other = workers.connect(GetWorkItemsRequest::default());
        let take = async {
            let item = other.next().await.unwrap();
            let response = answer("a", &item.completion_token);
            workers.complete_workflow(response).unwrap();
        };
        join(call, take).await.0
    };
    assert!(work.await.is_ok());
    assert_eq!(began.elapsed(), PATIENCE);
}

/// Who looks at the presence holds a lock of it.
#[tokio::test(start_paused = true)]
async fn whoever_looks_at_the_presence_may_withdraw_an_item() {
    let workers = workers();
    let _stream = workers.connect(GetWorkItemsRequest::default());
    let mut call = Box::pin(workers.workflow(turn("a")));
    assert!(call.as_mut().now_or_never().is_none());
    let present = workers.present();
    let looking = present.borrow();
    drop(call);
    assert!(*looking);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_keeps_histories_is_sent_the_rest() {
    let workers = workers();
    let mut stream = workers.connect(GetWorkItemsRequest {
        capabilities: vec![WorkerCapability::StatefulHistory.into()],
    });
    let started = HistoryEvent {
        event_type: Some(EventType::ExecutionStarted(ExecutionStartedEvent {
            workflow_instance: Some(WorkflowInstance {
                instance_id: "a".to_owned(),
                execution_id: Some("run".to_owned()),
            }),
            ..ExecutionStartedEvent::default()
        })),
        ..HistoryEvent::default()
    };
    let mut sent = Vec::new();
    for events in [1, 3, 3] {
        let mut request = turn("a");
        request.past_events = vec![HistoryEvent::default(); events];
        request.past_events[0] = started.clone();
        let take = async {
            let item = stream.next().await.unwrap();
            let Some(Request::WorkflowRequest(request)) = item.request else {
                panic!("no turn");
            };
            let cached = request.cached_history.map(|it| it.event_count);
            sent.push((request.past_events.len(), cached));
            let mut response = answer("a", &item.completion_token);
            if sent.len() == 2 {
                let done = CompleteWorkflowAction {
                    workflow_status: OrchestrationStatus::Completed.into(),
                    ..CompleteWorkflowAction::default()
                };
                response.actions.push(WorkflowAction {
                    workflow_action_type: Some(WorkflowActionType::CompleteWorkflow(done)),
                    ..WorkflowAction::default()
                });
            }
            workers.complete_workflow(response).unwrap();
        };
        join(workers.workflow(request), take).await.0.unwrap();
    }
    assert_eq!(sent, [(1, None), (2, Some(1)), (3, None)]);
}

#[tokio::test(start_paused = true)]
async fn an_activity_that_fits_into_no_message_fails_and_disturbs_nobody() {
    let workers = Workers::new(Limits {
        item: Some(1_000),
        ..Limits::default()
    });
    let mut request = activity("a", 1);
    request.input = Some("x".repeat(1_000));
    let failed = workers.activity(request).await.unwrap();
    let failure = failed.failure_details.unwrap();
    assert!(failure.is_non_retriable);
    assert!(failure.error_message.contains("1000"), "{failure:?}");
}

#[tokio::test(start_paused = true)]
async fn the_end_ends_all_streams_and_all_calls() {
    let workers = workers();
    let mut stream = workers.connect(GetWorkItemsRequest::default());
    let close = async {
        stream.next().await.unwrap();
        workers.close();
        stream.next().await
    };
    let (answered, next) = join(workers.workflow(turn("a")), close).await;
    assert_eq!(answered, Err(Lost));
    assert_eq!(next, None);
    assert_eq!(workers.workflow(turn("b")).await, Err(Lost));
    let mut late = workers.connect(GetWorkItemsRequest::default());
    assert_eq!(late.next().await, None);
}

/// Answers as it is asked.
struct Own;

#[async_trait::async_trait]
impl InProcess for Own {
    async fn workflow(&self, request: WorkflowRequest) -> Result<WorkflowResponse, Lost> {
        Ok(answer(&request.instance_id, ""))
    }

    async fn activity(&self, request: ActivityRequest) -> Result<ActivityResponse, Lost> {
        Ok(ActivityResponse {
            task_id: request.task_id,
            ..ActivityResponse::default()
        })
    }
}

#[tokio::test(start_paused = true)]
async fn the_sidecars_own_work_is_never_the_apps() {
    let workers = workers();
    let mut present = workers.present();
    let mut stream = workers.connect(GetWorkItemsRequest::default());
    let started = |name: &str| WorkflowRequest {
        new_events: vec![HistoryEvent {
            event_type: Some(EventType::ExecutionStarted(ExecutionStartedEvent {
                name: name.to_owned(),
                ..ExecutionStartedEvent::default()
            })),
            ..HistoryEvent::default()
        }],
        ..turn("a")
    };
    let own = started("dapr.internal.mcp.a.ListTools");
    let mut task = activity("a", 7);
    task.name = "dapr.internal.mcp.a.list-tools".to_owned();
    assert_eq!(workers.workflow(own.clone()).await, Err(Lost), "nobody yet");
    workers.serve_in_process(Arc::new(Own));
    assert_eq!(workers.workflow(own).await, Ok(answer("a", "")));
    assert_eq!(workers.activity(task).await.unwrap().task_id, 7);
    assert!(stream.next().now_or_never().is_none());
    assert!(workers.workflow(started("dapr")).now_or_never().is_none());
    drop(stream);
    assert!(!*present.borrow_and_update());
    workers.set_in_process(true);
    assert!(*present.borrow_and_update());
    let stream = workers.connect(GetWorkItemsRequest::default());
    drop(stream);
    assert!(*present.borrow(), "the sidecar's own is still there");
    workers.set_in_process(false);
    assert!(!*present.borrow());
}
