//! How an instance comes from the store and goes back: what is in memory is looked at against the store before anything is decided by
//! it, because the instance may have lived elsewhere meanwhile.

use actors::ActorId;
use tokio::{sync::MutexGuard, time::Instant};

use crate::{
    Error,
    engine::Inner,
    instances::{Instance, Slot},
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
            slot.open = None;
        }
        let record = self.load(actor).await?;
        let stamp = record.as_ref().map(Record::stamp);
        if slot.stamp != stamp {
            // Somebody else has had a turn of it, and who knows how far he came.
            (slot.open, slot.guarded) = (None, false);
            slot.stamp = stamp;
            slot.next_run();
        }
        self.tell(instance, actor, record.as_ref());
        Ok(record)
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
        self.store(slot, actor, record).await?;
        self.tell(instance, actor, slot.record.as_ref());
        Ok(())
    }

    /// The same, and tells nobody.
    ///
    /// # Errors
    /// As [`Inner::save`].
    pub async fn store(
        &self,
        slot: &mut MutexGuard<'_, Slot>,
        actor: &ActorId,
        mut record: Record,
    ) -> Result<(), Error> {
        // Where this is broken off, or fails, it may have been stored all the same.
        let open = slot.open.take();
        self.write(actor, &mut record).await?;
        slot.open = open;
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
