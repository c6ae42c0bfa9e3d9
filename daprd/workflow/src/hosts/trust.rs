//! What is done because of signatures: an instance is judged when it is read, one that was tampered with ends, and what goes to others
//! is vouched for.

use actors::ActorId;
use futures::{StreamExt, stream};
use proto::durabletask::{ExecutionStartedEvent, HistoryEvent};
use tokio::time::Instant;

use super::AT_A_TIME;
use crate::{
    Error,
    core::{effects::Effect, resolution},
    engine::Inner,
    metrics::{FAILED, SUCCESS},
    record::Record,
    reminding,
    signing::{self, Asked, Completion, Verdict},
};

impl Inner {
    /// Reads an instance of this app. One that goes on, and that the store has otherwise than this app wrote it, ends here as failed.
    ///
    /// # Errors
    /// [`Error::State`], [`Error::Unreadable`]; [`Error::Unverified`] for one that has ended, or that is signed where this sidecar
    /// does not sign, or the other way round.
    pub async fn load(&self, actor: &ActorId) -> Result<Option<Record>, Error> {
        let Some(mut record) = Record::load(&self.options.state, actor).await? else {
            return Ok(None);
        };
        match record.judge(&actor.id, &self.signing) {
            Verdict::Sound => Ok(Some(record)),
            Verdict::Tampered(reason) if !record.fold.is_completed() => {
                self.condemn(actor, record, &reason).await.map(Some)
            }
            Verdict::Tampered(reason) | Verdict::Unfit(reason) => Err(Error::Unverified(reason)),
        }
    }

    /// Reads an instance to look at it, and changes nothing.
    ///
    /// # Errors
    /// [`Error::Unverified`] also for one that goes on.
    pub async fn sound(&self, actor: &ActorId) -> Result<Option<Record>, Error> {
        let mut unsound = String::new();
        // Whoever looks keeps nobody from writing, and may have read half of a turn the first time.
        for _ in 0..2 {
            let Some(mut record) = Record::load(&self.options.state, actor).await? else {
                return Ok(None);
            };
            unsound = match record.judge(&actor.id, &self.signing) {
                Verdict::Sound => return Ok(Some(record)),
                Verdict::Tampered(reason) | Verdict::Unfit(reason) => reason,
            };
        }
        Err(Error::Unverified(unsound))
    }

    /// Ends an instance that does not verify. Its rows stay as they were found; nothing of them wakes it any more.
    /// Q-workflow-signed-end
    ///
    /// # Errors
    /// [`Error::Conflict`], [`Error::State`], [`Error::Reminders`]; it is found out again the next time.
    pub async fn condemn(
        &self,
        actor: &ActorId,
        mut record: Record,
        reason: &str,
    ) -> Result<Record, Error> {
        let id = &actor.id;
        tracing::warn!("Workflow actor '{id}': tampering detected, the workflow fails: {reason}");
        let marker = signing::marker(self.now(), reason);
        let mut history = std::mem::take(&mut record.history);
        let mut fold = std::mem::take(&mut record.fold);
        let kept = history.len();
        fold.add(&marker);
        history.push(marker);
        record.set_history(history, kept, fold);
        // Whoever began it is to hear of it, and it may be that nothing else wakes it: so this comes first, and goes last.
        self.have_rechecked(actor).await?;
        self.write(actor, &mut record).await?;
        if let Err(error) = self.drop_reminders(actor).await {
            tracing::warn!("Workflow actor '{id}': reminders of it are left: {error}");
        }
        Ok(record)
    }

    /// Takes away what would wake an instance or run its activities, but for what has its owner look at it once more.
    async fn drop_reminders(&self, actor: &ActorId) -> Result<(), Error> {
        let reminders = &self.options.reminders;
        let (kind, activities) = (self.names.activity(), format!("{}::", actor.id));
        let theirs = reminders.delete_prefix(&kind, &activities);
        let own = async {
            let all = reminders.list(&actor.kind, Some(&actor.id)).await?;
            let all = all.into_iter().filter(|it| it.actor == *actor);
            let others = all.filter(|it| it.name != reminding::RECHECK);
            let gone = others.map(|it| async move { reminders.delete(actor, &it.name).await });
            let mut gone = stream::iter(gone).buffer_unordered(AT_A_TIME);
            while let Some(gone) = gone.next().await {
                gone?;
            }
            Ok(())
        };
        let (own, theirs) = tokio::join!(own, theirs);
        Ok(own.and(theirs)?)
    }

    /// Stores a record.
    ///
    /// # Errors
    /// As [`Record::save`].
    pub async fn write(&self, actor: &ActorId, record: &mut Record) -> Result<(), Error> {
        let now = self.options.clock.now();
        let saved = record.save(&self.options.state, actor, &self.signing, now);
        saved.await
    }

    /// Checks the attestation of a completion that is new to an instance.
    ///
    /// # Errors
    /// [`signing::Error::Invalid`]: the instance cannot go on with what somebody else says in another's name.
    pub fn check_completion(
        &self,
        actor: &ActorId,
        record: &mut Record,
        event: &mut HistoryEvent,
    ) -> Result<(), signing::Error> {
        let began = Instant::now();
        let kind = kind(event);
        let (history, seals) = (&record.history, &mut record.seals);
        let now = self.options.clock.now();
        let checked = self.signing.take_in(&actor.id, history, event, seals, now);
        let Some(checked) = checked else {
            return Ok(());
        };
        let known = checked.as_ref().ok().map(|checked| checked.known);
        let metrics = &self.metrics.attestations;
        metrics.checked(kind, known, began.elapsed());
        checked.map(drop)
    }

    /// Whether a completion is of nothing that a signed history asks for, so that it is that of an earlier run.
    /// Q-workflow-signed-stray
    pub fn is_unasked(&self, record: &Record, event: &HistoryEvent) -> bool {
        if !self.signing.is_on() || Completion::of(event).is_none() {
            return false;
        }
        let of = resolution::of(event);
        let asked = |it: &HistoryEvent| resolution::awaited(it) == of;
        !record.history.iter().any(asked)
    }

    /// Signs what goes to others because of a history.
    ///
    /// # Errors
    /// [`Error::Signing`].
    pub fn vouch(
        &self,
        effects: &mut [Effect],
        start: Option<&ExecutionStartedEvent>,
    ) -> Result<(), Error> {
        if !self.signing.is_on() {
            return Ok(());
        }
        let now = self.options.clock.now();
        for effect in effects {
            match effect {
                Effect::Activity {
                    propagated: Some(shown),
                    ..
                } => self.signing.sign_shown(shown, now)?,
                Effect::Child { request, .. } => {
                    if let Some(shown) = &mut request.propagated_history {
                        self.signing.sign_shown(shown, now)?;
                    }
                }
                Effect::Report { parent, event } => {
                    let instance = parent.workflow_instance.as_ref();
                    let instance = instance.map(|it| it.instance_id.as_str());
                    let asked = Asked {
                        app_id: &self.names.app_id,
                        activity: None,
                        input: start.and_then(|start| start.input.as_deref()),
                    };
                    self.attest(instance.unwrap_or_default(), &asked, event)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Attests how something ended that another workflow asked for.
    ///
    /// # Errors
    /// [`Error::Signing`].
    pub fn attest(
        &self,
        parent: &str,
        asked: &Asked<'_>,
        event: &mut HistoryEvent,
    ) -> Result<(), Error> {
        let attested = self.signing.attest(parent, asked, event);
        let status = match &attested {
            Ok(false) => return Ok(()),
            Ok(true) => SUCCESS,
            Err(_) => FAILED,
        };
        self.metrics.attestations.made(kind(event), status);
        Ok(attested.map(drop)?)
    }

    /// Whether an instance has ended because it did not verify, so that nobody waits for what it asked for.
    pub fn is_condemned(record: &Record) -> bool {
        record.history.last().is_some_and(signing::is_marker)
    }
}

/// What metrics call a completion.
fn kind(event: &HistoryEvent) -> &'static str {
    let completion = Completion::of(event);
    match completion.is_some_and(|it| it.is_of_activity()) {
        true => "activity",
        false => "child",
    }
}
