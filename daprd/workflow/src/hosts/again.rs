//! What was asked for and is not on its way: found out where an instance is taken over, and where something shows that an earlier run
//! has got in the way of this one. Numbers of tasks and timers begin anew with each run of an instance, and reminders are named after
//! them, so a sidecar that was held up may still make or delete one that is the next run's by now. What it made says so when it fires,
//! and what it deleted it looks after itself.

use std::{collections::HashSet, sync::Arc};

use actors::ActorId;
use futures::{StreamExt, TryStreamExt, future, stream};
use proto::durabletask::HistoryEvent;
use tokio::sync::MutexGuard;

use super::AT_A_TIME;
use crate::{
    Error,
    core::{
        effects::{Committed, Effect},
        event,
        resolution::{self, Resolution},
        timers,
    },
    engine::Inner,
    hosts::{
        activity,
        dispatch::{activity_id, invocation},
    },
    instances::{Instance, Slot},
    record::Record,
    reminding,
    stamp::Stamp,
};

impl Inner {
    /// What may not have been done of an instance that has lived elsewhere.
    ///
    /// # Errors
    /// [`Error::Reminders`], [`Error::Signing`].
    pub async fn undone(&self, actor: &ActorId, record: &Record) -> Result<Vec<Effect>, Error> {
        let committed = self.committed(actor, record, &record.history);
        self.undone_of(actor, &committed, &record.inbox).await
    }

    /// The same because of some events of it. `inbox`: what no turn has looked at.
    ///
    /// # Errors
    /// As [`Inner::undone`].
    pub async fn undone_of(
        &self,
        actor: &ActorId,
        committed: &Committed<'_>,
        inbox: &[HistoryEvent],
    ) -> Result<Vec<Effect>, Error> {
        let mut new_id = || self.new_id();
        let Committed { history, fold, .. } = *committed;
        if fold.is_completed() {
            let last = committed.last_turn();
            let mut effects = committed.effects(last, &mut self.place(&mut new_id));
            effects.retain(|effect| matches!(effect, Effect::Report { .. }));
            self.vouch(&mut effects, fold.start.as_ref())?;
            return Ok(effects);
        }
        let waiting = inbox.iter().filter_map(|event| {
            let number = resolution::of(event)?;
            let asked = resolution::asked(history, number)?;
            resolution::answers(asked, event).then_some(number)
        });
        let waiting: HashSet<_> = waiting.collect();
        let cancelled = timers::cancelled(history, 0);
        let mut effects = committed.effects(0, &mut self.place(&mut new_id));
        effects.retain(|effect| effect.awaited().is_none_or(|it| !waiting.contains(&it)));
        let mut undone = self.not_begun(actor, effects, &cancelled).await?;
        self.vouch(&mut undone, fold.start.as_ref())?;
        Ok(undone)
    }

    pub async fn not_begun(
        &self,
        actor: &ActorId,
        effects: Vec<Effect>,
        cancelled: &[i32],
    ) -> Result<Vec<Effect>, Error> {
        let cancelled: HashSet<_> = cancelled.iter().collect();
        let cancelled = &cancelled;
        let looked = effects.into_iter().map(|effect| async move {
            let begun = match &effect {
                Effect::Activity { event, .. } => self.is_begun(actor, event).await?,
                Effect::Timer { id, .. } => cancelled.contains(id),
                // Nobody waits for it, so it cannot be told whether it was done.
                Effect::Event { .. } => true,
                _ => false,
            };
            Ok::<_, Error>((!begun).then_some(effect))
        });
        let undone = stream::iter(looked).buffered(AT_A_TIME);
        undone.try_filter_map(future::ok).try_collect().await
    }

    /// Whether an activity that has not ended is on its way.
    pub async fn is_begun(&self, actor: &ActorId, event: &HistoryEvent) -> Result<bool, Error> {
        if event::target(event.router.as_ref()).is_some_and(|app| app != self.names.app_id) {
            // The reminder is the other app's: asking again overwrites it.
            return Ok(false);
        }
        let activity = ActorId {
            kind: self.names.activity(),
            id: activity_id(&actor.id, event.event_id),
        };
        let reminder = self
            .options
            .reminders
            .get(&activity, reminding::RUN)
            .await?;
        // A run before may have had an activity of the same number, which is still there.
        let of = reminder.and_then(|it| activity::invocation_of(&it.data)?.history_event);
        Ok(of.as_ref() == Some(event))
    }

    /// A sidecar that was held up may have deleted reminders of a run that another has begun meanwhile. So whoever has deleted any looks
    /// whether the instance is still as it was, and has it checked by its owner where it is not.
    ///
    /// # Errors
    /// [`Error::State`], [`Error::Reminders`].
    pub async fn look_back(&self, actor: &ActorId, stamp: &Stamp) -> Result<(), Error> {
        if stamp.is_current(&self.options.state, actor).await? {
            return Ok(());
        }
        self.have_rechecked(actor).await
    }

    /// Has an instance's owner find out what is left to do.
    ///
    /// # Errors
    /// [`Error::Reminders`].
    pub async fn have_rechecked(&self, actor: &ActorId) -> Result<(), Error> {
        let name = reminding::RECHECK.to_owned();
        self.remind(actor, name, self.now(), None, None).await
    }

    /// Finds out anew what is to be done for an instance, and does it.
    ///
    /// # Errors
    /// Why it has to be tried again.
    pub async fn recheck(self: &Arc<Self>, actor: &ActorId) -> Result<(), Error> {
        let instance = self.instances.get(&actor.id);
        let mut slot = instance.lock().await;
        // What was deleted may be the janitor's.
        slot.guarded = false;
        instance.forget_open(&mut slot);
        let record = self.current(&mut slot, &instance, actor).await?;
        if let Some(pending) = record.as_ref().and_then(Record::pending_start) {
            // It may be one for later.
            return self.remind_of_start(actor, pending).await;
        }
        slot.record = record;
        drop(slot);
        self.turn(actor, None, None).await
    }

    /// Something of an earlier run has come. What asked for it may have taken the place of what this run asks for under the same number:
    /// so that is asked for again, where it is still waited for.
    pub async fn ask_again(
        &self,
        mut slot: MutexGuard<'_, Slot>,
        instance: &Instance,
        actor: &ActorId,
        stray: Resolution,
    ) -> Result<(), Error> {
        let Some(record) = &slot.record else {
            return Ok(());
        };
        let lost = self.lost(actor, record, stray).await?;
        if lost.is_empty() {
            return Ok(());
        }
        if let Some(open) = &mut slot.open {
            open.retain(|effect| effect.awaited() != Some(stray));
            open.extend(lost);
        }
        self.finish(slot, instance, actor).await
    }

    /// The same, where the activity's own actor finds out.
    pub async fn ask_again_for(&self, actor: &ActorId, task: i32) -> Result<(), Error> {
        let Some(record) = self.load(actor).await? else {
            return Ok(());
        };
        for effect in self.lost(actor, &record, Resolution::Task(task)).await? {
            if let Effect::Activity { event, propagated } = effect {
                let message = invocation(&event, propagated.as_ref());
                let (began, generation) = (record.began(), record.generation);
                self.execute(actor, &event, message, began, generation, false)
                    .await?;
            }
        }
        Ok(())
    }

    /// What a run waits for under a number without anything that would bring it.
    async fn lost(
        &self,
        actor: &ActorId,
        record: &Record,
        number: Resolution,
    ) -> Result<Vec<Effect>, Error> {
        let asked = resolution::asked(&record.history, number);
        let waits = |asked| record.inbox.iter().any(|it| resolution::answers(asked, it));
        if record.fold.is_completed()
            || record.fold.is_resolved(number)
            || asked.is_none_or(waits)
            // Nothing can take the place of a child: its sidecar knows which run has asked for it.
            || matches!(number, Resolution::Child(_))
        {
            return Ok(Vec::new());
        }
        let mut new_id = || self.new_id();
        let committed = self.committed(actor, record, &record.history);
        let mut effects = committed.effects(0, &mut self.place(&mut new_id));
        effects.retain(|effect| effect.awaited() == Some(number));
        let cancelled = timers::cancelled(&record.history, 0);
        let mut lost = self.not_begun(actor, effects, &cancelled).await?;
        self.vouch(&mut lost, record.fold.start.as_ref())?;
        Ok(lost)
    }

    pub fn committed<'c>(
        &self,
        actor: &'c ActorId,
        record: &'c Record,
        history: &'c [HistoryEvent],
    ) -> Committed<'c> {
        Committed {
            instance: &actor.id,
            history,
            fold: &record.fold,
            incoming: record.incoming.as_ref(),
        }
    }
}
