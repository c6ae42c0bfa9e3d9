//! The actor that runs one activity: asked to, it makes a reminder; the reminder has a worker run it, and the workflow gets what comes
//! of it. On the fast path it runs at once, without a reminder. An activity that runs is not run again by the same sidecar, however often its reminder fires.

use std::{collections::VecDeque, sync::Arc};

use actors::{
    ActorId, Error as ActorError, Request, Response,
    host::{Firing, Host},
};
use async_trait::async_trait;
use bytes::Bytes;
use crds::workflow_access_policy::Operation;
use dashmap::DashMap;
use parking_lot::Mutex;
use prost::Message;
use prost_types::{Any, Timestamp};
use proto::durabletask::{HistoryEvent, backend::v1::ActivityInvocation};
use tokio::{sync::watch, time::Instant};

use crate::{
    Error,
    access::What,
    calls::{DUE_TIME, EXECUTE, LOCAL_DRIVE, is_set},
    core::event,
    engine::Inner,
    hosts::workflow::ok,
    reminding, workers,
};

mod local;
mod running;

/// Hosts them. Clones share what runs.
#[derive(Clone)]
pub struct ActivityHost(Arc<Activities>);

struct Activities {
    inner: Arc<Inner>,
    running: DashMap<String, watch::Receiver<Option<bool>>>,
    /// Those that have run, until they are forgotten.
    done: Mutex<VecDeque<(Instant, String)>>,
}

#[async_trait]
impl Host for ActivityHost {
    async fn call(&self, request: Request) -> Result<Response, ActorError> {
        if request.method != EXECUTE {
            return Err(ActorError::NoMethod(request.method));
        }
        let asked = Box::pin(self.ask(request)).await;
        asked.map(|()| ok(Bytes::new())).map_err(Error::into_actors)
    }

    async fn remind(&self, firing: Firing) -> Result<(), ActorError> {
        let id = firing.actor.id.clone();
        let ran = Box::pin(self.fire(firing)).await;
        ran.map_err(|error| {
            tracing::warn!(
                "Activity actor '{id}': it will be tried again: {}",
                component::error::chain(&error)
            );
            error.into_actors()
        })
    }

    async fn timer(&self, firing: Firing) -> Result<(), ActorError> {
        Err(ActorError::NoMethod(firing.name))
    }

    async fn deactivate(&self, _: &ActorId) -> Result<(), ActorError> {
        Ok(())
    }
}

impl ActivityHost {
    pub fn new(inner: Arc<Inner>) -> Self {
        Self(Arc::new(Activities {
            inner,
            running: DashMap::new(),
            done: Mutex::default(),
        }))
    }

    async fn ask(&self, request: Request) -> Result<(), Error> {
        let invocation = decode(&request.data)?;
        let scheduled = invocation.history_event.as_ref();
        let name = scheduled.and_then(event::task_scheduled);
        let name = name.map(|task| task.name.clone());
        let asked = || name.clone().unwrap_or_default();
        let inner = &self.0.inner;
        inner.allow_with(
            &request.headers,
            What::Activity,
            Some(Operation::Schedule),
            asked,
            inner.proven(invocation.propagated_history.as_ref()),
        )?;
        if scheduled.is_some_and(|scheduled| self.is_done(&key(&request.actor.id, scheduled))) {
            // It is asked late, and another run may have a reminder of this name by now.
            return Ok(());
        }
        let due = request.headers.get(DUE_TIME);
        let due = due.and_then(|due| due.to_str().ok()?.parse::<i64>().ok());
        let due = due.map_or_else(|| inner.now(), from_millis);
        if inner.options.fast_path && is_set(&request.headers, &LOCAL_DRIVE) {
            self.begin_here(request.actor, invocation, due, name);
            return Ok(());
        }
        self.remind(&request.actor, &invocation, due, name).await
    }

    async fn remind(
        &self,
        actor: &ActorId,
        invocation: &ActivityInvocation,
        due: Timestamp,
        name: Option<String>,
    ) -> Result<(), Error> {
        let data = Some(reminding::pack(invocation));
        let inner = &self.0.inner;
        let reminder = reminding::RUN.to_owned();
        inner.remind(actor, reminder, due, data, name).await
    }

    /// Runs an activity, or finds it at work; nothing where it makes no sense.
    ///
    /// # Errors
    /// Where the history that it is shown cannot be believed.
    fn begin(
        &self,
        id: &str,
        invocation: ActivityInvocation,
    ) -> Result<Option<watch::Receiver<Option<bool>>>, Error> {
        let instance = id.split_once("::").map(|(instance, _)| instance.to_owned());
        let scheduled = invocation.history_event.clone();
        let (Some(instance), Some(scheduled)) = (instance, scheduled) else {
            tracing::error!("Activity actor '{id}': what asks for no activity is dropped");
            return Ok(None);
        };
        let shown = invocation.propagated_history.as_ref();
        self.0.inner.signing.check_shown(shown, None)?;
        let outcome = self.run(key(id, &scheduled), instance, scheduled, invocation);
        Ok(Some(outcome))
    }

    async fn fire(&self, firing: Firing) -> Result<(), Error> {
        let id = &firing.actor.id;
        let invocation = invocation_of(&firing.data).unwrap_or_default();
        if let Some(scheduled) = &invocation.history_event
            && let Some((instance, _)) = id.split_once("::")
            && self.is_done(&key(id, scheduled))
        {
            // Its scheduler has not heard that it ran, or a late asking has put it where that of another run was.
            return self.check_place(instance, scheduled).await;
        }
        let Some(mut outcome) = self.begin(id, invocation)? else {
            return Ok(());
        };
        let mut waiting = Waiting {
            actor: id,
            reminder: &firing.name,
            over: false,
        };
        let settled = outcome.wait_for(Option::is_some).await;
        waiting.over = true;
        match settled.as_deref() {
            Ok(Some(true)) => Ok(()),
            Ok(_) => Err(Error::Lost(workers::Lost)),
            Err(_) => Err(Error::Closed),
        }
    }

    /// Whether an activity has run, and the workflow has been told.
    fn is_done(&self, key: &str) -> bool {
        let known = self.0.running.get(key);
        known.is_some_and(|outcome| *outcome.borrow() == Some(true))
    }

    /// Sees to it that a workflow of this app which waits for an activity of this number has a reminder for it.
    async fn check_place(&self, instance: &str, scheduled: &HistoryEvent) -> Result<(), Error> {
        let inner = &self.0.inner;
        let source = scheduled
            .router
            .as_ref()
            .map(|it| it.source_app_id.as_str());
        let workflow = inner.actor_of(source, instance)?;
        match workflow.kind == inner.names.workflow() {
            true => inner.ask_again_for(&workflow, scheduled.event_id).await,
            false => Ok(()),
        }
    }
}

/// Somebody waits for an activity; the activity goes on where he does not any more.
struct Waiting<'w> {
    actor: &'w str,
    reminder: &'w str,
    over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.over {
            let (actor, reminder) = (self.actor, self.reminder);
            tracing::warn!(
                "{actor}: received cancellation signal while waiting for activity execution '{reminder}'"
            );
        }
    }
}

/// Older sidecars send the event alone.
fn decode(data: &Bytes) -> Result<ActivityInvocation, Error> {
    if let Ok(invocation) = ActivityInvocation::decode(data.clone())
        && invocation.history_event.is_some()
    {
        return Ok(invocation);
    }
    let event = HistoryEvent::decode(data.clone());
    let event = event.map_err(|_| Error::Unreadable("activity".to_owned()))?;
    Ok(ActivityInvocation {
        history_event: Some(event),
        propagated_history: None,
    })
}

/// By which one asking for an activity is told from another: an id is used again by a workflow that begins anew.
fn key(actor: &str, scheduled: &HistoryEvent) -> String {
    let execution = crate::core::resolution::execution(scheduled);
    match execution {
        Some(execution) => format!("{actor}::{execution}"),
        None => format!("{actor}::{}", event::nanos(scheduled.timestamp.as_ref())),
    }
}

fn from_millis(millis: i64) -> Timestamp {
    let time = jiff::Timestamp::from_millisecond(millis);
    crate::time::to_wire(time.unwrap_or(jiff::Timestamp::UNIX_EPOCH))
}

/// What a reminder says is to be run.
pub fn invocation_of(data: &Option<Any>) -> Option<ActivityInvocation> {
    reminding::unpack(data).or_else(|| {
        let event: HistoryEvent = reminding::unpack(data)?;
        Some(ActivityInvocation {
            history_event: Some(event),
            propagated_history: None,
        })
    })
}
