//! The actor of an instance: methods of others, and reminders that wake it.

use std::sync::Arc;

use actors::{
    ActorId, Error as ActorError, Request, Response,
    host::{Answers, Firing, Host},
};
use async_trait::async_trait;
use bytes::Bytes;
use proto::durabletask::{HistoryEvent, backend::v1::DurableTimer, history_event::EventType};

use crate::{
    Error,
    calls::{self, read},
    core::inbox::Meant,
    engine::Inner,
    reminding,
};

/// Hosts instances.
pub struct WorkflowHost(pub Arc<Inner>);

#[async_trait]
impl Host for WorkflowHost {
    async fn call(&self, request: Request) -> Result<Response, ActorError> {
        let answer = Box::pin(self.answer(request)).await;
        answer.map(ok).map_err(Error::into_actors)
    }

    async fn follow(&self, request: Request) -> Result<Answers, ActorError> {
        let answers = Box::pin(self.0.watch(request)).await;
        answers.map_err(Error::into_actors)
    }

    async fn remind(&self, firing: Firing) -> Result<(), ActorError> {
        let (actor, name) = (firing.actor.clone(), firing.name.clone());
        let woken = Box::pin(self.wake(firing)).await;
        woken.map_err(|error| {
            let id = &actor.id;
            tracing::warn!(
                "Workflow actor '{id}': {name} will be tried again: {}",
                describe(&error)
            );
            error.into_actors()
        })
    }

    async fn timer(&self, firing: Firing) -> Result<(), ActorError> {
        Err(ActorError::NoMethod(firing.name))
    }

    async fn deactivate(&self, actor: &ActorId) -> Result<(), ActorError> {
        self.0.instances.forget(&actor.id);
        Ok(())
    }
}

impl WorkflowHost {
    async fn answer(&self, request: Request) -> Result<Bytes, Error> {
        let Request {
            actor,
            method,
            headers,
            data,
            ..
        } = request;
        let inner = &self.0;
        inner.admit(&actor, &method, &headers, &data).await?;
        match method.as_str() {
            calls::CREATE => {
                let request = read("request of a new workflow", &data)?;
                let asker = headers.get(calls::ASKER).and_then(|id| id.to_str().ok());
                inner.create(&actor, request, asker).await?;
            }
            calls::ADD_EVENT => {
                let event: HistoryEvent = read("event", &data)?;
                let run = headers.get(calls::PARENT_RUN);
                let run = run.and_then(|run| run.to_str().ok());
                let meant = run.map_or(Meant::Any, Meant::Execution);
                inner.take_in(&actor, event, meant).await?;
            }
            calls::PURGE => {
                let of_retention = calls::is_set(&headers, &calls::OF_RETENTION);
                inner.purge_one(&actor, of_retention, false).await?;
            }
            calls::PURGE_ALL => {
                let force = calls::is_set(&headers, &calls::FORCE);
                return inner.purge_all(&actor, force, &headers).await;
            }
            calls::FORK => {
                let request = read("request to run a workflow again", &data)?;
                inner.fork(&actor, request).await?;
            }
            calls::RERUN => {
                let state = read("workflow to run again", &data)?;
                inner.rerun_here(&actor, state).await?;
            }
            _ => return Err(Error::Actors(ActorError::NoMethod(method))),
        }
        Ok(Bytes::new())
    }

    async fn wake(&self, firing: Firing) -> Result<(), Error> {
        let Firing {
            actor, name, data, ..
        } = firing;
        let inner = &self.0;
        let malformed = || {
            tracing::error!(
                "Workflow actor '{}': reminder {name} has data that no such reminder has; it is dropped",
                actor.id
            );
            Ok(())
        };
        if name == reminding::JANITOR {
            return inner.look_after(&actor).await;
        }
        if name.starts_with(reminding::TIMER) {
            let timer: Option<DurableTimer> = reminding::unpack(&data);
            let timer = timer.and_then(|timer| Some((timer.timer_event?, timer.generation)));
            let is_firing =
                |event: &HistoryEvent| matches!(event.event_type, Some(EventType::TimerFired(_)));
            let Some((event, generation)) = timer.filter(|(event, _)| is_firing(event)) else {
                return malformed();
            };
            return inner.turn(&actor, Some(event), Some(generation)).await;
        }
        if name == reminding::CASCADE {
            let event: Option<HistoryEvent> = reminding::unpack(&data);
            let ends = |event: &HistoryEvent| {
                matches!(event.event_type, Some(EventType::ExecutionTerminated(_)))
            };
            let Some(event) = event.filter(ends) else {
                return malformed();
            };
            return inner.turn(&actor, Some(event), None).await;
        }
        if name.starts_with(reminding::RESULT) {
            let event: Option<HistoryEvent> = reminding::unpack(&data);
            let Some(event) = event else {
                return malformed();
            };
            return match inner.take_in(&actor, event, reminding::meant(&name)).await {
                Err(Error::NotFound) => {
                    tracing::warn!(
                        "Workflow actor '{}': {name} is for a workflow that is gone",
                        actor.id
                    );
                    Ok(())
                }
                other => other,
            };
        }
        if name == reminding::RECHECK {
            return inner.recheck(&actor).await;
        }
        inner.turn(&actor, None, None).await
    }
}

/// An answer with these bytes.
pub fn ok(data: Bytes) -> Response {
    Response {
        status: 200,
        data,
        ..Response::default()
    }
}

/// An error as logs have it.
// Compat: Q-workflow-absent
fn describe(error: &Error) -> String {
    let text = component::error::chain(error);
    match error {
        Error::Actors(ActorError::NoAddress(_)) => {
            format!("failed to lookup actor: api error: code = FailedPrecondition desc = {text}")
        }
        _ => text,
    }
}
