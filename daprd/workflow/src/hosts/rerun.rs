//! A workflow runs again from one of its events on: the instance that it ran as takes its history apart, and the new one begins with
//! that.

use actors::ActorId;
use http::HeaderMap;
use prost::Message;
use proto::durabletask::{
    HistoryEvent, RerunWorkflowFromEventRequest, backend::v1::BackendWorkflowState,
    history_event::EventType,
};

use crate::{
    Error,
    calls::RERUN,
    core::{effects::Committed, fold::Fold, rerun},
    engine::Inner,
    record::Record,
    tracing::identify,
};

impl Inner {
    /// Takes the history of an instance apart, and has the new one begin.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Invalid`], and those of the new instance.
    pub async fn fork(
        &self,
        actor: &ActorId,
        request: RerunWorkflowFromEventRequest,
    ) -> Result<(), Error> {
        let id = &actor.id;
        let instance = self.instances.get(id);
        let record = {
            let mut slot = instance.lock().await;
            self.current(&mut slot, &instance, actor).await?
        };
        let Some(record) = record else {
            return Err(Error::Missing(format!(
                "workflow instance does not exist with ID '{id}'"
            )));
        };
        if !record.fold.is_completed() {
            return Err(Error::Invalid(format!("'{id}' is not in a terminal state")));
        }
        if Self::is_condemned(&record) {
            return Err(Error::Invalid(format!(
                "'{id}' has ended because its history does not verify, and nothing is begun with that"
            )));
        }
        let start = record.fold.start.as_ref();
        if start.is_some_and(|start| start.parent_instance.is_some()) {
            return Err(Error::Invalid(format!(
                "'{id}': cannot rerun from child-workflows"
            )));
        }
        let new = request.new_instance_id.clone().unwrap_or_default();
        let fork = rerun::fork(&record.history, &request, &new)?;
        let state = BackendWorkflowState {
            inbox: fork.again,
            history: fork.history,
            custom_status: None,
            generation: 1,
        };
        let data = state.encode_to_vec().into();
        let target = self.actor(&new);
        self.call(target, RERUN, data, HeaderMap::new())
            .await
            .map(drop)
    }

    /// Parts a start from the run that it was taken from: it says which instance it is of, and a run has a span of its own.
    fn part(&self, actor: &ActorId, event: &mut HistoryEvent) {
        if let Some(EventType::ExecutionStarted(start)) = &mut event.event_type {
            if let Some(instance) = &mut start.workflow_instance {
                instance.instance_id.clone_from(&actor.id);
            }
            start.workflow_span_id = None;
            if self.options.tracer.makes_spans() {
                identify(start, &mut || self.new_id());
            }
        }
    }

    /// Begins an instance with the history of another.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Invalid`].
    pub async fn rerun_here(
        &self,
        actor: &ActorId,
        state: BackendWorkflowState,
    ) -> Result<(), Error> {
        let instance = self.instances.get(&actor.id);
        let mut slot = instance.lock().await;
        if self.current(&mut slot, &instance, actor).await?.is_some() {
            return Err(Error::Exists(format!(
                "workflow '{}' has already been created",
                actor.id
            )));
        }
        if state.inbox.is_empty() {
            return Err(Error::Invalid(
                "expect rerun workflow inbox to not be empty".to_owned(),
            ));
        }
        let mut history = state.history;
        history.iter_mut().for_each(|event| self.part(actor, event));
        let from = history.len();
        for event in state.inbox {
            check(&event)?;
            history.push(HistoryEvent {
                timestamp: Some(self.now()),
                ..event
            });
        }
        let fold = Fold::of(&history);
        let mut new_id = || self.new_id();
        let committed = Committed {
            instance: &actor.id,
            history: &history,
            fold: &fold,
            incoming: None,
        };
        let mut effects = committed.effects(from, &mut self.place(&mut new_id));
        self.vouch(&mut effects, fold.start.as_ref())?;
        let mut record = Record::default();
        record.set_history(history, 0, fold);
        let generation = record.generation;
        self.save(&mut slot, &instance, actor, record).await?;
        slot.open = Some(effects);
        slot.next_run();
        slot.guarded = false;
        let mut claim = self.claim(&mut slot, &instance, actor).await;
        let began = slot.record.as_ref().and_then(Record::began);
        let timers = self.set_timers(&mut claim, actor, generation).await;
        drop(slot);
        let done = self.do_claimed(claim, actor, generation, began).await;
        let done = done.map(drop).and(timers);
        if done.is_err() {
            // It is stored, and asking once more would only hear that.
            self.have_rechecked(actor).await?;
        }
        done
    }
}

fn check(event: &HistoryEvent) -> Result<(), Error> {
    match &event.event_type {
        Some(
            EventType::TaskScheduled(_)
            | EventType::TimerCreated(_)
            | EventType::ChildWorkflowInstanceCreated(_),
        ) => Ok(()),
        _ => Err(Error::Invalid(format!(
            "unexpected event type '{}' in inbox",
            crate::core::event::kind(event)
        ))),
    }
}
