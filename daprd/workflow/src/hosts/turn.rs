//! A turn, from the reminder that wakes an instance to the commit, and what is done because of it. A reminder is kept by its scheduler
//! until its turn has come to an end here, so a turn that is broken off anywhere is taken again; what it did twice counts once. Q-workflow-commit

use std::sync::Arc;

use actors::ActorId;
use prost::Message;
use proto::durabletask::{HistoryEvent, OrchestrationStatus as Status, history_event::EventType};
use tokio::sync::MutexGuard;

use crate::{
    Error,
    core::{
        event,
        fold::Fold,
        resolution::{self, Resolution},
        stall::{self, Stall},
        turn::{Before, Begun, Next, Place, Turn},
    },
    engine::Inner,
    instances::{Held, Instance, Slot},
    metrics::{FAILED, RECOVERABLE, REMINDER, SUCCESS, TERMINATED},
    record::Record,
    time::from_wire,
};

/// What a turn comes to.
pub enum Taken {
    /// The instance goes on, or has ended.
    Done,
    /// The same, and there is more than one turn takes.
    More,
    /// It cannot go on until somebody does something about it.
    Stalled,
}

impl Inner {
    /// Has an instance look at its inbox, and at an event that the reminder itself carries. `generation`: the run that this event
    /// belongs to.
    ///
    /// # Errors
    /// Why the reminder has to fire again.
    pub async fn turn(
        self: &Arc<Self>,
        actor: &ActorId,
        mut carried: Option<HistoryEvent>,
        generation: Option<u64>,
    ) -> Result<(), Error> {
        let mut released = self.stalled.subscribe();
        loop {
            match self.take_turn(actor, carried.take(), generation).await? {
                Taken::Done => return Ok(()),
                Taken::More => {}
                Taken::Stalled => {
                    let _ = released.changed().await;
                    return Err(Error::Stalled);
                }
            }
        }
    }

    async fn take_turn(
        self: &Arc<Self>,
        actor: &ActorId,
        carried: Option<HistoryEvent>,
        generation: Option<u64>,
    ) -> Result<Taken, Error> {
        let id = &actor.id;
        let instance = self.instances.get(id);
        let mut slot = self.lock(&instance, REMINDER).await;
        instance.waking.looks();
        let Some(record) = self.current(&mut slot, &instance, actor).await? else {
            tracing::warn!("No workflow state found for actor '{id}', terminating execution");
            slot.next_run();
            return Ok(Taken::Done);
        };
        let stray = carried.as_ref().and_then(|event| {
            let earlier = generation.is_some_and(|generation| generation < record.generation);
            stray_timer(&record, event, earlier)
        });
        if let Some(stray) = stray {
            tracing::info!("Workflow actor '{id}': a timer of an earlier run is dropped");
            slot.record = Some(record);
            self.ask_again(slot, &instance, actor, stray).await?;
            return Ok(Taken::Done);
        }
        let carried = carried.filter(|_| !record.fold.is_completed());
        let carried = carried.map(|event| HistoryEvent {
            timestamp: Some(self.now()),
            ..event
        });
        let held = slot.take_held();
        let new = held.iter().map(|held| held.event.clone()).chain(carried);
        let new: Vec<_> = new.collect();
        if new.is_empty() && record.inbox.is_empty() {
            slot.record = Some(record);
            instance.waking.has_seen_all();
            self.finish(slot, &instance, actor).await?;
            return Ok(Taken::Done);
        }
        let size = record.size() + new.iter().map(Message::encoded_len).sum::<usize>();
        let name = record.name();
        self.metrics.turn_size(&name, size, self.options.max_body);
        self.count_start(&record, &name);
        if stall::is_too_large(size, self.options.max_body) {
            let stall = stall::too_large("Workflow payload size", size, self.options.max_body);
            return self.stall(&mut slot, &instance, actor, record, stall).await;
        }
        let taken = self.work(&mut slot, &instance, actor, record, new);
        let taken = taken.await.inspect_err(|_| {
            self.metrics.executed(&name, RECOVERABLE, None);
        })?;
        if let Taken::Stalled = taken {
            return Ok(taken);
        }
        held.into_iter().for_each(Held::stored);
        let more = !slot.held.is_empty();
        if !more {
            instance.waking.has_seen_all();
        }
        self.finish(slot, &instance, actor).await?;
        Ok(if more { Taken::More } else { Taken::Done })
    }

    /// Says of a start what only the sidecar that begins it knows.
    fn prepare(&self, event: &mut HistoryEvent) {
        let Some(EventType::ExecutionStarted(start)) = &mut event.event_type else {
            return;
        };
        if self.options.tracer.makes_spans() {
            crate::tracing::identify(start, &mut || self.new_id());
        }
        if event.router.is_none() {
            event.router = Some(event::from(&self.names.app_id));
        }
    }

    /// Asks a worker, as often as the workflow begins anew, and commits.
    async fn work(
        self: &Arc<Self>,
        slot: &mut MutexGuard<'_, Slot>,
        instance: &Instance,
        actor: &ActorId,
        mut record: Record,
        new: Vec<HistoryEvent>,
    ) -> Result<Taken, Error> {
        let mut inbox = record.inbox.clone();
        inbox.extend(new);
        for start in &mut inbox {
            self.prepare(start);
        }
        let before = Before {
            instance: actor.id.clone(),
            history: std::mem::take(&mut record.history),
            fold: std::mem::take(&mut record.fold),
            custom_status: record.custom_status.clone(),
            incoming: record.incoming.clone(),
        };
        let mut turn = match Turn::begin(before, inbox, self.now()) {
            Begun::Ask(turn) => turn,
            Begun::Moot(history, fold) => {
                let kept = history.len();
                record.set_history(history, kept, *fold);
                record.clear_inbox(Vec::new());
                self.save(slot, instance, actor, record).await?;
                return Ok(Taken::Done);
            }
        };
        let mut new_id = || self.new_id();
        let busy = instance.busy();
        let commit = loop {
            let workers = &self.options.workers;
            let asked = workers.turn(turn.request(), turn.shared_past());
            let response = asked.await?;
            let mut place = self.place(&mut new_id);
            match turn.answered(response, &mut place)? {
                Next::Again(again) => turn = again,
                Next::Commit(commit) => break commit,
                Next::Stall(history, stall) => {
                    let kept = history.len();
                    let fold = Fold::of(&history);
                    record.set_history(history, kept, fold);
                    return self.stall(slot, instance, actor, record, stall).await;
                }
            }
        };
        // Whoever wants to begin it meanwhile may do so in a turn of his own, which has this one wait: so it stays said that it is busy.
        self.commit(slot, instance, actor, record, *commit, busy)
            .await
    }

    /// Says why an instance cannot go on. Its inbox stays, for when it can.
    pub async fn stall(
        &self,
        slot: &mut MutexGuard<'_, Slot>,
        instance: &Instance,
        actor: &ActorId,
        mut record: Record,
        stall: Stall,
    ) -> Result<Taken, Error> {
        tracing::info!(
            "Workflow actor '{}': workflow is stalled: {}",
            actor.id,
            stall.description
        );
        if let Some(event) = stall.event(&record.history, self.now()) {
            let kept = record.history.len();
            let mut history = std::mem::take(&mut record.history);
            let mut fold = std::mem::take(&mut record.fold);
            fold.add(&event);
            history.push(event);
            record.set_history(history, kept, fold);
            self.save(slot, instance, actor, record).await?;
        }
        // It may be long.
        slot.record = None;
        Ok(Taken::Stalled)
    }

    fn count_start(&self, record: &Record, name: &str) {
        let Some(start) = record.pending_start() else {
            return;
        };
        let scheduled = event::execution_started(start).and_then(|it| it.scheduled_start_timestamp);
        let due = scheduled.or(start.timestamp).unwrap_or_default();
        let late = from_wire(self.now()).duration_since(from_wire(due));
        self.metrics.scheduled(name, late.unsigned_abs());
    }

    pub fn count_end(&self, record: &Record) {
        if !record.fold.is_completed() {
            return;
        }
        let status = match record.fold.status() {
            Status::Completed => SUCCESS,
            Status::Terminated => TERMINATED,
            _ => FAILED,
        };
        let began = from_wire(record.began().unwrap_or_default());
        let took = from_wire(self.now()).duration_since(began).unsigned_abs();
        self.metrics.executed(&record.name(), status, Some(took));
    }

    /// Where a turn is taken.
    pub(crate) fn place<'p>(&'p self, new_id: &'p mut (dyn FnMut() -> String + Send)) -> Place<'p> {
        Place {
            app_id: &self.names.app_id,
            namespace: &self.names.namespace,
            now: self.now(),
            traced: self.options.tracer.makes_spans(),
            new_id,
        }
    }
}

/// The number of a timer that has fired for an earlier run.
fn stray_timer(record: &Record, fired: &HistoryEvent, earlier: bool) -> Option<Resolution> {
    let number = resolution::of(fired)?;
    let asked = resolution::asked(&record.history, number);
    let is_answer = asked.is_some_and(|asked| resolution::answers(asked, fired));
    (earlier || !is_answer).then_some(number)
}
