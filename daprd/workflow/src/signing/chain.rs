//! A chain of signatures over a list of events: each covers the events behind those of the one before, and that one itself.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use jiff::Timestamp;
use prost::Message;
use proto::durabletask::{HistoryEvent, backend::v1::HistorySignature};

use super::{
    Error, Key, Signer,
    digest::{self, Context},
    invalid,
};
use crate::time::from_wire;

/// What is to be signed.
pub struct Link<'l> {
    pub events: &'l [Bytes],
    /// Where they begin in the whole list.
    pub start: usize,
    pub previous: Option<&'l Bytes>,
    /// The place of the key's certificates in the table.
    pub certificate: usize,
    pub context: Option<Context<'l>>,
}

impl Link<'_> {
    /// The signature, as it is stored.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn sign(&self, key: &dyn Key) -> Result<Bytes, Error> {
        let previous = self.previous.map(|raw| digest::of(raw).to_vec());
        let events = digest::of_events(self.events);
        let message = digest::message(
            previous.as_deref().unwrap_or_default(),
            &events,
            self.context,
        );
        let signature = HistorySignature {
            start_event_index: as_wire(self.start),
            event_count: as_wire(self.events.len()),
            previous_signature_digest: previous.map(Into::into),
            events_digest: events.to_vec().into(),
            certificate_index: as_wire(self.certificate),
            signature: key.sign(&message)?,
        };
        Ok(signature.encode_to_vec().into())
    }
}

/// A list of events with all its signatures.
pub struct Chain<'c> {
    pub signatures: &'c [Bytes],
    pub certificates: &'c [Bytes],
    pub events: &'c [Bytes],
    pub context: Option<Context<'c>>,
}

impl Chain<'_> {
    /// Checks all of it: which of the certificates have signed.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the first signature that does not hold, and why.
    pub fn verify(&self, signer: &dyn Signer) -> Result<BTreeSet<usize>, Error> {
        let mut used: BTreeMap<usize, (Timestamp, Timestamp)> = BTreeMap::new();
        let mut covered = 0;
        for (at, raw) in self.signatures.iter().enumerate() {
            let before = at.checked_sub(1).and_then(|at| self.signatures.get(at));
            let checked = self.link(raw, before, covered, signer);
            let (certificate, until, time) =
                checked.map_err(|error| error.within(format!("signature {at}")))?;
            covered = until;
            // A certificate that was trusted at two times was so in between.
            let known = used.get(&certificate).copied();
            if !known.is_some_and(|(from, to)| from <= time && time <= to) {
                let trusted = signer.trust(&self.certificates[certificate], time);
                trusted.map_err(|error| {
                    error.within(format!("signature {at}: certificate {certificate}"))
                })?;
                let (from, to) = known.unwrap_or((time, time));
                used.insert(certificate, (from.min(time), to.max(time)));
            }
        }
        if covered != self.events.len() {
            return invalid(format!(
                "signatures cover {covered} events, and there are {}",
                self.events.len()
            ));
        }
        Ok(used.into_keys().collect())
    }

    /// Checks one signature: its certificate, where its events end, and when the last of them was.
    fn link(
        &self,
        raw: &Bytes,
        before: Option<&Bytes>,
        start: usize,
        signer: &dyn Signer,
    ) -> Result<(usize, usize, Timestamp), Error> {
        let Ok(signature) = HistorySignature::decode(raw.clone()) else {
            return invalid("its bytes are unreadable");
        };
        let previous = before.map(|raw| digest::of(raw));
        if signature.previous_signature_digest.as_deref() != previous.as_ref().map(|it| &it[..]) {
            return invalid("it does not follow the signature before it");
        }
        if signature.start_event_index != as_wire(start) {
            return invalid(format!(
                "it begins at event {}, expected {start}",
                signature.start_event_index
            ));
        }
        let count = usize::try_from(signature.event_count).unwrap_or(usize::MAX);
        let until = start.saturating_add(count);
        let events = match self.events.get(start..until) {
            Some(events) if !events.is_empty() => events,
            _ => {
                return invalid(format!(
                    "it covers {count} events from {start} on, and there are {}",
                    self.events.len()
                ));
            }
        };
        let certificate = usize::try_from(signature.certificate_index).unwrap_or(usize::MAX);
        let Some(chain) = self.certificates.get(certificate) else {
            return invalid(format!("there is no certificate {certificate}"));
        };
        let time = time_of(events.last())?;
        if !signer.holder(chain)?.holds_at(time) {
            return invalid(format!(
                "certificate {certificate} is not valid at {time}, when its last event was"
            ));
        }
        if signature.events_digest != digest::of_events(events).as_slice() {
            return invalid(format!(
                "events {start} to {until} are not those that it signs"
            ));
        }
        let message = digest::message(
            previous.as_ref().map_or(&[], |it| &it[..]),
            &signature.events_digest,
            self.context,
        );
        signer.verify(chain, &message, &signature.signature)?;
        Ok((certificate, until, time))
    }
}

fn time_of(event: Option<&Bytes>) -> Result<Timestamp, Error> {
    let event = event.and_then(|raw| HistoryEvent::decode(raw.clone()).ok());
    match event.and_then(|event| event.timestamp) {
        Some(time) => Ok(from_wire(time)),
        None => invalid("its last event has no time"),
    }
}

fn as_wire(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
