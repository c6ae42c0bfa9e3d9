//! Whether a call of another app is allowed, asked before anything is done for it.

use std::sync::Arc;

use actors::ActorId;
use bytes::Bytes;
use crds::workflow_access_policy::Operation;
use http::HeaderMap;
use proto::durabletask::{
    HistoryEvent, PropagatedHistory, backend::v1::CreateWorkflowInstanceRequest,
};

use crate::{
    Error,
    access::{self, Ask, Caller, Known, Verdict, What},
    calls::{self, read},
    core::event,
    engine::Inner,
    record::rows::METADATA,
};

impl Inner {
    /// Whether a method of an instance may be called.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::State`].
    pub async fn admit(
        &self,
        actor: &ActorId,
        method: &str,
        headers: &HeaderMap,
        data: &Bytes,
    ) -> Result<(), Error> {
        // A history comes with it, which is signed here in this app's name: only its own sidecars hand one over.
        if method == calls::RERUN
            && matches!(
                access::caller(headers, &self.names.app_id),
                Caller::Other(_)
            )
        {
            return Err(Error::Denied);
        }
        if self.access.load().is_none() {
            return Ok(());
        }
        let Caller::Other(caller) = access::caller(headers, &self.names.app_id) else {
            return self.allow(headers, What::Workflow, None, String::new);
        };
        if method == calls::CREATE {
            let request: CreateWorkflowInstanceRequest = read("request of a new workflow", data)?;
            let start = request
                .start_event
                .as_ref()
                .and_then(event::execution_started);
            let name = || start.map(|start| start.name.clone()).unwrap_or_default();
            let proven = self.proven(request.propagated_history.as_ref());
            return self.allow_with(
                headers,
                What::Workflow,
                Some(Operation::Schedule),
                name,
                proven,
            );
        }
        let known = self.known_of(actor).await?;
        let operation = match method {
            calls::ADD_EVENT => {
                let event: HistoryEvent = read("event", data)?;
                // Q-workflow-access
                if known
                    .as_ref()
                    .is_some_and(|known| known.was_asked(&event, &caller))
                {
                    return Ok(());
                }
                access::operation_of(&event)
            }
            calls::PURGE | calls::PURGE_ALL => Some(Operation::Purge),
            calls::FORK => Some(Operation::Rerun),
            _ => None,
        };
        let name = || known.map(|known| known.name.clone()).unwrap_or_default();
        self.allow(headers, What::Workflow, operation, name)
    }

    /// What a call is judged by. The history is read and verified anew only where somebody has written since.
    async fn known_of(&self, actor: &ActorId) -> Result<Option<Arc<Known>>, Error> {
        let row = self.options.state.get(actor, METADATA).await?;
        let version = row.and_then(|row| Some((row.value, row.etag?)));
        let instance = self.instances.get(&actor.id);
        if let Some(known) = version.and_then(|version| instance.judged.get(&version)) {
            return Ok(Some(known));
        }
        let Some(record) = self.sound(actor).await? else {
            return Ok(None);
        };
        let known = Arc::new(Known::of(&record));
        if let Some(version) = record.version() {
            instance.judged.set(version, Arc::clone(&known));
        }
        Ok(Some(known))
    }

    /// Whether something may be done; `None` is what only the app itself may.
    ///
    /// # Errors
    /// [`Error::Denied`].
    pub fn allow(
        &self,
        headers: &HeaderMap,
        what: What,
        operation: Option<Operation>,
        name: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        self.allow_with(headers, what, operation, name, None)
    }

    /// The same of a caller who shows a history that is proven.
    ///
    /// # Errors
    /// [`Error::Denied`].
    pub fn allow_with(
        &self,
        headers: &HeaderMap,
        what: What,
        operation: Option<Operation>,
        name: impl FnOnce() -> String,
        proven: Option<&PropagatedHistory>,
    ) -> Result<(), Error> {
        let access = self.access.load();
        let Some(access) = access.as_ref() else {
            return Ok(());
        };
        let caller = match access::caller(headers, &self.names.app_id) {
            Caller::Own => return Ok(()),
            Caller::Other(caller) => caller,
            Caller::Unknown => String::new(),
        };
        let name = name();
        let verdict = operation.map_or(Verdict::Denied, |operation| {
            access.judge(&Ask {
                caller: &caller,
                what,
                operation,
                name: &name,
                proven,
            })
        });
        let allowed = verdict == Verdict::Allowed;
        let asked = operation.map_or_else(String::new, |it| format!("{it:?}").to_lowercase());
        let kind = format!("{what:?}").to_lowercase();
        self.metrics.admitted(&caller, &asked, &kind, allowed);
        if allowed {
            return Ok(());
        }
        let why = match verdict {
            Verdict::Unproven => "what the rule requires is not proven to have happened",
            _ => "no rule allows it",
        };
        tracing::warn!(
            "workflow access policy denied app '{caller}' {asked} on {kind} '{name}': {why}"
        );
        Err(Error::Denied)
    }

    /// What a caller shows of a history, where it is proven: its pieces are signed by their apps.
    pub fn proven<'h>(
        &self,
        shown: Option<&'h PropagatedHistory>,
    ) -> Option<&'h PropagatedHistory> {
        let access = self.access.load();
        if !access
            .as_ref()
            .is_some_and(|access| access.asks_for_proof())
        {
            return None;
        }
        let checked = self.signing.check_shown(shown, None);
        if let Err(error) = &checked {
            tracing::warn!("a history that was shown is not believed: {error}");
        }
        shown.filter(|_| self.signing.is_on() && checked.is_ok())
    }
}
