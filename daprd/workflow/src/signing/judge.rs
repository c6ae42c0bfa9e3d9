//! What an instance is found to be when it is read.

use bytes::Bytes;
use proto::durabletask::{HistoryEvent, PropagatedHistory, history_event::EventType};

use super::{Completion, Seals, Signer, Signing, is_marker, propagation};
use crate::{core::event, time::from_wire};

/// What an instance is found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Sound,
    /// The store has what this app has not written. The text says what.
    Tampered(String),
    /// It may be sound, but this sidecar does not sign as the one that began it. The text says how.
    Unfit(String),
}

/// What of an instance is judged.
pub struct Exhibit<'r> {
    pub instance: &'r str,
    pub history: &'r [HistoryEvent],
    /// The bytes of the history, as they are in the store.
    pub raw: &'r [Bytes],
    pub inbox: &'r [HistoryEvent],
    pub incoming: Option<&'r PropagatedHistory>,
    pub ended: bool,
}

impl Signing {
    /// Judges an instance as it was read.
    pub fn judge(&self, exhibit: &Exhibit<'_>, seals: &mut Seals) -> Verdict {
        if exhibit.history.last().is_some_and(is_marker) {
            return Verdict::Sound;
        }
        let id = exhibit.instance;
        let Some(signer) = self.signer.as_deref() else {
            return match seals.declares_signatures() {
                false => Verdict::Sound,
                true => Verdict::Unfit(format!(
                    "workflow '{id}' has a signed history, and this sidecar does not sign: signing cannot be disabled for workflows that began with it"
                )),
            };
        };
        if let Some(missing) = seals.missing() {
            return Verdict::Tampered(format!(
                "workflow history signature verification failed for '{id}': {missing}"
            ));
        }
        if !seals.declares_signatures() {
            return match exhibit.history.len() {
                0 => self.judge_rest(exhibit, seals, signer),
                count => Verdict::Unfit(format!(
                    "workflow '{id}' has {count} unsigned history events, and this sidecar signs: signing cannot be enabled for workflows that began without it; they have to end or be purged first"
                )),
            };
        }
        match seals.verify(signer, exhibit.raw, &self.app_id, &self.namespace) {
            Ok(()) => match stranger(exhibit) {
                None => self.judge_rest(exhibit, seals, signer),
                Some(other) => Verdict::Tampered(format!(
                    "workflow '{id}': its signed history is that of workflow '{other}' (state store tampering)"
                )),
            },
            Err(error) => Verdict::Tampered(format!(
                "workflow history signature verification failed for '{id}': {error}"
            )),
        }
    }

    /// The inbox and what the workflow was shown are in no signature of its own; nobody reads them once it has ended.
    fn judge_rest(&self, exhibit: &Exhibit<'_>, seals: &mut Seals, signer: &dyn Signer) -> Verdict {
        if exhibit.ended {
            return Verdict::Sound;
        }
        let id = exhibit.instance;
        let mut strange = 0;
        for event in exhibit.inbox {
            strange += usize::from(!self.belongs(exhibit, event, seals, signer));
        }
        if strange > 0 {
            return Verdict::Tampered(format!(
                "workflow '{id}': {strange} events of the inbox do not match the signed history (state store tampering)"
            ));
        }
        if let Some(incoming) = exhibit.incoming {
            let absorbed = propagation::verify(incoming, signer, &self.namespace);
            match absorbed {
                Ok(chains) => seals.absorb(chains, signer),
                Err(error) => {
                    return Verdict::Tampered(format!(
                        "workflow '{id}': the stored propagated history failed verification (state store tampering): {error}"
                    ));
                }
            }
        }
        Verdict::Sound
    }

    /// Whether an event of the inbox may be there: a completion is of something that the history asks for, and attested.
    /// Q-workflow-signed-rows
    fn belongs(
        &self,
        exhibit: &Exhibit<'_>,
        event: &HistoryEvent,
        seals: &Seals,
        signer: &dyn Signer,
    ) -> bool {
        match &event.event_type {
            Some(
                EventType::EventRaised(_)
                | EventType::TimerFired(_)
                | EventType::ExecutionTerminated(_)
                | EventType::ExecutionResumed(_)
                | EventType::ExecutionSuspended(_),
            ) => true,
            Some(EventType::ExecutionStarted(start)) => {
                event::instance_id(start).is_none_or(|id| id == exhibit.instance)
            }
            _ => {
                let asked = self.asked_for(exhibit.history, event);
                let Some((asked, completion)) = asked.zip(Completion::of(event)) else {
                    return false;
                };
                let at = event.timestamp.map(from_wire).unwrap_or_default();
                let bench = self.bench(signer, exhibit.instance);
                self.is_own_failure(event)
                    || completion.verify_stored(&bench, &asked, seals, at).is_ok()
            }
        }
    }
}

/// Which other instance a signed history is of: its start, which is among what the first signature covers, says whose it is. One that
/// upstream has run again keeps the start of the instance that it was taken from, and says which that was. Q-workflow-signed-id
fn stranger<'r>(exhibit: &Exhibit<'r>) -> Option<&'r str> {
    let start = event::start(exhibit.history)?;
    let other = event::instance_id(start).filter(|id| *id != exhibit.instance)?;
    let mut sources = exhibit.history.iter().filter_map(event::rerun_of);
    (!sources.any(|source| source == other)).then_some(other)
}
