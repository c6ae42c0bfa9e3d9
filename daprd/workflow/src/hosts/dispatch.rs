//! What is done because of committed turns. Each thing is done until it has been done, by whichever reminder is at hand, and what was
//! done before a sidecar was lost is done once more or found to be done.

use actors::ActorId;
use futures::{StreamExt, stream};
use http::{HeaderMap, HeaderValue};
use prost::Message;
use prost_types::Timestamp;
use proto::durabletask::{
    HistoryEvent, TaskFailureDetails,
    backend::v1::{ActivityInvocation, CreateWorkflowInstanceRequest},
};
use tokio::sync::MutexGuard;

use super::AT_A_TIME;
use crate::{
    Error,
    calls::{self, CREATE, DUE_TIME, EXECUTE},
    core::{
        effects::Effect,
        event,
        resolution::{self, Resolution},
        stall::{self, Stall},
    },
    engine::Inner,
    instances::{Claim, Instance, Slot},
    reminding,
};

impl Effect {
    /// What is waited for because of it.
    pub fn awaited(&self) -> Option<Resolution> {
        match self {
            Self::Activity { event, .. } => resolution::awaited(event),
            Self::Timer { id, .. } => Some(Resolution::Timer(*id)),
            Self::Child { task, .. } => Some(Resolution::Child(*task)),
            Self::Cancel { .. } | Self::Report { .. } | Self::Event { .. } => None,
        }
    }
}

impl Inner {
    /// Does what turns have left to do, of an instance that nobody else works on. Others may work on it meanwhile: whom this calls may
    /// wait for it.
    pub async fn finish(
        &self,
        mut slot: MutexGuard<'_, Slot>,
        instance: &Instance,
        actor: &ActorId,
    ) -> Result<(), Error> {
        let Some(record) = &slot.record else {
            return Ok(());
        };
        if slot.open.is_none() {
            let undone = self.undone(actor, record).await?;
            slot.open = Some(undone);
        }
        let Some(record) = &slot.record else {
            return Ok(());
        };
        let (generation, began, stamp) = (record.generation, record.began(), record.stamp());
        let (run, ending) = (slot.run, self.ending(actor, record));
        if ending.is_some() {
            // Its history may be long, and nobody goes on with it.
            slot.record = None;
        }
        let mut claim = self.claim(&mut slot, instance, actor).await;
        // The janitor goes when all of this is done, so it asks for no activity again.
        claim.guarded &= ending.is_none();
        let timers = async {
            let deletes = claim
                .effects
                .iter()
                .any(|it| matches!(it, Effect::Cancel { .. }));
            self.set_timers(&mut claim, actor, generation).await?;
            let stopped = match &ending {
                Some(ending) => self.stop_reminders(actor, ending).await?,
                None => false,
            };
            match deletes || stopped {
                true => self.look_back(actor, &stamp).await,
                false => Ok(()),
            }
        };
        let timers = timers.await;
        drop(slot);
        let number = self.do_claimed(claim, actor, generation, began).await?;
        let has_ended = ending.is_some();
        if let Some(ending) = ending {
            self.end(actor, ending).await?;
        }
        timers?;
        if !instance.is_all_done(number).await {
            return Err(Error::Unavailable(LEFT.to_owned()));
        }
        match has_ended {
            true => self.unguard(instance, actor, run, &stamp).await,
            false => Ok(()),
        }
    }

    /// Makes and deletes the timers that are claimed. Nobody else may work on the instance meanwhile: numbers of timers come again with
    /// the next run, whose timers these must not meet.
    pub async fn set_timers(
        &self,
        claim: &mut Claim<'_>,
        actor: &ActorId,
        generation: u64,
    ) -> Result<(), Error> {
        let is_timer =
            |effect: &Effect| matches!(effect, Effect::Timer { .. } | Effect::Cancel { .. });
        let effects = std::mem::take(&mut claim.effects);
        let (timers, others) = effects.into_iter().partition::<Vec<_>, _>(is_timer);
        claim.effects = others;
        let mut failed = None;
        let mut timers = timers.into_iter();
        loop {
            let some: Vec<_> = timers.by_ref().take(AT_A_TIME).collect();
            let set = some
                .iter()
                .map(|effect| self.set_timer(actor, effect, generation));
            let set = futures::future::join_all(set).await;
            if set.is_empty() {
                break;
            }
            for (effect, set) in some.into_iter().zip(set) {
                if let Err(error) = set {
                    claim.left.push(effect);
                    failed.get_or_insert(error);
                }
            }
            if failed.is_some() {
                // Each may have waited for a scheduler that is away, and so would the rest.
                claim.left.extend(timers);
                break;
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn set_timer(
        &self,
        actor: &ActorId,
        effect: &Effect,
        generation: u64,
    ) -> Result<(), Error> {
        match effect {
            Effect::Timer { id, fire_at } => {
                self.remind_of_timer(actor, *id, *fire_at, generation).await
            }
            Effect::Cancel { id } => self.forget_timer(actor, *id).await,
            _ => Ok(()),
        }
    }

    /// Deletes the reminder of a timer.
    pub async fn forget_timer(&self, actor: &ActorId, id: i32) -> Result<(), Error> {
        let name = format!("{}{id}", reminding::TIMER);
        Ok(self.options.reminders.delete(actor, &name).await?)
    }

    /// Does what is claimed, but for timers; what fails stays open.
    pub async fn do_claimed(
        &self,
        mut claim: Claim<'_>,
        actor: &ActorId,
        generation: u64,
        began: Option<Timestamp>,
    ) -> Result<u64, Error> {
        let mut failed = None;
        let (guarded, effects) = (claim.guarded, std::mem::take(&mut claim.effects));
        let done = effects.into_iter().map(|effect| async move {
            let done = self.do_one(actor, &effect, began, generation, guarded);
            let done = Box::pin(done).await;
            (effect, done)
        });
        let mut done = stream::iter(done).buffer_unordered(AT_A_TIME);
        while let Some((effect, done)) = done.next().await {
            if let Err(error) = done {
                claim.left.push(effect);
                failed.get_or_insert(error);
            }
        }
        drop(done);
        // In their order, and to children that have been begun.
        while let Some(message) = claim.messages.front() {
            let sent = Box::pin(self.do_one(actor, message, began, generation, guarded)).await;
            let message = claim.messages.pop_front();
            if let Err(error) = sent {
                claim.left.extend(message);
                failed.get_or_insert(error);
            }
        }
        let number = claim.settle().await;
        failed.map_or(Ok(number), Err)
    }

    async fn do_one(
        &self,
        actor: &ActorId,
        effect: &Effect,
        began: Option<Timestamp>,
        generation: u64,
        guarded: bool,
    ) -> Result<(), Error> {
        match effect {
            Effect::Activity { event, propagated } => {
                warn_of_unsigned(actor, propagated.as_ref());
                let message = invocation(event, propagated.as_ref());
                self.execute(actor, event, message, began, generation, guarded)
                    .await
            }
            Effect::Child {
                task,
                instance,
                request,
            } => {
                warn_of_unsigned(actor, request.propagated_history.as_ref());
                self.begin_child(actor, *task, instance, request, generation)
                    .await
            }
            Effect::Timer { .. } | Effect::Cancel { .. } => {
                self.set_timer(actor, effect, generation).await
            }
            Effect::Report { parent, event } => {
                let what = || "the report to the parent".to_owned();
                let told = self.report(parent, event);
                self.within(self.patience(), what, told).await
            }
            Effect::Event { instance, event } => {
                let what = || format!("an event for workflow '{instance}'");
                let sent = self.send_event(instance, event);
                self.within(self.patience(), what, sent).await
            }
        }
    }

    pub async fn execute(
        &self,
        actor: &ActorId,
        scheduled: &HistoryEvent,
        message: Vec<u8>,
        began: Option<Timestamp>,
        generation: u64,
        guarded: bool,
    ) -> Result<(), Error> {
        let names = self.names_of(event::target(scheduled.router.as_ref()))?;
        let task = scheduled.event_id;
        let activity = ActorId {
            kind: names.activity(),
            id: activity_id(&actor.id, task),
        };
        let millis = event::nanos(began.as_ref()) / 1_000_000;
        let due = HeaderValue::from_str(&millis.to_string()).ok();
        let mut headers = HeaderMap::from_iter(due.map(|due| (DUE_TIME, due)));
        if guarded && self.options.fast_path {
            headers.extend(calls::flag(calls::LOCAL_DRIVE));
        }
        let what = || format!("the beginning of activity '{}'", activity.id);
        let call = self.call(activity.clone(), EXECUTE, message.into(), headers);
        match self.within(self.patience(), what, call).await {
            Err(Error::Denied) => {
                let app_id = &self.names.app_id;
                let failed = event::task_failed(self.now(), scheduled, app_id, denied());
                self.remind_of_failure(actor, &failed, generation).await
            }
            other => other.map(drop),
        }
    }

    async fn begin_child(
        &self,
        actor: &ActorId,
        task: i32,
        instance: &str,
        request: &CreateWorkflowInstanceRequest,
        generation: u64,
    ) -> Result<(), Error> {
        let router = request
            .start_event
            .as_ref()
            .and_then(|start| start.router.as_ref());
        let child = self.actor_of(event::target(router), instance)?;
        let data = request.encode_to_vec().into();
        let created = match child == *actor {
            true => Err(Error::Exists(format!(
                "workflow '{instance}' cannot be a child of its own"
            ))),
            false => {
                let what = || format!("the beginning of child workflow '{instance}'");
                let call = self.call(child, CREATE, data, HeaderMap::new());
                self.within(self.patience(), what, call).await
            }
        };
        let details = match created {
            Err(Error::Denied) => denied(),
            Err(Error::Exists(text)) => TaskFailureDetails {
                error_type: "WorkflowInstanceAlreadyExists".to_owned(),
                error_message: text,
                ..TaskFailureDetails::default()
            },
            other => return other.map(drop),
        };
        let failed = event::child_failed(self.now(), task, &self.names.app_id, details);
        self.remind_of_failure(actor, &failed, generation).await
    }

    /// An event of this instance's own making: it comes by a reminder, because the instance is busy with a turn.
    async fn remind_of_failure(
        &self,
        actor: &ActorId,
        failed: &HistoryEvent,
        generation: u64,
    ) -> Result<(), Error> {
        let name = reminding::of_own(generation, failed);
        let data = Some(reminding::pack(failed));
        self.remind(actor, name, self.now(), data, None).await
    }

    /// An activity that is too large to be sent to a worker.
    pub fn oversized(&self, effects: &[Effect], workflow: &str) -> Option<Stall> {
        let most = self.options.max_body;
        effects.iter().find_map(|effect| {
            let Effect::Activity { event, propagated } = effect else {
                return None;
            };
            let size = invocation(event, propagated.as_ref()).len();
            let name = event::task_scheduled(event).map(|task| task.name.as_str());
            let what = format!(
                "activity '{}::{}' payload",
                name.unwrap_or_default(),
                event.event_id
            );
            self.metrics
                .activity_size(workflow, name.unwrap_or_default(), size, most);
            stall::is_too_large(size, most).then(|| stall::too_large(&what, size, most))
        })
    }
}

/// What an activity actor is sent; without anything to show it, the event alone, as older sidecars send it.
pub fn invocation(
    event: &HistoryEvent,
    propagated: Option<&proto::durabletask::PropagatedHistory>,
) -> Vec<u8> {
    match propagated {
        None => event.encode_to_vec(),
        Some(propagated) => ActivityInvocation {
            history_event: Some(event.clone()),
            propagated_history: Some(propagated.clone()),
        }
        .encode_to_vec(),
    }
}

/// Says that whoever is shown a history has to believe it.
fn warn_of_unsigned(actor: &ActorId, shown: Option<&proto::durabletask::PropagatedHistory>) {
    let own = shown.and_then(|shown| shown.chunks.last());
    if own.is_some_and(|own| own.raw_signatures.is_empty()) {
        tracing::warn!(
            "Workflow actor '{}': propagating unsigned workflow history, which nobody can verify",
            actor.id
        );
    }
}

/// The id of the actor that runs an activity (contract 11.5).
pub fn activity_id(instance: &str, task: i32) -> String {
    format!("{instance}::{task}")
}

/// Why an instance has not been seen to.
const LEFT: &str = "something that an earlier turn has asked for is not done yet";

fn denied() -> TaskFailureDetails {
    TaskFailureDetails {
        error_type: "WorkflowAccessPolicyDenied".to_owned(),
        error_message: Error::Denied.to_string(),
        ..TaskFailureDetails::default()
    }
}
