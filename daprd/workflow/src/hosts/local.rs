//! The fast path: an instance is woken by the sidecar where something has happened to it, and has one reminder, its janitor's, instead
//! of one for each event and each activity. What is lost with the sidecar is found by the janitor. Whatever cannot be done here after
//! a few tries gets the reminder that it has without the fast path. Q-workflow-fast

use std::{sync::Arc, time::Duration};

use actors::{ActorId, Error as ActorError};
use prost_types::Timestamp;
use proto::durabletask::HistoryEvent;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use crate::{
    Error,
    core::{effects::Effect, event, resolution},
    engine::Inner,
    instances::{Claim, Instance, Slot, Waking},
    reminding,
    stamp::Stamp,
    time::from_wire,
};

impl Inner {
    /// Whether an instance may be woken from here: there is a janitor for it, by now.
    pub async fn guard(&self, slot: &mut Slot, actor: &ActorId, workflow: &str) -> bool {
        if !self.options.fast_path {
            return false;
        }
        if !slot.guarded {
            match self.remind_of_janitor(actor, workflow).await {
                Ok(()) => slot.guarded = true,
                Err(error) => {
                    let id = &actor.id;
                    tracing::warn!("Workflow actor '{id}': it gets no janitor: {error}");
                }
            }
        }
        slot.guarded
    }

    /// Whether an instance is to begin later.
    pub fn is_later(&self, start: &HistoryEvent) -> bool {
        let started = event::execution_started(start);
        let due = started.and_then(|started| started.scheduled_start_timestamp);
        due.is_some_and(|due| from_wire(due) > self.options.clock.now())
    }

    /// Wakes an instance that is stored and has not run; one that is to begin later has a reminder of its own.
    ///
    /// # Errors
    /// [`Error::Reminders`].
    pub async fn wake_first(
        self: &Arc<Self>,
        slot: &mut Slot,
        instance: &Instance,
        actor: &ActorId,
        start: &HistoryEvent,
    ) -> Result<(), Error> {
        let started = event::execution_started(start);
        let due = started.and_then(|started| started.scheduled_start_timestamp);
        let name = started.map(|started| started.name.clone());
        let name = name.unwrap_or_default();
        if self.is_later(start) || !self.guard(slot, actor, &name).await {
            return self.remind_of_start(actor, start).await;
        }
        let reminder = reminding::of_event(reminding::START, start);
        let due = due.or(start.timestamp).unwrap_or_default();
        self.wake_here(&instance.waking, actor, reminder, due, name);
        Ok(())
    }

    /// Wakes an instance because of an event that is stored, or held. `from_here`: what wakes it here, where there is a janitor.
    ///
    /// # Errors
    /// As [`Inner::remind_of`].
    pub async fn wake_for(
        self: &Arc<Self>,
        from_here: Option<Waking>,
        actor: &ActorId,
        event: &HistoryEvent,
        began: Option<Timestamp>,
        workflow: String,
    ) -> Result<(), Error> {
        let Some(waking) = from_here else {
            return self.remind_of(actor, event, began, workflow).await;
        };
        let reminder = reminding::of_event(reminding::NEW_EVENT, event);
        let due = began.or(event.timestamp).unwrap_or_default();
        self.wake_here(&waking, actor, reminder, due, workflow);
        Ok(())
    }

    /// Wakes an instance in place of a reminder, which is made after all where that fails. Nothing where somebody is at it.
    fn wake_here(
        self: &Arc<Self>,
        waking: &Waking,
        actor: &ActorId,
        reminder: String,
        due: Timestamp,
        workflow: String,
    ) {
        let Some(waker) = waking.ask() else {
            return;
        };
        let (inner, actor) = (Arc::clone(self), actor.clone());
        self.tasks.spawn("wake-up of a workflow", async move {
            let closed = inner.closed.clone();
            let mut next = Some(waker);
            let woken = async {
                while let Some(waker) = next.take() {
                    inner.drive(&actor, &reminder, due, &workflow).await;
                    next = waker.done();
                }
            };
            // Where the sidecar ends first, the janitor wakes it.
            closed.run_until_cancelled(Box::pin(woken)).await;
        });
    }

    async fn drive(&self, actor: &ActorId, reminder: &str, due: Timestamp, workflow: &str) {
        let (mut failed, mut pause) = (0, FIRST_PAUSE);
        while failed < TRIES {
            let began = Instant::now();
            let woken = self
                .options
                .actors
                .wake(actor.clone(), reminder.to_owned())
                .await;
            self.metrics.local.woken(woken.is_ok(), began.elapsed());
            match woken.map_err(Error::from) {
                Ok(()) => return,
                // It was tried until something changed that may have helped.
                Err(Error::Stalled) => {}
                // Instances leave this sidecar, or it ends: a reminder wakes them where they are next, sooner than the janitor.
                Err(Error::Actors(ActorError::NotRegistered(_) | ActorError::Closed)) => break,
                Err(_) => failed += 1,
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        if let Err(error) = self.insist(actor, reminder, due, workflow).await {
            let id = &actor.id;
            tracing::warn!("Workflow actor '{id}': {reminder} is left to the janitor: {error}");
        }
    }

    /// Whether a completion need not go into the inbox: whoever sent it waits, and sends it again. What is signed is judged as it
    /// comes in, and what that finds is stored with it.
    pub fn is_held(&self, slot: &Slot, event: &HistoryEvent, guarded: bool) -> bool {
        let is_completion = matches!(
            resolution::of(event),
            Some(resolution::Resolution::Task(_) | resolution::Resolution::Child(_))
        );
        guarded && is_completion && slot.has_room() && !self.signing.is_on()
    }

    /// Waits until a turn has stored a completion.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: it is to be sent again.
    pub async fn until_stored(&self, stored: oneshot::Receiver<()>) -> Result<(), Error> {
        let began = Instant::now();
        let mut present = self.options.workers.present();
        let gone = async {
            let _ = present.wait_for(|present| !*present).await;
        };
        let is_stored = tokio::select! {
            biased;
            stored = timeout(self.options.fold_wait, stored) => matches!(stored, Ok(Ok(()))),
            () = gone => false,
        };
        self.metrics.local.folded(is_stored, began.elapsed());
        match is_stored {
            true => Ok(()),
            false => Err(Error::Unavailable(
                "the completion was not stored; it is to be sent again".to_owned(),
            )),
        }
    }

    /// Takes what is open, to do it. Activities have no reminders where there is a janitor; an instance that has ended gets none.
    pub async fn claim<'i>(
        &self,
        slot: &mut Slot,
        instance: &'i Instance,
        actor: &ActorId,
    ) -> Claim<'i> {
        let open = slot.open.as_deref().unwrap_or_default();
        let mut open = open.iter();
        let name = slot.record.as_ref().map(|record| record.name());
        if let Some(name) = name
            && open.any(|effect| matches!(effect, Effect::Activity { .. }))
        {
            self.guard(slot, actor, &name).await;
        }
        instance.claim(slot)
    }

    /// Takes the janitor's reminder away, of the run of an instance that has ended: its id may be in use again by now.
    ///
    /// # Errors
    /// [`Error::Reminders`].
    pub async fn unguard(
        &self,
        instance: &Instance,
        actor: &ActorId,
        run: u64,
        stamp: &Stamp,
    ) -> Result<(), Error> {
        let mut slot = instance.lock().await;
        if slot.run != run || !slot.guarded {
            return Ok(());
        }
        let reminders = &self.options.reminders;
        reminders.delete(actor, reminding::JANITOR).await?;
        slot.guarded = false;
        self.look_back(actor, stamp).await
    }
}

/// How often an instance is woken from here before it gets a reminder.
const TRIES: usize = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
