//! What is done for an instance that has ended: it is kept as long as it is to be, its children are terminated where that was asked for,
//! and nothing wakes it any more. All of it may be done twice.

use actors::ActorId;
use futures::{StreamExt, stream};
use http::HeaderMap;
use jiff::SignedDuration;
use prost_types::Timestamp;
use proto::durabletask::{
    ExecutionTerminatedEvent, OrchestrationStatus as Status, history_event::EventType,
};

use super::AT_A_TIME;
use crate::{
    Error,
    core::{
        effects::{self, Child},
        event, timers,
    },
    engine::Inner,
    record::Record,
    reminding,
    time::{from_wire, to_wire},
};

/// What is left to do.
pub struct Ending {
    /// Until when it is kept, where it is not for ever.
    until: Option<Timestamp>,
    terminated: Option<ExecutionTerminatedEvent>,
    children: Vec<Child>,
    /// Timers that have not fired.
    timers: Vec<i32>,
}

impl Inner {
    /// What is to be done, where an instance has ended.
    pub fn ending(&self, actor: &ActorId, record: &Record) -> Option<Ending> {
        if !record.fold.is_completed() {
            return None;
        }
        let terminated = record.history.iter().find_map(event::terminated);
        let terminated = terminated.filter(|terminated| terminated.recurse).cloned();
        let children = match terminated {
            Some(_) => effects::children(&record.history, &self.names.app_id, &actor.id),
            None => Vec::new(),
        };
        Some(Ending {
            until: self.retained_until(record),
            children,
            terminated,
            timers: timers::left(&record.history),
        })
    }

    /// Does it.
    ///
    /// # Errors
    /// Why it has to be done again.
    pub async fn end(&self, actor: &ActorId, ending: Ending) -> Result<(), Error> {
        self.retain_until(actor, ending.until).await?;
        if let Some(terminated) = ending.terminated {
            self.terminate_children(ending.children, terminated).await?;
        }
        Ok(())
    }

    /// Takes away what would wake an instance that has ended; whether there was anything. Nobody else may work on the instance meanwhile.
    /// Reminders of its inbox stay: they go by themselves, and one of them is what has this done again where it was not.
    ///
    /// # Errors
    /// [`Error::Reminders`].
    pub async fn stop_reminders(&self, actor: &ActorId, ending: &Ending) -> Result<bool, Error> {
        if ending.timers.is_empty() {
            return Ok(false);
        }
        for some in ending.timers.chunks(AT_A_TIME) {
            let timers = some.iter().map(|id| self.forget_timer(actor, *id));
            futures::future::try_join_all(timers).await?;
        }
        let activities = format!("{}::", actor.id);
        let reminders = &self.options.reminders;
        reminders
            .delete_prefix(&self.names.activity(), &activities)
            .await?;
        Ok(true)
    }

    /// Has an instance deleted once it has been kept long enough, where it has ended.
    ///
    /// # Errors
    /// [`Error::Reminders`].
    pub async fn retain(&self, actor: &ActorId, record: &Record) -> Result<(), Error> {
        if !record.fold.is_completed() {
            return Ok(());
        }
        self.retain_until(actor, self.retained_until(record)).await
    }

    async fn retain_until(&self, actor: &ActorId, until: Option<Timestamp>) -> Result<(), Error> {
        let Some(until) = until else {
            return Ok(());
        };
        let retentioner = ActorId {
            kind: self.names.retentioner(),
            id: actor.id.clone(),
        };
        let name = reminding::RETENTION.to_owned();
        self.remind(&retentioner, name, until, None, None).await
    }

    /// Whether an instance has been kept for long enough; a reminder of that may be one of an earlier run, which ended otherwise.
    pub fn is_over(&self, record: &Record) -> bool {
        let now = self.options.clock.now();
        let until = self.retained_until(record).map(from_wire);
        until.is_some_and(|until| until.duration_since(now) <= SKEW)
    }

    async fn terminate_children(
        &self,
        children: Vec<Child>,
        terminated: ExecutionTerminatedEvent,
    ) -> Result<(), Error> {
        let event = event::plain(self.now(), EventType::ExecutionTerminated(terminated));
        let event = &event;
        let mut failed = None;
        let told = children.into_iter().map(|child| async move {
            let target = self.actor_of(child.app_id.as_deref(), &child.instance)?;
            match child.app_id {
                None => {
                    let name = reminding::CASCADE.to_owned();
                    let data = Some(reminding::pack(event));
                    self.remind(&target, name, self.now(), data, None).await
                }
                Some(_) => {
                    let what = || format!("the termination of child workflow '{}'", child.instance);
                    let told = self.add_event(target, event, HeaderMap::new());
                    self.within(self.patience(), what, told).await
                }
            }
        });
        let mut told = stream::iter(told).buffer_unordered(AT_A_TIME);
        while let Some(told) = told.next().await {
            match told {
                Ok(()) | Err(Error::NotFound) => {}
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn retained_until(&self, record: &Record) -> Option<Timestamp> {
        let policy = &self.options.retention;
        let own = match record.fold.status() {
            Status::Completed => policy.completed,
            Status::Failed => policy.failed,
            Status::Terminated => policy.terminated,
            _ => None,
        };
        let kept = own.or(policy.any_terminal)?;
        let ended = record.fold.completed_at().unwrap_or_else(|| self.now());
        let due = from_wire(ended).checked_add(kept);
        Some(to_wire(due.unwrap_or(jiff::Timestamp::MAX)))
    }
}

/// By how much clocks of schedulers may be ahead.
const SKEW: SignedDuration = SignedDuration::from_mins(5);
