//! What instances tell each other: how a child ended, events, and that a workflow is to begin that nobody waits for.

use std::time::Duration;

use actors::ActorId;
use http::{HeaderMap, HeaderValue};
use prost::Message;
use proto::durabletask::HistoryEvent;

use crate::{
    Error,
    calls::{self, CREATE, HELD},
    core::{effects::Effect, event, turn::Letter},
    engine::Inner,
    reminding,
};

impl Inner {
    /// Tells a parent of the end of a child, where that is what the effect is. The parent may be kept by whoever waits for this, so
    /// where it does not answer at once it gets a reminder that tells it, as soon as it is free. `asker`: whom it is known of.
    ///
    /// # Errors
    /// [`Error::Reminders`].
    pub async fn report_anyhow(&self, effect: &Effect, asker: Option<&str>) -> Result<(), Error> {
        let Effect::Report { parent, event } = effect else {
            return Ok(());
        };
        let instance = parent.workflow_instance.clone().unwrap_or_default();
        let what = || format!("the report to workflow '{}'", instance.instance_id);
        if asker != Some(instance.instance_id.as_str()) {
            let told = self.within(AT_ONCE, what, self.report(parent, event)).await;
            let Err(error) = told else {
                return Ok(());
            };
            tracing::debug!("{error}: it goes by reminder");
        }
        let target = self.actor_of(parent.app_id.as_deref(), &instance.instance_id)?;
        let name = reminding::of_child(instance.execution_id.as_deref(), event);
        let data = Some(reminding::pack(event.as_ref()));
        self.remind(&target, name, self.now(), data, None).await
    }

    pub async fn report(
        &self,
        parent: &proto::durabletask::ParentInstanceInfo,
        event: &HistoryEvent,
    ) -> Result<(), Error> {
        let instance = parent.workflow_instance.clone().unwrap_or_default();
        let target = self.actor_of(parent.app_id.as_deref(), &instance.instance_id)?;
        let run = instance
            .execution_id
            .and_then(|run| HeaderValue::from_str(&run).ok());
        let headers = HeaderMap::from_iter(run.map(|run| (calls::PARENT_RUN, run)));
        match self.add_event(target, event, headers).await {
            // There is nobody left who would want to know.
            Err(Error::NotFound) => Ok(()),
            other => other,
        }
    }

    pub async fn send_event(&self, instance: &str, event: &HistoryEvent) -> Result<(), Error> {
        let target = self.actor_of(event::target(event.router.as_ref()), instance)?;
        match self.add_event(target, event, HeaderMap::new()).await {
            Err(error @ (Error::NotFound | Error::Stalled)) => {
                tracing::warn!("an event for workflow '{instance}' is dropped: {error}");
                Ok(())
            }
            other => other,
        }
    }

    /// Sends what goes out before the commit; what can wait for it. Whoever sends it keeps the instance meanwhile, so nobody is waited
    /// for who may wait for it.
    ///
    /// # Errors
    /// Why the turn has to be taken again.
    pub async fn send_letters(
        &self,
        own: &ActorId,
        letters: Vec<Letter>,
    ) -> Result<Vec<Effect>, Error> {
        let mut later = Vec::new();
        for letter in letters {
            match letter {
                Letter::Detached {
                    mut request,
                    instance,
                } => {
                    if let Some(shown) = &mut request.propagated_history {
                        let now = self.options.clock.now();
                        self.signing.sign_shown(shown, now)?;
                    }
                    let router = request
                        .start_event
                        .as_ref()
                        .and_then(|start| start.router.as_ref());
                    let actor = self.actor_of(event::target(router), &instance)?;
                    let data = request.encode_to_vec().into();
                    let asker = HeaderValue::from_str(&own.id).ok();
                    let headers = HeaderMap::from_iter(asker.map(|id| (calls::ASKER, id)));
                    let what = || format!("the beginning of detached workflow '{instance}'");
                    let created = match actor == *own {
                        // It is at it.
                        true => Err(Error::Exists(format!("'{instance}' has begun it itself"))),
                        false => {
                            let call = self.call(actor, CREATE, data, headers);
                            self.within(HELD, what, call).await
                        }
                    };
                    match created {
                        Err(error @ (Error::Denied | Error::Exists(_))) => {
                            tracing::warn!("detached workflow '{instance}' is not begun: {error}");
                        }
                        other => other.map(drop)?,
                    }
                }
                Letter::Event { event, instance } => later.push(Effect::Event { instance, event }),
            }
        }
        Ok(later)
    }
}

/// How long a parent may take to hear of an end before it is told by a reminder: less than whoever asks for that may wait.
const AT_ONCE: Duration = Duration::from_secs(2);
