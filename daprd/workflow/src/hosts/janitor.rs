//! What the janitor of an instance does, period by period, also where the fast path is off by now: it finds what a sidecar has left
//! behind when it was lost, and does it.

use std::{collections::HashSet, sync::Arc};

use actors::ActorId;

use crate::{Error, core::effects::Effect, engine::Inner, record::Record, reminding, stamp::Stamp};

impl Inner {
    /// Looks after an instance.
    ///
    /// # Errors
    /// Why not all of it was done; the next period sees to it.
    pub async fn look_after(self: &Arc<Self>, actor: &ActorId) -> Result<(), Error> {
        let instance = self.instances.get(&actor.id);
        let mut slot = instance.lock().await;
        let Some(record) = self.current(&mut slot, &instance, actor).await? else {
            let reminders = &self.options.reminders;
            reminders.delete(actor, reminding::JANITOR).await?;
            slot.guarded = false;
            return self.look_back(actor, &Stamp(None)).await;
        };
        slot.guarded = true;
        let pending = record.pending_start();
        if pending.is_some_and(|start| self.is_later(start)) {
            // It has a reminder for its time; the janitor is one that the run before has left.
            slot.record = Some(record);
            return Ok(());
        }
        if !record.inbox.is_empty() || !slot.held.is_empty() {
            slot.record = Some(record);
            drop(slot);
            self.metrics.local.recovered();
            return self.turn(actor, None, None).await;
        }
        if record.fold.stalled.is_some() {
            slot.record = Some(record);
            return Ok(());
        }
        // What is open stays where it is until more is known: there may be messages among it, which nobody could find out anew.
        let open = match &slot.open {
            Some(open) => {
                let lost = self.unheard_of(actor, &record, open).await?;
                open.iter().cloned().chain(lost).collect()
            }
            None => self.undone(actor, &record).await?,
        };
        let is_activity = |effect: &&Effect| matches!(effect, Effect::Activity { .. });
        let again = open.iter().filter(is_activity).count();
        slot.open = Some(open);
        slot.record = Some(record);
        self.finish(slot, &instance, actor).await?;
        self.metrics.local.asked_again(again);
        Ok(())
    }

    /// Activities whose end nobody has heard of, and that no reminder drives: they may be at work, then asking again changes nothing.
    async fn unheard_of(
        &self,
        actor: &ActorId,
        record: &Record,
        open: &[Effect],
    ) -> Result<Vec<Effect>, Error> {
        if record.fold.is_completed() {
            return Ok(Vec::new());
        }
        let asked: HashSet<_> = open.iter().filter_map(Effect::awaited).collect();
        let committed = self.committed(actor, record, &record.history);
        let mut new_id = || self.new_id();
        let mut effects = committed.effects(0, &mut self.place(&mut new_id));
        effects.retain(|effect| {
            let is_asked = effect.awaited().is_some_and(|it| asked.contains(&it));
            matches!(effect, Effect::Activity { .. }) && !is_asked
        });
        let mut lost = self.not_begun(actor, effects, &[]).await?;
        self.vouch(&mut lost, record.fold.start.as_ref())?;
        Ok(lost)
    }
}
