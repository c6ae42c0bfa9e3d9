//! The reminders of instances: what wakes an instance, once, until it has been seen to. Names follow from what they are for, so that
//! one that is made again takes the place of itself.

use std::{sync::Arc, time::Duration};

use actors::{ActorId, reminders::Registration};
use prost::{Message, Name};
use prost_types::{Any, Timestamp};
use proto::{
    common::v1::{
        JobFailurePolicy, JobFailurePolicyConstant, JobFailurePolicyDrop,
        job_failure_policy::Policy,
    },
    durabletask::{HistoryEvent, backend::v1::DurableTimer, history_event::EventType},
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};
use tonic::Code;
use values::GoDuration;

use crate::{
    Error,
    core::{
        event::{self, digest},
        inbox::Meant,
    },
    engine::Inner,
    time::{from_wire, to_wire},
};

/// Of the first turn.
pub const START: &str = "start";
/// Of an event in the inbox.
pub const NEW_EVENT: &str = "new-event";
/// Of a timer.
pub const TIMER: &str = "timer-";
/// Of the completion of an activity, where the workflow could not be called.
pub const RESULT: &str = "activity-result-";
/// Of an instance that may lack reminders, because a sidecar that did not own it any more has deleted some.
pub const RECHECK: &str = "new-event-recheck";
/// Of a child whose parent was terminated.
pub const CASCADE: &str = "cascade-terminate";
/// Of an activity that is to run.
pub const RUN: &str = "run-activity";
/// Of an instance on the fast path, again and again: it looks for what was lost. By its name, sidecars that do not know it take it for
/// that of an event.
pub const JANITOR: &str = "new-event-janitor";
/// Of state that has been kept long enough.
pub const RETENTION: &str = "retention";

/// The reminder that wakes an instance because of an event.
pub fn of_event(prefix: &str, event: &HistoryEvent) -> String {
    let nanos = || event::nanos(event.timestamp.as_ref());
    let (kind, rest) = match &event.event_type {
        Some(EventType::TaskCompleted(it)) => ("tc", it.task_scheduled_id.to_string()),
        Some(EventType::TaskFailed(it)) => ("tf", it.task_scheduled_id.to_string()),
        Some(EventType::ChildWorkflowInstanceCompleted(it)) => {
            ("cwc", it.task_scheduled_id.to_string())
        }
        Some(EventType::ChildWorkflowInstanceFailed(it)) => {
            ("cwf", it.task_scheduled_id.to_string())
        }
        // The name is the user's, so it may be long and have any character.
        Some(EventType::EventRaised(it)) if !it.name.is_empty() => ("er", digest(&it.name)),
        Some(EventType::EventRaised(_)) => ("er", nanos().to_string()),
        Some(EventType::TimerFired(it)) => ("tmf", it.timer_id.to_string()),
        Some(EventType::ExecutionStarted(_)) => ("es", nanos().to_string()),
        Some(EventType::ExecutionTerminated(_)) => ("et", nanos().to_string()),
        Some(EventType::ExecutionSuspended(_)) => ("esp", nanos().to_string()),
        Some(EventType::ExecutionResumed(_)) => ("erm", nanos().to_string()),
        _ => ("x", nanos().to_string()),
    };
    format!("{prefix}-{kind}-{rest}")
}

/// The reminder that carries an event of an instance's own making to a run of it.
pub fn of_own(generation: u64, event: &HistoryEvent) -> String {
    of_event(&format!("{RESULT}{OWN}{generation}"), event)
}

/// The reminder that tells a run of a parent how a child ended.
pub fn of_child(run: Option<&str>, event: &HistoryEvent) -> String {
    let run = run.unwrap_or_default();
    of_event(&format!("{RESULT}{CHILD}{}", digest(run)), event)
}

/// Which run a reminder with an event is meant for.
pub fn meant(name: &str) -> Meant<'_> {
    let of_child = || {
        name.strip_prefix(RESULT)?
            .strip_prefix(CHILD)?
            .split_once('-')
    };
    match (own_run(name), of_child()) {
        (Some(generation), _) => Meant::Generation(generation),
        (None, Some((run, _))) if run != digest("") => Meant::Hashed(run),
        _ => Meant::Any,
    }
}

/// The run that such a reminder is meant for.
fn own_run(name: &str) -> Option<u64> {
    let (generation, _) = name
        .strip_prefix(RESULT)?
        .strip_prefix(OWN)?
        .split_once('-')?;
    generation.parse().ok()
}

/// A message as Go packs it.
pub fn pack<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: format!("type.googleapis.com{}", M::type_url()),
        value: message.encode_to_vec(),
    }
}

/// The message of a type in a reminder.
pub fn unpack<M: Message + Name + Default>(data: &Option<Any>) -> Option<M> {
    let data = data.as_ref()?;
    let name = data.type_url.rsplit('/').next()?;
    (name == M::full_name()).then(|| M::decode(data.value.as_slice()).ok())?
}

impl Inner {
    /// Wakes an instance because of an event in its inbox, which is stored and has nothing else that wakes it: so this is tried until
    /// it is done, also where whoever asked waits no longer. `began`: the first event of its history.
    pub async fn remind_of(
        self: &Arc<Self>,
        actor: &ActorId,
        event: &HistoryEvent,
        began: Option<Timestamp>,
        workflow: String,
    ) -> Result<(), Error> {
        let name = of_event(NEW_EVENT, event);
        let due = began.or(event.timestamp).unwrap_or_default();
        let (settle, settled) = oneshot::channel();
        let (inner, actor) = (Arc::clone(self), actor.clone());
        self.tasks.spawn("wake-up of a workflow", async move {
            let closed = inner.closed.clone();
            let wake = inner.insist(&actor, &name, due, &workflow);
            if let Some(done) = closed.run_until_cancelled(wake).await {
                let _ = settle.send(done);
            }
        });
        settled.await.unwrap_or(Err(Error::Closed))
    }

    /// Makes the reminder that wakes an instance because of an event, until it is made.
    ///
    /// # Errors
    /// [`Error::Reminders`] where the scheduler will never take it, or has not for ten minutes.
    pub async fn insist(
        &self,
        actor: &ActorId,
        name: &str,
        due: Timestamp,
        workflow: &str,
    ) -> Result<(), Error> {
        let end = Instant::now() + INSISTENCE;
        let mut pause = FIRST_PAUSE;
        loop {
            let key = Some(workflow.to_owned());
            match self.remind(actor, name.to_owned(), due, None, key).await {
                Err(error) if !is_refused(&error) && Instant::now() < end => {
                    tracing::warn!("{name} of workflow '{}' is made again: {error}", actor.id);
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                done => return done,
            }
        }
    }

    /// Wakes an instance for its first turn.
    pub async fn remind_of_start(
        &self,
        actor: &ActorId,
        start: &HistoryEvent,
    ) -> Result<(), Error> {
        let started = event::execution_started(start);
        let scheduled = started.and_then(|started| started.scheduled_start_timestamp);
        let due = scheduled.or(start.timestamp).unwrap_or_default();
        let workflow = started.map(|started| started.name.clone());
        let name = of_event(START, start);
        self.remind(actor, name, due, None, workflow).await
    }

    /// Wakes an instance when a timer fires.
    pub async fn remind_of_timer(
        &self,
        actor: &ActorId,
        id: i32,
        fire_at: Option<Timestamp>,
        generation: u64,
    ) -> Result<(), Error> {
        let timer = DurableTimer {
            timer_event: Some(event::timer_fired(self.now(), id, fire_at)),
            generation,
        };
        let name = format!("{TIMER}{id}");
        let due = fire_at.unwrap_or_default();
        self.remind(actor, name, due, Some(pack(&timer)), None)
            .await
    }

    /// Makes a reminder that fires once, and again until it has run. A scheduler that is away for a moment is waited for.
    pub async fn remind(
        &self,
        actor: &ActorId,
        name: String,
        due: Timestamp,
        data: Option<Any>,
        concurrency_key: Option<String>,
    ) -> Result<(), Error> {
        let registration = Registration {
            actor: actor.clone(),
            name,
            due_time: from_wire(due).to_string(),
            period: String::new(),
            ttl: String::new(),
            data,
            overwrite: None,
            failure_policy: Some(again_until_done()),
            concurrency_key: concurrency_key.filter(|key| !key.is_empty()),
        };
        let end = Instant::now() + PATIENCE;
        let mut pause = FIRST_PAUSE;
        loop {
            match self.options.reminders.create(registration.clone()).await {
                Err(error) if is_away(&error) && Instant::now() < end => {
                    tracing::debug!("a reminder is made again: {error}");
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                other => return Ok(other?),
            }
        }
    }

    /// Makes the janitor's reminder, once; whoever asks has another way where that fails. A firing that fails is not repeated: there
    /// will be the next one.
    ///
    /// # Errors
    /// [`Error::Reminders`].
    pub async fn remind_of_janitor(&self, actor: &ActorId, workflow: &str) -> Result<(), Error> {
        let period = self.options.janitor_period;
        let due = self.options.clock.now().saturating_add(period);
        let registration = Registration {
            actor: actor.clone(),
            name: JANITOR.to_owned(),
            due_time: due.unwrap_or(jiff::Timestamp::MAX).to_string(),
            period: GoDuration::from(period).to_string(),
            ttl: String::new(),
            data: None,
            overwrite: None,
            failure_policy: Some(JobFailurePolicy {
                policy: Some(Policy::Drop(JobFailurePolicyDrop {})),
            }),
            concurrency_key: Some(workflow.to_owned()).filter(|key| !key.is_empty()),
        };
        Ok(self.options.reminders.create(registration).await?)
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        to_wire(self.options.clock.now())
    }
}

/// Tries again for ever, each reminder at an interval of its own, so that not all come at once.
fn again_until_done() -> JobFailurePolicy {
    let millis = fastrand::u64(SHORTEST_AGAIN..LONGEST_AGAIN);
    let interval = Duration::from_millis(millis);
    JobFailurePolicy {
        policy: Some(Policy::Constant(JobFailurePolicyConstant {
            interval: prost_types::Duration::try_from(interval).ok(),
            max_retries: None,
        })),
    }
}

fn is_away(error: &actors::reminders::Error) -> bool {
    match error {
        actors::reminders::Error::Scheduler(status) => {
            matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded)
        }
        _ => false,
    }
}

/// Whether a scheduler will never take a reminder, however often it is asked.
fn is_refused(error: &Error) -> bool {
    let Error::Reminders(actors::reminders::Error::Scheduler(status)) = error else {
        return true;
    };
    matches!(
        status.code(),
        Code::InvalidArgument
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::Unimplemented
            | Code::NotFound
    )
}

/// What no other sidecar has made.
const OWN: &str = "own-";

/// What tells a run of a parent of its child.
const CHILD: &str = "child-";

/// How long a wake-up is tried.
const INSISTENCE: Duration = Duration::from_secs(600);

/// How long a scheduler that is away is waited for (contract 11.6).
const PATIENCE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Milliseconds between two tries of a reminder.
const SHORTEST_AGAIN: u64 = 50;
const LONGEST_AGAIN: u64 = 2000;
