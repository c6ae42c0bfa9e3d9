//! An instance begins, or an event comes in: it is stored first, then a reminder is made that has the instance look at it. Where the
//! second fails, whoever asked hears it and asks again, and finds what is stored.

use std::sync::Arc;

use actors::ActorId;
use http::HeaderMap;
use proto::durabletask::{HistoryEvent, backend::v1::CreateWorkflowInstanceRequest};

use crate::{
    Error, access,
    calls::HELD,
    core::{
        event,
        inbox::{self, Arrival, Meant},
        resolution,
    },
    engine::Inner,
    instances::{Instance, Slot, Waking},
    metrics::METHOD,
    record::Record,
    reminding,
    signing::Completion,
};

impl Inner {
    /// Begins an instance. `asker`: the instance that is kept from others until this is done.
    ///
    /// # Errors
    /// [`Error::Exists`] where there is one that goes on, or that may not be replaced.
    pub async fn create(
        self: &Arc<Self>,
        actor: &ActorId,
        request: CreateWorkflowInstanceRequest,
        asker: Option<&str>,
    ) -> Result<(), Error> {
        let CreateWorkflowInstanceRequest {
            start_event,
            propagated_history,
            enforce_unique_instance_id,
        } = request;
        let start = start_event.filter(|event| event::execution_started(event).is_some());
        let start =
            start.ok_or_else(|| Error::Invalid("invalid execution start event".to_owned()))?;
        let of = event::execution_started(&start).and_then(event::instance_id);
        if let Some(other) = of.filter(|id| self.signing.is_on() && *id != actor.id) {
            return Err(Error::Invalid(format!(
                "the execution start event is of workflow '{other}', not of '{}'",
                actor.id
            )));
        }
        let instance = self.instances.get(&actor.id);
        let of_parent =
            event::execution_started(&start).is_some_and(|it| it.parent_instance.is_some());
        if !of_parent && instance.is_busy() {
            // Whoever asks may be busy with a turn that this one waits for.
            let run = event::execution_started(&start).and_then(event::execution_id);
            return match instance.was_asked_for(run) {
                true => Ok(()),
                false => Err(exists(actor)),
            };
        }
        let mut slot = self.lock(&instance, METHOD).await;
        let mut finished = None;
        let mut record = loop {
            let Some(record) = self.current(&mut slot, &instance, actor).await? else {
                break Record::default();
            };
            if !record.fold.is_completed() {
                let known = self.known(&mut slot, &instance, actor, &record, &start);
                let known = known.await;
                slot.record = Some(record);
                return known;
            }
            let began = record.began();
            let is_known = is_known_asking(&record, &start);
            let reports = self.undone(actor, &record).await?;
            if (is_known || finished != Some(began)) && !reports.is_empty() {
                // Somebody may be at it, but who can say that he gets done? The parent takes one end once.
                slot.record = Some(record);
                drop(slot);
                for report in &reports {
                    self.report_anyhow(report, asker).await?;
                }
                if is_known {
                    return Ok(());
                }
                finished = Some(began);
                slot = instance.lock().await;
                continue;
            }
            if is_known {
                slot.record = Some(record);
                return Ok(());
            }
            let reuse = self.check_reuse(actor, &record, enforce_unique_instance_id);
            if let Err(error) = reuse.await {
                slot.record = Some(record);
                return Err(error);
            }
            tracing::info!(
                "Workflow actor '{}': a workflow that has ended begins anew",
                actor.id
            );
            break record;
        };
        if record.fold.is_completed() {
            record.reset();
        }
        let shown = propagated_history.as_ref();
        self.signing.check_shown(shown, Some(&mut record.seals))?;
        record.set_incoming(propagated_history);
        record.inbox.push(start.clone());
        instance.forget_open(&mut slot);
        slot.open = Some(Vec::new());
        slot.next_run();
        slot.guarded = false;
        self.save(&mut slot, &instance, actor, record).await?;
        instance.asked_for(event::execution_started(&start).and_then(event::execution_id));
        self.wake_first(&mut slot, &instance, actor, &start).await
    }

    /// Somebody asks for an instance that goes on. It is all right where he asked before; and where the instance was stored then but
    /// not woken, it is woken now.
    async fn known(
        self: &Arc<Self>,
        slot: &mut Slot,
        instance: &Instance,
        actor: &ActorId,
        record: &Record,
        asked: &HistoryEvent,
    ) -> Result<(), Error> {
        let (Some(known), Some(start)) = (record.start(), event::execution_started(asked)) else {
            return Err(exists(actor));
        };
        let pending = record.pending_start();
        if inbox::is_same_child(known, start) || inbox::is_same_asking(known, start) {
            return match pending {
                Some(pending) if self.is_unwoken(actor, pending).await? => {
                    self.wake_first(slot, instance, actor, pending).await
                }
                _ => Ok(()),
            };
        }
        match pending {
            Some(pending)
                if inbox::is_same_start(known, start)
                    && self.is_unwoken(actor, pending).await? =>
            {
                self.wake_first(slot, instance, actor, pending).await
            }
            _ => Err(exists(actor)),
        }
    }

    async fn is_unwoken(&self, actor: &ActorId, pending: &HistoryEvent) -> Result<bool, Error> {
        let name = reminding::of_event(reminding::START, pending);
        let reminders = &self.options.reminders;
        Ok(reminders.get(actor, &name).await?.is_none()
            && reminders.get(actor, reminding::JANITOR).await?.is_none())
    }

    /// Whether an id may be used again: nothing of the run before may reach the new one.
    async fn check_reuse(
        &self,
        actor: &ActorId,
        record: &Record,
        unique: bool,
    ) -> Result<(), Error> {
        let id = &actor.id;
        if unique {
            return Err(Error::Exists(format!(
                "a workflow with ID '{id}' already exists and the create enforces instance ID uniqueness"
            )));
        }
        let first = HeaderMap::new();
        let asked = Box::pin(self.check_children(actor, &first, &record.history));
        let what = || "the question whether its children have ended".to_owned();
        match self.within(HELD, what, asked).await {
            Ok(()) => Ok(()),
            Err(error) => {
                let text = format!("cannot recreate workflow with ID '{id}': {error}");
                Err(match error {
                    Error::NotCompleted(_) => Error::Exists(text),
                    _ => Error::Unavailable(text),
                })
            }
        }
    }

    /// Takes an event into the inbox, once.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Stalled`] for what a user asks.
    pub async fn take_in(
        self: &Arc<Self>,
        actor: &ActorId,
        mut event: HistoryEvent,
        meant: Meant<'_>,
    ) -> Result<(), Error> {
        let instance = self.instances.get(&actor.id);
        let mut slot = self.lock(&instance, METHOD).await;
        let Some(mut record) = self.current(&mut slot, &instance, actor).await? else {
            return Err(Error::NotFound);
        };
        if Self::is_condemned(&record) && Completion::of(&event).is_some() {
            slot.record = Some(record);
            return Err(Error::NotFound);
        }
        let is_asked = access::operation_of(&event).is_some();
        if is_asked && record.fold.stalled.is_some() {
            slot.record = Some(record);
            return Err(Error::Stalled);
        }
        // Q-workflow-moot
        let own_run = record.start().and_then(event::execution_id);
        let arrival = match meant.is_for_other(own_run, record.generation) {
            true => Arrival::Stray,
            false if self.is_unasked(&record, &event) => Arrival::Stray,
            false => inbox::arrival(&event, &record.history, &record.fold, &record.inbox),
        };
        let waking = match record.fold.stalled {
            None => instance.waking.clone(),
            // Whoever has woken it last waits for workers to change, and this may help as well.
            Some(_) => Waking::default(),
        };
        let (began, name) = (record.history.first(), record.name());
        let began = began.and_then(|first| first.timestamp);
        match arrival {
            Arrival::Stray => {
                let id = &actor.id;
                tracing::info!(
                    "Workflow actor '{id}': a {} of an earlier run is dropped",
                    event::kind(&event)
                );
                slot.record = Some(record);
                return match resolution::of(&event) {
                    Some(stray) => self.ask_again(slot, &instance, actor, stray).await,
                    None => Ok(()),
                };
            }
            // Its reminder may not have been made.
            Arrival::Again => slot.record = Some(record),
            Arrival::New => {
                let checked = self.check_completion(actor, &mut record, &mut event);
                if let Err(error) = checked {
                    let record = self.condemn(actor, record, &error.to_string()).await?;
                    self.tell(&instance, actor, Some(&record));
                    slot.record = Some(record);
                    instance.forget_open(&mut slot);
                    return Err(Error::NotFound);
                }
                let may_wait = !record.fold.is_completed() && record.fold.stalled.is_none();
                let guarded = may_wait && self.guard(&mut slot, actor, &name).await;
                if self.is_held(&slot, &event, guarded) {
                    slot.record = Some(record);
                    let stored = slot.hold(event.clone());
                    drop(slot);
                    // What waits must not keep the instance from being forgotten, with what it holds.
                    drop(instance);
                    self.wake_for(Some(waking), actor, &event, began, name)
                        .await?;
                    return self.until_stored(stored).await;
                }
                record.inbox.push(event.clone());
                self.save(&mut slot, &instance, actor, record).await?;
            }
        }
        // What has ended needs no janitor. It is woken all the same: whoever has sent this may be told so by nothing else.
        let has_ended = slot
            .record
            .as_ref()
            .is_some_and(|it| it.fold.is_completed());
        let guarded = !has_ended && self.guard(&mut slot, actor, &name).await;
        drop(slot);
        self.wake_for(guarded.then_some(waking), actor, &event, began, name)
            .await
    }
}

/// Whether an instance is the one that is asked for, by the same asking or the same parent, also where it has ended by now.
fn is_known_asking(record: &Record, asked: &HistoryEvent) -> bool {
    let (Some(known), Some(asked)) = (record.start(), event::execution_started(asked)) else {
        return false;
    };
    inbox::is_same_child(known, asked) || inbox::is_same_asking(known, asked)
}

fn exists(actor: &ActorId) -> Error {
    Error::Exists(format!(
        "an active workflow with ID '{}' already exists",
        actor.id
    ))
}
