//! Whether what is in memory is still what is stored.

use actors::{ActorId, state::State};
use prost::Message;
use proto::durabletask::HistoryEvent;

use super::{
    Record,
    rows::{HISTORY, INBOX, METADATA, entry},
};
use crate::{Error, core::event, stamp::Stamp};

impl Record {
    /// Looks whether the store still has what is here. Whoever writes changes a length or the generation, or begins another run.
    ///
    /// # Errors
    /// [`Error::State`].
    pub async fn is_current(&mut self, state: &State, actor: &ActorId) -> Result<bool, Error> {
        let mut keys = vec![METADATA.to_owned()];
        // Lengths may come to be what they were: an event is dropped, and another one comes, or the instance is purged and begun again.
        // The tag tells, but what has just been written has none that is known here.
        let start = self.start_row().filter(|_| self.stored.etag.is_none());
        keys.extend(start.iter().map(|(key, _)| key.clone()));
        let mut rows = state.bulk_get(actor, &keys).await?;
        let row = rows.remove(METADATA);
        let Some(row) = row.filter(|row| !row.value.is_empty()) else {
            return Ok(false);
        };
        let is_same = match start {
            Some((key, start)) => {
                let row = rows.remove(&key);
                let read = row.and_then(|row| HistoryEvent::decode(row.value).ok());
                read.as_ref() == Some(start)
            }
            None => self.stored.etag.is_none() || self.stored.etag == row.etag,
        };
        self.stored.etag = row.etag;
        Ok(is_same && self.stored.lengths.as_ref() == Some(&row.value))
    }

    /// The stored row that says which run this is.
    fn start_row(&self) -> Option<(String, &HistoryEvent)> {
        let rows = [(HISTORY, &self.history), (INBOX, &self.inbox)];
        rows.into_iter().find_map(|(list, events)| {
            let is_start = |event: &HistoryEvent| event::execution_started(event).is_some();
            let at = events.iter().position(is_start)?;
            Some((entry(list, at), &events[at]))
        })
    }

    /// The row of lengths and its tag, where that is known.
    pub fn version(&self) -> Option<crate::access::Version> {
        self.stored.lengths.clone().zip(self.stored.etag.clone())
    }

    /// By which it is told later whether anybody has written since.
    pub fn stamp(&self) -> Stamp {
        Stamp(self.stored.lengths.clone())
    }
}
