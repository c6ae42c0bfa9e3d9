//! Attestations: whoever ran an activity or a child signs what it was given and what came of it, and for whom.

use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;
use prost::Message;
use proto::durabletask::{
    ActivityCompletionAttestation, ActivityCompletionAttestationPayload as OfActivity,
    ActivityTerminalStatus, ChildCompletionAttestation,
    ChildCompletionAttestationPayload as OfChild, HistoryEvent, TaskFailureDetails, TerminalStatus,
    history_event::EventType,
};

use super::{Error, Key, Seals, Signer, digest, invalid, seals::check_holder};

/// Who checks, and for which instance.
pub struct Bench<'b> {
    pub signer: &'b dyn Signer,
    pub instance: &'b str,
    pub namespace: &'b str,
}

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Who was asked.
    pub app_id: &'a str,
    /// The name of the activity; none for a child.
    pub activity: Option<&'a str>,
    pub input: Option<&'a str>,
}

/// What an event says of how an activity or a child ended.
pub struct Completion<'e> {
    task: i32,
    is_activity: bool,
    end: End<'e>,
    attested: Option<Attested>,
    chain: Option<Bytes>,
}

#[derive(Clone, Copy)]
enum End<'e> {
    Completed(Option<&'e str>),
    Failed(Option<&'e TaskFailureDetails>),
}

/// A payload, a signature over it, and the certificates of who signed it.
pub struct Attested {
    payload: Bytes,
    signature: Bytes,
    chain: Bytes,
}

/// What checking an attestation came to, beside its being right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The certificate was known to be trusted.
    pub known: bool,
}

impl<'e> Completion<'e> {
    /// What an event completes, if it does.
    pub fn of(event: &'e HistoryEvent) -> Option<Self> {
        let activity = |it: &Option<ActivityCompletionAttestation>| {
            let it = it.as_ref()?;
            Some((it.payload.clone(), it.signature.clone()))
        };
        let child = |it: &Option<ChildCompletionAttestation>| {
            let it = it.as_ref()?;
            Some((it.payload.clone(), it.signature.clone()))
        };
        let (task, is_activity, end, attested, chain) = match event.event_type.as_ref()? {
            EventType::TaskCompleted(it) => (
                it.task_scheduled_id,
                true,
                End::Completed(it.result.as_deref()),
                activity(&it.attestation),
                &it.signer_certificate,
            ),
            EventType::TaskFailed(it) => (
                it.task_scheduled_id,
                true,
                End::Failed(it.failure_details.as_ref()),
                activity(&it.attestation),
                &it.signer_certificate,
            ),
            EventType::ChildWorkflowInstanceCompleted(it) => (
                it.task_scheduled_id,
                false,
                End::Completed(it.result.as_deref()),
                child(&it.attestation),
                &it.signer_certificate,
            ),
            EventType::ChildWorkflowInstanceFailed(it) => (
                it.task_scheduled_id,
                false,
                End::Failed(it.failure_details.as_ref()),
                child(&it.attestation),
                &it.signer_certificate,
            ),
            _ => return None,
        };
        let attested = attested.map(|(payload, signature)| Attested {
            payload,
            signature,
            chain: Bytes::new(),
        });
        Some(Self {
            task,
            is_activity,
            end,
            attested,
            chain: chain.clone(),
        })
    }

    /// Whether it is that of an activity, and not of a child.
    pub fn is_of_activity(&self) -> bool {
        self.is_activity
    }

    /// Attests it.
    ///
    /// # Errors
    /// [`Error::Key`], [`Error::Invalid`].
    pub fn attest(
        &self,
        key: &dyn Key,
        parent: &str,
        asked: &Asked<'_>,
    ) -> Result<Attested, Error> {
        let payload = Bytes::from(self.payload(parent, asked, key.chain())?);
        Ok(Attested {
            signature: key.sign(&payload)?,
            payload,
            chain: key.chain().clone(),
        })
    }

    /// What is signed.
    fn payload(&self, parent: &str, asked: &Asked<'_>, chain: &[u8]) -> Result<Vec<u8>, Error> {
        let (output, completed) = match self.end {
            End::Completed(output) => (digest::canonical(output), true),
            End::Failed(details) => (digest::canonical_failure(details)?, false),
        };
        let input = digest::canonical(asked.input);
        let io_digest = Bytes::from(digest::of_exchange(&input, &output).to_vec());
        let signer_cert_digest = Bytes::from(digest::of(chain).to_vec());
        Ok(match self.is_activity {
            true => OfActivity {
                parent_instance_id: parent.to_owned(),
                parent_task_scheduled_id: self.task,
                activity_name: asked.activity.unwrap_or_default().to_owned(),
                io_digest,
                signer_cert_digest,
                terminal_status: match completed {
                    true => ActivityTerminalStatus::Completed.into(),
                    false => ActivityTerminalStatus::Failed.into(),
                },
                canonical_spec_version: VERSION,
            }
            .encode_to_vec(),
            false => OfChild {
                parent_instance_id: parent.to_owned(),
                parent_task_scheduled_id: self.task,
                io_digest,
                signer_cert_digest,
                terminal_status: match completed {
                    true => TerminalStatus::Completed.into(),
                    false => TerminalStatus::Failed.into(),
                },
                canonical_spec_version: VERSION,
            }
            .encode_to_vec(),
        })
    }

    /// Checks the attestation of one that has arrived, and keeps the certificate. `now`: the certificate has to be valid when it
    /// arrives, because the time in the event is the sender's.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn verify_arrived(
        &self,
        bench: &Bench<'_>,
        asked: &Asked<'_>,
        seals: &mut Seals,
        now: Timestamp,
    ) -> Result<Checked, Error> {
        let Some(chain) = self.chain.as_ref().filter(|chain| !chain.is_empty()) else {
            return match self.attested {
                Some(_) => invalid(format!("{self} has an attestation without a certificate")),
                None => invalid(format!("{self} has no attestation")),
            };
        };
        let known = seals.is_trusted(&digest::of(chain), now);
        self.verify(bench, asked, chain)?;
        if !known {
            let trusted = bench.signer.trust(chain, now);
            trusted.map_err(|error| error.within(format!("the attestation of {self}")))?;
        }
        seals.absorb(vec![chain.clone()], bench.signer);
        Ok(Checked { known })
    }

    /// Checks the attestation of one that is stored, by the certificates that are stored. They may have expired since it arrived.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn verify_stored(
        &self,
        bench: &Bench<'_>,
        asked: &Asked<'_>,
        seals: &Seals,
        at: Timestamp,
    ) -> Result<(), Error> {
        let payload = self.attested.as_ref().map(|attested| &attested.payload);
        let digest = match payload {
            None => return invalid(format!("{self} has no attestation")),
            Some(payload) if self.is_activity => {
                OfActivity::decode(payload.clone()).map(|it| it.signer_cert_digest)
            }
            Some(payload) => OfChild::decode(payload.clone()).map(|it| it.signer_cert_digest),
        };
        let chain = digest.ok().and_then(|digest| seals.foreign(&digest));
        let Some(chain) = chain else {
            return invalid(format!("the certificate of {self} is not there"));
        };
        let holder = bench.signer.holder(chain)?;
        let at = at.max(holder.not_before).min(holder.not_after);
        self.verify(bench, asked, chain)?;
        bench.signer.trust(chain, at)
    }

    /// All but whether the certificate leads to an anchor. Q-workflow-signed-by
    fn verify(&self, bench: &Bench<'_>, asked: &Asked<'_>, chain: &Bytes) -> Result<(), Error> {
        let Some(attested) = &self.attested else {
            return invalid(format!("{self} has no attestation"));
        };
        // What the other side says field by field is what this side would say, or it says something else.
        let expected = self.payload(bench.instance, asked, chain)?;
        let same = match self.is_activity {
            true => same::<OfActivity>(&attested.payload, &expected),
            false => same::<OfChild>(&attested.payload, &expected),
        };
        if !same {
            return invalid(format!(
                "the attestation of {self} is of something else than was asked for or came of it"
            ));
        }
        let signed =
            check_holder(bench.signer, chain, asked.app_id, bench.namespace).and_then(|()| {
                bench
                    .signer
                    .verify(chain, &attested.payload, &attested.signature)
            });
        signed.map_err(|error| error.within(format!("the attestation of {self}")))
    }
}

fn same<M: Message + Default + PartialEq>(one: &Bytes, other: &[u8]) -> bool {
    match (M::decode(one.clone()), M::decode(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

impl fmt::Display for Completion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_activity {
            "activity"
        } else {
            "child workflow"
        };
        let end = match self.end {
            End::Completed(_) => "completion",
            End::Failed(_) => "failure",
        };
        write!(f, "the {end} of {what} {}", self.task)
    }
}

/// Puts an attestation into the event that it is of.
pub fn attach(event: &mut HistoryEvent, attested: Attested) {
    let Attested {
        payload,
        signature,
        chain,
    } = attested;
    let chain = Some(chain);
    match &mut event.event_type {
        Some(EventType::TaskCompleted(it)) => {
            it.attestation = Some(ActivityCompletionAttestation { payload, signature });
            it.signer_certificate = chain;
        }
        Some(EventType::TaskFailed(it)) => {
            it.attestation = Some(ActivityCompletionAttestation { payload, signature });
            it.signer_certificate = chain;
        }
        Some(EventType::ChildWorkflowInstanceCompleted(it)) => {
            it.attestation = Some(ChildCompletionAttestation { payload, signature });
            it.signer_certificate = chain;
        }
        Some(EventType::ChildWorkflowInstanceFailed(it)) => {
            it.attestation = Some(ChildCompletionAttestation { payload, signature });
            it.signer_certificate = chain;
        }
        _ => {}
    }
}

/// Takes the certificates out of an event, which are stored in a list of their own.
pub fn strip(event: &mut HistoryEvent) {
    match &mut event.event_type {
        Some(EventType::TaskCompleted(it)) => it.signer_certificate = None,
        Some(EventType::TaskFailed(it)) => it.signer_certificate = None,
        Some(EventType::ChildWorkflowInstanceCompleted(it)) => it.signer_certificate = None,
        Some(EventType::ChildWorkflowInstanceFailed(it)) => it.signer_certificate = None,
        _ => {}
    }
}

/// Version of the canonical form that digests are made of.
const VERSION: u32 = 1;
