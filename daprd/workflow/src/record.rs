//! An instance as it is stored (contract 11.6): one row for each event, a row of lengths by whose entity tag writers notice each
//! other, and few more. Rows and bytes are the reference's, so that an instance may change sidecars.

use actors::{
    ActorId,
    state::{State, Step},
};
use bytes::Bytes;
use prost::Message;
use proto::durabletask::{
    HistoryEvent, PropagatedHistory, backend::v1::BackendWorkflowStateMetadata as Lengths,
};

use crate::{
    Error,
    core::{event, fold::Fold, inbox},
    signing::{Exhibit, Seals, Signing, Verdict, seals},
};

mod current;
pub mod rows;

use rows::{
    CUSTOM_STATUS, HISTORY, INBOX, METADATA, PROPAGATED, conflict, delete, entry, unreadable,
    upsert, write,
};

/// An instance, in memory.
#[derive(Debug)]
pub struct Record {
    pub generation: u64,
    pub inbox: Vec<HistoryEvent>,
    pub history: Vec<HistoryEvent>,
    pub fold: Fold,
    pub custom_status: Option<String>,
    /// What the workflow was shown by whoever began it.
    pub incoming: Option<PropagatedHistory>,
    /// What vouches for the history.
    pub seals: Seals,
    /// The bytes of the history as they were read, until it is judged.
    raw: Vec<Bytes>,
    stored: Stored,
}

/// What of it is in the store.
#[derive(Debug, Default)]
struct Stored {
    /// The row of lengths, as it was written or read last.
    lengths: Option<Bytes>,
    /// Its tag, where that has been read since.
    etag: Option<String>,
    inbox: usize,
    history: usize,
    /// So many at the beginning are in the store as they are here.
    inbox_kept: usize,
    history_kept: usize,
    /// Bytes of the events that are in the store as they are here.
    history_bytes: usize,
    custom_status: Option<Option<String>>,
    incoming: bool,
    incoming_changed: bool,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            generation: 1,
            inbox: Vec::new(),
            history: Vec::new(),
            fold: Fold::default(),
            custom_status: None,
            incoming: None,
            seals: Seals::default(),
            raw: Vec::new(),
            stored: Stored::default(),
        }
    }
}

impl Record {
    /// Reads an instance, if there is one, and does not judge it. What is written meanwhile is read again.
    ///
    /// # Errors
    /// [`Error::State`], [`Error::Unreadable`].
    pub async fn load(state: &State, actor: &ActorId) -> Result<Option<Self>, Error> {
        let mut before: Option<Option<String>> = None;
        for _ in 0..LOADS {
            let Some(lengths) = state.get(actor, METADATA).await? else {
                return Ok(None);
            };
            if lengths.value.is_empty() {
                return Ok(None);
            }
            let etag = lengths.etag.clone();
            match Self::load_rows(state, actor, lengths).await {
                Err(Error::Unreadable(_)) if before.as_ref() != Some(&etag) => before = Some(etag),
                other => return other.map(Some),
            }
        }
        Err(Error::Unreadable(format!(
            "rows of workflow '{}': they change all the time",
            actor.id
        )))
    }

    async fn load_rows(
        state: &State,
        actor: &ActorId,
        row: component::state::Item,
    ) -> Result<Self, Error> {
        let lengths =
            Lengths::decode(row.value.clone()).map_err(|_| unreadable(actor, METADATA))?;
        let all = [
            lengths.inbox_length,
            lengths.history_length,
            lengths.signature_length,
            lengths.signing_certificate_length,
            lengths.external_signing_certificate_length,
        ];
        if all.iter().any(|length| *length > MOST_ENTRIES) {
            return Err(Error::Unreadable(format!(
                "rows of workflow '{}': more than {MOST_ENTRIES} are declared",
                actor.id
            )));
        }
        let [inbox, history, seals @ ..] =
            all.map(|length| usize::try_from(length).unwrap_or_default());
        let mut keys = vec![CUSTOM_STATUS.to_owned(), PROPAGATED.to_owned()];
        let lists = [(INBOX, inbox), (HISTORY, history)].into_iter();
        for (prefix, length) in lists.chain(seals::KINDS.into_iter().zip(seals)) {
            keys.extend((0..length).map(|at| entry(prefix, at)));
        }
        let mut rows = state.bulk_get(actor, &keys).await?;
        let mut read = |key: &str| -> Result<(HistoryEvent, Bytes), Error> {
            let row = rows.remove(key).ok_or_else(|| unreadable(actor, key))?;
            let event = HistoryEvent::decode(row.value.clone());
            Ok((event.map_err(|_| unreadable(actor, key))?, row.value))
        };
        let mut record = Self {
            generation: lengths.generation,
            ..Self::default()
        };
        for at in 0..inbox {
            record.inbox.push(read(&entry(INBOX, at))?.0);
        }
        for at in 0..history {
            let (event, raw) = read(&entry(HISTORY, at))?;
            record.history.push(event);
            record.raw.push(raw);
        }
        record.seals = Seals::read(seals, |kind, at| {
            Some(rows.remove(&entry(kind, at))?.value).filter(|row| !row.is_empty())
        });
        let custom_status = rows.remove(CUSTOM_STATUS);
        if let Some(row) = &custom_status {
            let status = String::decode(row.value.clone());
            let status = status.map_err(|_| unreadable(actor, CUSTOM_STATUS))?;
            record.custom_status = Some(status).filter(|status| !status.is_empty());
        }
        if let Some(row) = rows.remove(PROPAGATED) {
            let incoming = PropagatedHistory::decode(row.value);
            record.incoming = Some(incoming.map_err(|_| unreadable(actor, PROPAGATED))?);
        }
        record.fold = Fold::of(&record.history);
        record.stored = Stored {
            history_bytes: record.raw.iter().map(Bytes::len).sum(),
            lengths: Some(row.value),
            etag: row.etag,
            inbox,
            history,
            inbox_kept: inbox,
            history_kept: history,
            custom_status: custom_status.map(|_| record.custom_status.clone()),
            incoming: record.incoming.is_some(),
            incoming_changed: false,
        };
        Ok(record)
    }

    /// Judges an instance that has just been read.
    pub fn judge(&mut self, instance: &str, signing: &Signing) -> Verdict {
        let raw = std::mem::take(&mut self.raw);
        let exhibit = Exhibit {
            instance,
            history: &self.history,
            raw: &raw,
            inbox: &self.inbox,
            incoming: self.incoming.as_ref(),
            ended: self.fold.is_completed(),
        };
        signing.judge(&exhibit, &mut self.seals)
    }

    /// Signs what is new of the history, and writes what has changed, all of it or nothing.
    ///
    /// # Errors
    /// [`Error::Conflict`] where somebody else has written since it was read, [`Error::State`], [`Error::Signing`]. What is here is
    /// then worth nothing.
    pub async fn save(
        &mut self,
        state: &State,
        actor: &ActorId,
        signing: &Signing,
        now: jiff::Timestamp,
    ) -> Result<(), Error> {
        let kept = self.stored.history_kept;
        let fresh = self.history.get_mut(kept..).unwrap_or_default();
        let fresh = signing.seal(fresh, kept, &mut self.seals, now)?;
        let fresh_bytes = fresh.iter().map(Bytes::len).sum::<usize>();
        let (steps, lengths) = self.steps(fresh);
        state.transact(actor, steps).await.map_err(conflict)?;
        let history_changed = self.history_changed();
        self.seals.saved();
        let stored = &mut self.stored;
        if history_changed {
            stored.custom_status = Some(self.custom_status.clone());
        }
        stored.incoming = self.incoming.is_some();
        stored.incoming_changed = false;
        stored.lengths = Some(lengths);
        stored.etag = None;
        stored.history_bytes += fresh_bytes;
        (stored.inbox, stored.inbox_kept) = (self.inbox.len(), self.inbox.len());
        (stored.history, stored.history_kept) = (self.history.len(), self.history.len());
        Ok(())
    }

    fn history_changed(&self) -> bool {
        let stored = &self.stored;
        stored.history_kept < self.history.len() || stored.history_kept < stored.history
    }

    /// `fresh`: the events of the history that are to be written.
    fn steps(&self, fresh: Vec<Bytes>) -> (Vec<Step>, Bytes) {
        let stored = &self.stored;
        let mut steps = Vec::new();
        let inbox = self.inbox.iter().enumerate().skip(stored.inbox_kept);
        steps.extend(inbox.map(|(at, event)| upsert(entry(INBOX, at), event)));
        steps.extend((self.inbox.len()..stored.inbox).map(|at| delete(entry(INBOX, at))));
        let fresh = (stored.history_kept..).zip(fresh);
        steps.extend(fresh.map(|(at, raw)| write(entry(HISTORY, at), raw)));
        steps.extend((self.history.len()..stored.history).map(|at| delete(entry(HISTORY, at))));
        for seals::Change {
            kind,
            write: rows,
            delete: gone,
        } in self.seals.changes()
        {
            let rows = rows.into_iter();
            steps.extend(rows.map(|(at, row)| write(entry(kind, at), row)));
            steps.extend(gone.map(|at| delete(entry(kind, at))));
        }
        let status = stored.custom_status.as_ref();
        if self.history_changed() && status != Some(&self.custom_status) {
            let text = self.custom_status.clone().unwrap_or_default();
            steps.push(upsert(CUSTOM_STATUS.to_owned(), &text));
        }
        if stored.incoming_changed {
            steps.push(match &self.incoming {
                Some(incoming) => upsert(PROPAGATED.to_owned(), incoming),
                None => delete(PROPAGATED.to_owned()),
            });
        }
        let length = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        let mut lengths = Lengths {
            inbox_length: length(self.inbox.len()),
            history_length: length(self.history.len()),
            generation: self.generation,
            ..Lengths::default()
        };
        self.seals.declare(&mut lengths);
        let lengths = Bytes::from(lengths.encode_to_vec());
        steps.push(Step::Upsert {
            key: METADATA.to_owned(),
            value: lengths.clone(),
            etag: stored.etag.clone(),
            metadata: Default::default(),
        });
        (steps, lengths)
    }

    /// What deletes all of it.
    pub fn purge(&self) -> Vec<Step> {
        let stored = &self.stored;
        let lists = [(INBOX, stored.inbox), (HISTORY, stored.history)];
        let entries = lists
            .into_iter()
            .chain(self.seals.stored())
            .flat_map(|(prefix, count)| (0..count).map(move |at| delete(entry(prefix, at))));
        let mut steps: Vec<Step> = entries.collect();
        if stored.custom_status.is_some() {
            steps.push(delete(CUSTOM_STATUS.to_owned()));
        }
        if stored.incoming {
            steps.push(delete(PROPAGATED.to_owned()));
        }
        steps.push(Step::Delete {
            key: METADATA.to_owned(),
            // Somebody may have begun it anew.
            etag: stored.etag.clone(),
        });
        steps
    }

    /// The events at the front of the inbox have been seen to.
    pub fn clear_inbox(&mut self, left: Vec<HistoryEvent>) {
        self.inbox = left;
        self.stored.inbox_kept = 0;
    }

    /// The history is another, of which so many events at the beginning are stored.
    pub fn set_history(&mut self, history: Vec<HistoryEvent>, kept: usize, fold: Fold) {
        self.history = history;
        self.fold = fold;
        self.stored.history_kept = kept.min(self.stored.history_kept);
        if self.stored.history_kept < self.stored.history {
            // Signatures are over all of it, so they begin anew with it.
            self.seals.reset();
            (self.stored.history_kept, self.stored.history_bytes) = (0, 0);
        }
    }

    /// What the workflow is shown.
    pub fn set_incoming(&mut self, incoming: Option<PropagatedHistory>) {
        if self.incoming != incoming {
            self.incoming = incoming;
            self.stored.incoming_changed = true;
        }
    }

    /// Everything is gone, for a new run under the same id.
    pub fn reset(&mut self) {
        self.clear_inbox(Vec::new());
        self.set_history(Vec::new(), 0, Fold::default());
        self.custom_status = None;
        self.set_incoming(None);
        self.generation += 1;
    }

    /// How the instance was asked for.
    pub fn start(&self) -> Option<&proto::durabletask::ExecutionStartedEvent> {
        let start = self.fold.start.as_ref();
        start.or_else(|| event::start(&self.inbox))
    }

    /// The start that waits for the first turn.
    pub fn pending_start(&self) -> Option<&HistoryEvent> {
        inbox::pending_start(&self.history, &self.inbox)
    }

    /// When the first event of its history was.
    pub fn began(&self) -> Option<prost_types::Timestamp> {
        self.history.first()?.timestamp
    }

    /// Name of the workflow.
    pub fn name(&self) -> String {
        self.start()
            .map(|start| start.name.clone())
            .unwrap_or_default()
    }

    /// Bytes of what a worker would be sent.
    pub fn size(&self) -> usize {
        let fresh = self.history.iter().skip(self.stored.history_kept);
        let fresh = fresh.chain(&self.inbox).map(Message::encoded_len);
        let incoming = self.incoming.as_ref().map_or(0, Message::encoded_len);
        incoming + self.stored.history_bytes + fresh.sum::<usize>()
    }
}

/// Most rows of one list.
const MOST_ENTRIES: u64 = 1_000_000;

/// How often an instance is read that is written meanwhile.
const LOADS: usize = 5;
