//! Signed histories (contract 11.6): every turn signs the events that it adds, each signature covers the one before, and whoever reads
//! an instance checks all of it before anything is decided by it. What other apps and instances report comes with an attestation, and
//! what they show of their histories is signed as well. Nothing here reads or writes; the hosts do.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use proto::durabletask::{
    ExecutionCompletedEvent, HistoryEvent, OrchestrationStatus as Status, PropagatedHistory,
    TaskFailureDetails, history_event::EventType,
};

use crate::core::{
    event,
    resolution::{self, Resolution},
};

mod attest;
mod chain;
mod digest;
#[cfg(test)]
pub mod fake;
mod judge;
mod propagation;
pub mod seals;
#[cfg(test)]
mod tests;

use attest::Bench;
pub use attest::{Asked, Completion};
pub use judge::{Exhibit, Verdict};
pub use seals::Seals;

/// The identity that histories are signed with, and the anchors that signatures have to lead to.
pub trait Signer: Send + Sync + 'static {
    /// The key that signs now. It may be another one the next time.
    ///
    /// # Errors
    /// [`Error::Key`] where there is none, or its certificate has expired.
    fn key(&self) -> Result<Box<dyn Key>, Error>;

    /// Whom a chain of certificates names (DER, one after another, the signer's first).
    ///
    /// # Errors
    /// [`Error::Invalid`].
    fn holder(&self, chain: &[u8]) -> Result<Holder, Error>;

    /// Checks a signature over a message.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    fn verify(&self, chain: &[u8], message: &[u8], signature: &[u8]) -> Result<(), Error>;

    /// Checks that a chain led to a trust anchor at a time.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    fn trust(&self, chain: &[u8], at: Timestamp) -> Result<(), Error>;
}

/// A key with its certificates.
pub trait Key: Send {
    fn chain(&self) -> &Bytes;

    /// Signs the SHA-256 of a message.
    ///
    /// # Errors
    /// [`Error::Key`].
    fn sign(&self, message: &[u8]) -> Result<Bytes, Error>;
}

/// Whom a certificate names, and when it is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub namespace: String,
    pub app_id: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

impl Holder {
    fn holds_at(&self, at: Timestamp) -> bool {
        self.not_before <= at && at <= self.not_after
    }
}

/// Why something is not signed, or not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is nothing to sign with now; it may go better later.
    #[error("{0}")]
    Key(String),
    /// What is signed does not verify. The text says what, and why.
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    fn within(self, place: impl std::fmt::Display) -> Self {
        match self {
            Self::Invalid(text) => Self::Invalid(format!("{place}: {text}")),
            key => key,
        }
    }
}

fn invalid<T>(text: impl Into<String>) -> Result<T, Error> {
    Err(Error::Invalid(text.into()))
}

/// The signing of a sidecar, which may be off.
#[derive(Clone)]
pub struct Signing {
    signer: Option<Arc<dyn Signer>>,
    app_id: String,
    namespace: String,
}

impl Signing {
    /// `signer`: none where histories are not signed.
    pub fn new(signer: Option<Arc<dyn Signer>>, app_id: &str, namespace: &str) -> Self {
        Self {
            signer,
            app_id: app_id.to_owned(),
            namespace: namespace.to_owned(),
        }
    }

    pub fn is_on(&self) -> bool {
        self.signer.is_some()
    }

    /// Whether an event is a failure that this app wrote itself, of something that was never begun. Nobody attests it.
    pub fn is_own_failure(&self, event: &HistoryEvent) -> bool {
        let from = event.router.as_ref().map(|it| it.source_app_id.as_str());
        let details = match &event.event_type {
            Some(EventType::TaskFailed(it)) => it.failure_details.as_ref(),
            Some(EventType::ChildWorkflowInstanceFailed(it)) => it.failure_details.as_ref(),
            _ => None,
        };
        from == Some(self.app_id.as_str())
            && details.is_some_and(|it| OWN_FAILURES.contains(&it.error_type.as_str()))
    }

    /// Checks the attestation of a completion that has arrived, and takes over the certificate that it came with. `None`: signing is
    /// off, or the event needs no attestation.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn take_in(
        &self,
        instance: &str,
        history: &[HistoryEvent],
        event: &mut HistoryEvent,
        seals: &mut Seals,
        now: Timestamp,
    ) -> Option<Result<attest::Checked, Error>> {
        let signer = self.signer.as_deref()?;
        if self.is_own_failure(event) {
            return None;
        }
        let completion = Completion::of(event)?;
        let Some(asked) = self.asked_for(history, event) else {
            return Some(invalid(format!(
                "{completion} is of nothing that the history asks for"
            )));
        };
        let bench = self.bench(signer, instance);
        let checked = completion.verify_arrived(&bench, &asked, seals, now);
        if checked.is_ok() {
            attest::strip(event);
        }
        Some(checked)
    }

    /// Attests the end of a child or an activity to whoever asked for it; false where signing is off.
    ///
    /// # Errors
    /// [`Error::Key`], [`Error::Invalid`] for what cannot be attested.
    pub fn attest(
        &self,
        parent: &str,
        asked: &Asked<'_>,
        event: &mut HistoryEvent,
    ) -> Result<bool, Error> {
        let Some(signer) = self.signer.as_deref() else {
            return Ok(false);
        };
        let Some(completion) = Completion::of(event) else {
            return Ok(false);
        };
        let attested = completion.attest(&*signer.key()?, parent, asked)?;
        attest::attach(event, attested);
        Ok(true)
    }

    /// Signs what this app shows of its own history, so that whoever sees it can check it.
    ///
    /// # Errors
    /// [`Error::Key`].
    pub fn sign_shown(&self, shown: &mut PropagatedHistory, now: Timestamp) -> Result<(), Error> {
        match self.signer.as_deref() {
            None => Ok(()),
            Some(signer) => propagation::sign(shown, signer, &self.app_id, now),
        }
    }

    /// Checks what others have shown, and keeps their certificates where there is a place for them.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn check_shown(
        &self,
        shown: Option<&PropagatedHistory>,
        seals: Option<&mut Seals>,
    ) -> Result<(), Error> {
        let Some(shown) = shown else {
            return Ok(());
        };
        let Some(signer) = self.signer.as_deref() else {
            propagation::warn_if_signed(shown);
            return Ok(());
        };
        let chains = propagation::verify(shown, signer, &self.namespace)?;
        if let Some(seals) = seals {
            seals.absorb(chains, signer);
        }
        Ok(())
    }

    /// Signs new events, whose bytes these are, behind those that are signed already; nothing where signing is off.
    ///
    /// # Errors
    /// [`Error::Key`], [`Error::Invalid`] where events before are not signed.
    pub fn seal(
        &self,
        events: &mut [HistoryEvent],
        start: usize,
        seals: &mut Seals,
        now: Timestamp,
    ) -> Result<Vec<Bytes>, Error> {
        match self.signer.as_deref() {
            Some(signer) if !events.last().is_some_and(is_marker) => {
                seals.sign(signer, events, start, now)
            }
            _ => Ok(digest::encoded(events)),
        }
    }
}

impl Signing {
    fn bench<'b>(&'b self, signer: &'b dyn Signer, instance: &'b str) -> Bench<'b> {
        Bench {
            signer,
            instance,
            namespace: &self.namespace,
        }
    }

    /// What an event completes, as the history asks for it.
    fn asked_for<'h>(
        &'h self,
        history: &'h [HistoryEvent],
        event: &HistoryEvent,
    ) -> Option<Asked<'h>> {
        let resolution = resolution::of(event)?;
        if let Resolution::Timer(_) = resolution {
            return None;
        }
        let mut history = history.iter().rev();
        let asked = history.find(|it| resolution::awaited(it) == Some(resolution))?;
        let task = event::task_scheduled(asked);
        let child = event::child_created(asked);
        let input = match (task, child) {
            (Some(task), _) => task.input.as_deref(),
            (_, child) => child?.input.as_deref(),
        };
        Some(Asked {
            app_id: event::target(asked.router.as_ref()).unwrap_or(&self.app_id),
            activity: task.map(|task| task.name.as_str()),
            input,
        })
    }
}

/// The end of an instance whose rows do not verify. It is not signed, and stands behind the rows as they were found.
pub fn marker(now: prost_types::Timestamp, reason: &str) -> HistoryEvent {
    let completed = ExecutionCompletedEvent {
        workflow_status: Status::Failed.into(),
        failure_details: Some(TaskFailureDetails {
            error_type: TAMPERED.to_owned(),
            error_message: reason.to_owned(),
            ..TaskFailureDetails::default()
        }),
        ..ExecutionCompletedEvent::default()
    };
    event::plain(now, EventType::ExecutionCompleted(completed))
}

/// Whether an event is the end of an instance that did not verify.
pub fn is_marker(event: &HistoryEvent) -> bool {
    match &event.event_type {
        Some(EventType::ExecutionCompleted(completed)) => {
            let details = completed.failure_details.as_ref();
            completed.workflow_status() == Status::Failed
                && details.is_some_and(|details| details.error_type == TAMPERED)
        }
        _ => false,
    }
}

/// What clients know the end of such an instance by.
const TAMPERED: &str = "DAPR_WORKFLOW_HISTORY_TAMPERED";

/// Kinds of failures that an app writes for what it asked for and was not begun.
const OWN_FAILURES: [&str; 2] = [
    "WorkflowAccessPolicyDenied",
    "WorkflowInstanceAlreadyExists",
];
