//! The state of an instance is deleted, with everything that could wake it.

use actors::ActorId;
use bytes::Bytes;
use http::HeaderMap;
use prost::Message;
use proto::durabletask::PurgeInstancesResponse;

use crate::{
    Error,
    calls::{self, PURGE_ALL},
    core::effects,
    engine::Inner,
    record::Record,
};

impl Inner {
    /// Deletes an instance that has ended. `of_retention`: the reminder of retention is the one that is at work.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Stalled`], [`Error::NotCompleted`].
    pub async fn purge_one(
        &self,
        actor: &ActorId,
        of_retention: bool,
        force: bool,
    ) -> Result<(), Error> {
        let instance = self.instances.get(&actor.id);
        let mut slot = instance.lock().await;
        // By force also what does not verify. Q-workflow-signed-rows
        let record = match force {
            true => Record::load(&self.options.state, actor).await?,
            false => self.current(&mut slot, &instance, actor).await?,
        };
        let Some(record) = record else {
            return Err(Error::NotFound);
        };
        if !force {
            let refused = match () {
                () if record.fold.stalled.is_some() => Some(Error::Stalled),
                () if !record.fold.is_completed() => Some(Error::NotCompleted(String::new())),
                () => None,
            };
            if let Some(refused) = refused {
                slot.record = Some(record);
                return Err(refused);
            }
        }
        if of_retention && !self.is_over(&record) {
            slot.record = Some(record);
            return Err(Error::NotCompleted(String::new()));
        }
        // Its reminders go first.
        (slot.record, slot.guarded) = (None, false);
        instance.forget_open(&mut slot);
        if let Err(error) = self.delete(actor, &record, !of_retention).await {
            self.have_rechecked(actor).await?;
            return Err(error);
        }
        instance.tell(None);
        slot.open = Some(Vec::new());
        slot.next_run();
        Ok(())
    }

    /// Deletes an instance with all its children, and theirs: how many. `headers`: of the call that this is done because of.
    ///
    /// # Errors
    /// As [`Inner::purge_one`]; what has been deleted by then stays so.
    pub async fn purge_all(
        &self,
        actor: &ActorId,
        force: bool,
        headers: &HeaderMap,
    ) -> Result<Bytes, Error> {
        let history = {
            let instance = self.instances.get(&actor.id);
            let mut slot = instance.lock().await;
            let record = match force {
                true => Record::load(&self.options.state, actor).await?,
                false => self.current(&mut slot, &instance, actor).await?,
            };
            let Some(record) = record else {
                return Err(Error::NotFound);
            };
            let (stalled, ended) = (record.fold.stalled.is_some(), record.fold.is_completed());
            let history = record.history.clone();
            slot.record = Some(record).filter(|_| !force);
            if !force && stalled {
                return Err(Error::Stalled);
            }
            if !force && !ended {
                return Err(Error::NotCompleted(String::new()));
            }
            history
        };
        let mut deleted = 0;
        for child in effects::children(&history, &self.names.app_id, &actor.id) {
            let target = self.actor_of(child.app_id.as_deref(), &child.instance)?;
            match self.purge_there(target, force, headers).await {
                Ok(count) => deleted += count,
                Err(Error::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        match self.purge_one(actor, false, force).await {
            Ok(()) => deleted += 1,
            Err(Error::NotFound) => {}
            Err(error) => return Err(error),
        }
        let response = PurgeInstancesResponse {
            deleted_instance_count: deleted,
            is_complete: None,
        };
        Ok(response.encode_to_vec().into())
    }

    /// Has an instance deleted with its children, wherever it lives: how many.
    ///
    /// # Errors
    /// As [`Inner::purge_all`].
    pub async fn purge_there(
        &self,
        actor: ActorId,
        force: bool,
        headers: &HeaderMap,
    ) -> Result<i32, Error> {
        let next = match force {
            true => calls::flag(calls::FORCE),
            false => HeaderMap::new(),
        };
        let headers = calls::deeper(headers, next)?;
        let data = self.call(actor, PURGE_ALL, Bytes::new(), headers).await?;
        let response: PurgeInstancesResponse = calls::read("answer to a purge", &data)?;
        Ok(response.deleted_instance_count)
    }

    /// Deletes rows and reminders.
    ///
    /// # Errors
    /// [`Error::State`], [`Error::Reminders`].
    pub async fn delete(
        &self,
        actor: &ActorId,
        record: &Record,
        retention: bool,
    ) -> Result<(), Error> {
        let id = &actor.id;
        let reminders = &self.options.reminders;
        let own = async { Ok::<_, Error>(reminders.delete_all(&actor.kind, Some(id)).await?) };
        let activities = async {
            let prefix = format!("{id}::");
            Ok(reminders
                .delete_prefix(&self.names.activity(), &prefix)
                .await?)
        };
        // Once the rows are gone the id may be used again, and what wakes the new instance must not be deleted.
        tokio::try_join!(own, activities)?;
        self.options.state.transact(actor, record.purge()).await?;
        // Last, because it has this done again where it is broken off.
        if retention {
            let retentioner = self.names.retentioner();
            reminders.delete_all(&retentioner, Some(id)).await?;
        }
        Ok(())
    }
}
