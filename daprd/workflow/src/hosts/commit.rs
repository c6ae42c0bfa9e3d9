//! How an instance comes from the store and goes back, with what a turn has come to: what is in memory is looked at against the store
//! before anything is decided by it, because the instance may have lived elsewhere meanwhile.

use std::sync::Arc;

use actors::ActorId;
use proto::durabletask::HistoryEvent;
use tokio::{sync::MutexGuard, time::Instant};

use crate::{
    Error,
    core::{
        effects::{Committed, Effect},
        fold::Fold,
        timers,
        turn::Commit,
    },
    engine::Inner,
    hosts::turn::Taken,
    instances::{Busy, Instance, Slot},
    record::Record,
};

impl Inner {
    /// Waits until nobody else works on an instance. `by`: how whoever waits was called.
    pub async fn lock<'i>(&self, instance: &'i Instance, by: &str) -> MutexGuard<'i, Slot> {
        let began = Instant::now();
        let slot = instance.lock().await;
        self.metrics.waited(by, began.elapsed());
        slot
    }

    /// Takes the record of an instance out of its slot, as it is in the store.
    ///
    /// # Errors
    /// As [`Inner::load`].
    pub async fn current(
        &self,
        slot: &mut MutexGuard<'_, Slot>,
        instance: &Instance,
        actor: &ActorId,
    ) -> Result<Option<Record>, Error> {
        if let Some(mut record) = slot.record.take() {
            if record.is_current(&self.options.state, actor).await? {
                return Ok(Some(record));
            }
            instance.forget_open(slot);
        }
        let record = self.load(actor).await?;
        if let Some((last, messages)) = slot.tried.take()
            && record.as_ref().is_some_and(|it| it.history.contains(&last))
        {
            instance.keep(messages);
        }
        let stamp = record.as_ref().map(Record::stamp);
        if slot.stamp != stamp {
            // Somebody else has had a turn of it, and who knows how far he came.
            instance.forget_open(slot);
            slot.guarded = false;
            slot.stamp = stamp;
            slot.next_run();
        }
        self.tell(instance, actor, record.as_ref());
        Ok(record)
    }

    /// Stores what a turn has come to, then does what is due.
    ///
    /// # Errors
    /// Why the turn has to be taken again, or what it has led to has to be done again.
    pub async fn commit(
        self: &Arc<Self>,
        slot: &mut MutexGuard<'_, Slot>,
        instance: &Instance,
        actor: &ActorId,
        mut record: Record,
        commit: Commit,
        busy: Busy<'_>,
    ) -> Result<Taken, Error> {
        let mut new_id = || self.new_id();
        let committed = Committed {
            instance: &actor.id,
            history: &commit.history,
            fold: &commit.fold,
            incoming: commit.incoming.as_ref(),
        };
        let mut effects = committed.effects(commit.kept, &mut self.place(&mut new_id));
        self.vouch(&mut effects, commit.fold.start.as_ref())?;
        let workflow = commit.fold.start.as_ref().map(|start| start.name.as_str());
        if let Some(stall) = self.oversized(&effects, workflow.unwrap_or_default()) {
            let mut history = commit.history;
            let kept = commit.kept;
            history.truncate(kept);
            if commit.continued {
                // What there was before is only in the store.
                drop(record);
                let Some(stored) = self.load(actor).await? else {
                    return Ok(Taken::Done);
                };
                return self.stall(slot, instance, actor, stored, stall).await;
            }
            let fold = Fold::of(&history);
            record.set_history(history, kept, fold);
            return self.stall(slot, instance, actor, record, stall).await;
        }
        let later = self.send_letters(actor, commit.letters).await?;
        drop(busy);
        let carried_over = commit.inbox.first().cloned();
        // All that may fail comes before the store: what is to be done after it follows from the history, but messages do not.
        let open = match (commit.continued, &slot.open) {
            // A run that begins anew waits for nothing of the one before.
            (true, open) => {
                let open = open.iter().flatten().filter(|it| it.is_message());
                open.cloned().collect()
            }
            (false, Some(open)) => still_open(open.clone(), &commit.fold),
            (false, None) => {
                let before = Committed {
                    history: &commit.history[..commit.kept.min(commit.history.len())],
                    ..committed
                };
                self.undone_of(actor, &before, &[]).await?
            }
        };
        let mut open: Vec<Effect> = open;
        open.extend(cancelled(&commit.history, &commit.fold, commit.kept));
        open.extend(effects);
        open.extend(later);
        record.set_history(commit.history, commit.kept, commit.fold);
        record.custom_status = commit.custom_status;
        record.set_incoming(commit.incoming);
        record.clear_inbox(commit.inbox);
        if commit.continued {
            record.generation += 1;
        }
        self.store(slot, instance, actor, record, Some(open))
            .await?;
        if commit.continued {
            slot.next_run();
        }
        for span in commit.spans {
            self.options.tracer.record(span);
        }
        let Some(record) = &slot.record else {
            return Ok(Taken::Done);
        };
        let (name, began) = (record.name(), record.began());
        self.count_end(record);
        // Whoever hears that it has ended may rely on it that it will not be kept for longer than is said.
        let kept = self.retain(actor, record).await;
        self.tell(instance, actor, Some(record));
        kept?;
        if let Some(event) = carried_over {
            let guarded = self.guard(slot, actor, &name).await;
            let waking = guarded.then(|| instance.waking.clone());
            self.wake_for(waking, actor, &event, began, name).await?;
        }
        Ok(Taken::Done)
    }

    /// Stores a record, puts it back into its slot, and tells everybody.
    ///
    /// # Errors
    /// [`Error::Conflict`], [`Error::State`]; it is read anew the next time.
    pub async fn save(
        &self,
        slot: &mut MutexGuard<'_, Slot>,
        instance: &Instance,
        actor: &ActorId,
        record: Record,
    ) -> Result<(), Error> {
        self.store(slot, instance, actor, record, None).await?;
        self.tell(instance, actor, slot.record.as_ref());
        Ok(())
    }

    /// The same, and tells nobody. `open`: what is to be done once it is stored, where that is something else than before.
    ///
    /// # Errors
    /// As [`Inner::save`].
    async fn store(
        &self,
        slot: &mut MutexGuard<'_, Slot>,
        instance: &Instance,
        actor: &ActorId,
        mut record: Record,
        open: Option<Vec<Effect>>,
    ) -> Result<(), Error> {
        // Where this is broken off, or fails, it may have been stored all the same.
        let before = slot.open.take();
        let unsent = instance.guard_messages(before.as_deref());
        if let (Some(open), Some(last)) = (&open, record.history.last()) {
            let messages = open.iter().filter(|it| it.is_message());
            let messages = messages.filter(|it| !before.iter().flatten().any(|old| old == *it));
            let messages: Vec<_> = messages.cloned().collect();
            slot.tried = (!messages.is_empty()).then(|| (last.clone(), messages));
        }
        self.write(actor, &mut record).await?;
        unsent.known();
        (slot.open, slot.tried) = (open.or(before), None);
        slot.stamp = Some(record.stamp());
        slot.record = Some(record);
        Ok(())
    }

    /// Tells everybody who follows an instance how it is.
    pub fn tell(&self, instance: &Instance, actor: &ActorId, record: Option<&Record>) {
        instance.tell(record.map(|record| record.summary(&actor.id)));
    }
}

impl Record {
    /// What others are told of the instance.
    pub fn summary(&self, instance: &str) -> proto::durabletask::backend::v1::WorkflowMetadata {
        let pending = self.start().filter(|_| self.fold.start.is_none());
        self.fold
            .summary(instance, self.custom_status.as_deref(), pending)
    }
}

/// What earlier turns have left to do, and is still waited for.
fn still_open(mut open: Vec<Effect>, fold: &Fold) -> Vec<Effect> {
    open.retain(|effect| match effect.awaited() {
        Some(awaited) => !fold.is_completed() && !fold.is_resolved(awaited),
        None => true,
    });
    open
}

/// Timers that need not fire any more since the events from `from` on.
fn cancelled(history: &[HistoryEvent], fold: &Fold, from: usize) -> Vec<Effect> {
    if fold.is_completed() {
        return Vec::new();
    }
    let ids = timers::cancelled(history, from).into_iter();
    ids.map(|id| Effect::Cancel { id }).collect()
}
