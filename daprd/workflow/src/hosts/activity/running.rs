//! An activity at work: a worker runs it, and its workflow hears what came of it.

use std::time::Duration;

use dashmap::Entry;
use prost_types::Timestamp;
use proto::durabletask::{
    ActivityRequest, ActivityResponse, HistoryEvent, TaskCompletedEvent, TaskFailedEvent,
    WorkflowInstance, backend::v1::ActivityInvocation, history_event::EventType,
};
use telemetry::trace::Status;
use tokio::{sync::watch, time::Instant};

use super::ActivityHost;
use crate::{
    Error,
    core::event,
    metrics::{FAILED, RECOVERABLE, SUCCESS},
    reminding,
    signing::Asked,
    tracing::{activity_span, kept},
    workers,
};

impl ActivityHost {
    /// What comes of an activity, which runs from now on if it did not yet.
    pub(super) fn run(
        &self,
        key: String,
        instance: String,
        scheduled: HistoryEvent,
        invocation: ActivityInvocation,
    ) -> watch::Receiver<Option<bool>> {
        self.forget_old();
        let place = match self.0.running.entry(key.clone()) {
            Entry::Occupied(known) => return known.get().clone(),
            Entry::Vacant(place) => place,
        };
        let (settle, outcome) = watch::channel(None);
        place.insert(outcome.clone());
        let host = self.clone();
        self.0.inner.tasks.spawn("activity", async move {
            let activities = &host.0;
            let closed = activities.inner.closed.clone();
            let running = Box::pin(host.execute(&instance, &scheduled, invocation));
            let ran = closed.run_until_cancelled(running).await;
            match ran {
                Some(Ok(())) => {
                    let mut done = activities.done.lock();
                    done.push_back((Instant::now() + REMEMBERED, key));
                }
                Some(Err(error)) => {
                    let id = scheduled.event_id;
                    tracing::warn!(
                        "activity {instance}::{id} has no result: {}",
                        component::error::chain(&error)
                    );
                    activities.running.remove(&key);
                    settle.send_replace(Some(false));
                    return;
                }
                None => {
                    activities.running.remove(&key);
                    return;
                }
            }
            settle.send_replace(Some(true));
        });
        outcome
    }

    fn forget_old(&self) {
        let mut done = self.0.done.lock();
        let now = Instant::now();
        while done.front().is_some_and(|(until, _)| *until <= now) || done.len() > MOST_REMEMBERED {
            if let Some((_, key)) = done.pop_front() {
                self.0.running.remove(&key);
            }
        }
    }

    /// Has a worker run it, and tells the workflow.
    async fn execute(
        &self,
        instance: &str,
        scheduled: &HistoryEvent,
        invocation: ActivityInvocation,
    ) -> Result<(), Error> {
        let inner = &self.0.inner;
        let task = event::task_scheduled(scheduled)
            .cloned()
            .unwrap_or_default();
        let mut span = activity_span(&inner.options.tracer, &task, scheduled.event_id, instance);
        let below = span.as_ref().and_then(|span| kept(span.context()?));
        let request = ActivityRequest {
            name: task.name.clone(),
            version: task.version.clone(),
            input: task.input.clone(),
            workflow_instance: Some(WorkflowInstance {
                instance_id: instance.to_owned(),
                execution_id: None,
            }),
            task_id: scheduled.event_id,
            parent_trace_context: below,
            task_execution_id: task.task_execution_id.clone(),
            propagated_history: invocation.propagated_history,
        };
        let mut present = inner.options.workers.present();
        let began = Instant::now();
        inner
            .metrics
            .activity_begun(&task.name, SUCCESS, Duration::ZERO);
        // What looks at the presence is not to be held while the item is withdrawn.
        let gone = async {
            let _ = present.wait_for(|present| !*present).await;
        };
        let response = tokio::select! {
            biased;
            response = inner.options.workers.activity(request) => response.map_err(Error::from),
            () = gone => Err(Error::Lost(workers::Lost)),
        };
        let ran = match response {
            Ok(response) => {
                let failed = response.failure_details.is_some();
                if let (Some(span), Some(details)) = (&mut span, &response.failure_details) {
                    span.set_status(Status::Error(details.error_message.clone()));
                }
                drop(span);
                let mut event =
                    completion(inner.now(), scheduled, &task.task_execution_id, response);
                let asked = Asked {
                    app_id: &inner.names.app_id,
                    activity: Some(&task.name),
                    input: task.input.as_deref(),
                };
                match inner.attest(instance, &asked, &mut event) {
                    Ok(()) => {
                        let told = self.publish(instance, scheduled, &event).await;
                        told.map(|told| told && !failed)
                    }
                    Err(error) => Err(error),
                }
            }
            Err(error) => {
                if let Some(span) = &mut span {
                    span.set_status(Status::Error(error.to_string()));
                }
                Err(error)
            }
        };
        let status = match &ran {
            Ok(true) => SUCCESS,
            Ok(false) => FAILED,
            Err(_) => RECOVERABLE,
        };
        inner
            .metrics
            .activity_ran(&task.name, status, began.elapsed());
        ran.map(drop)
    }

    /// Tells the workflow; whether there is one.
    async fn publish(
        &self,
        instance: &str,
        scheduled: &HistoryEvent,
        event: &HistoryEvent,
    ) -> Result<bool, Error> {
        let inner = &self.0.inner;
        let source = scheduled
            .router
            .as_ref()
            .map(|router| router.source_app_id.as_str());
        let workflow = inner.actor_of(source, instance)?;
        let told = inner.add_event(workflow.clone(), event, http::HeaderMap::new());
        let what = || format!("the completion for workflow '{instance}'");
        match inner.within(inner.patience(), what, told).await {
            Ok(()) => Ok(true),
            Err(Error::NotFound) => {
                tracing::info!("a completion for workflow '{instance}', which is gone, is dropped");
                Ok(false)
            }
            Err(error) => {
                // The workflow's sidecar gets it by a reminder, whenever it is there again. Q-workflow-result
                tracing::debug!("a completion for workflow '{instance}' goes by reminder: {error}");
                let name = format!("{}{}", reminding::RESULT, inner.new_id());
                let data = Some(reminding::pack(event));
                let kept = inner.remind(&workflow, name, inner.now(), data, None);
                kept.await.map(|()| true)
            }
        }
    }
}

/// What the workflow hears.
fn completion(
    now: Timestamp,
    scheduled: &HistoryEvent,
    execution: &str,
    response: ActivityResponse,
) -> HistoryEvent {
    let kind = match response.failure_details {
        Some(details) => EventType::TaskFailed(TaskFailedEvent {
            task_scheduled_id: scheduled.event_id,
            failure_details: Some(details),
            task_execution_id: execution.to_owned(),
            ..TaskFailedEvent::default()
        }),
        None => EventType::TaskCompleted(TaskCompletedEvent {
            task_scheduled_id: scheduled.event_id,
            result: response.result,
            task_execution_id: execution.to_owned(),
            ..TaskCompletedEvent::default()
        }),
    };
    event::of_action(event::NO_ID, now, kind, scheduled.router.clone())
}

/// How long an activity that has run is known, for reminders that fire late.
const REMEMBERED: Duration = Duration::from_secs(60);
const MOST_REMEMBERED: usize = 10_000;
