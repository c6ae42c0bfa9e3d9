//! The changes of a kind for one sidecar, as they are streamed (contract 5.3).

use bytes::Bytes;
use futures::Stream;
use tonic::Status;

use super::pending::{Pending, Waiting};
use super::{Operator, chain};
use crate::pods::Following;
use crate::resources::informer::{End, Refusal};
use crate::resources::queue::{Event, Overflow};
use crate::resources::{Caller, EventType, Kind, Subscription, secrets};

/// What refused callers read while the operator stops.
const STOPPING: &str = "operator is shutting down";
/// What those read who are given up.
const OVERFLOW: &str = "updates were not read in time";

impl Operator {
    /// The changes of a kind for an app, from its last list on if it has read one on the same connection.
    pub(super) fn changes(
        &self,
        kind: Kind,
        caller: &Caller,
    ) -> Result<impl Stream<Item = Result<Update, Status>> + Send + use<>, Status> {
        let subscribed = self.informer(kind).subscribe(caller);
        let subscription = subscribed.map_err(|refusal| match refusal {
            Refusal::Closed => Status::unavailable(STOPPING),
            Refusal::Full => Status::resource_exhausted(format!(
                "there are too many streams of {} already",
                kind.plural()
            )),
            Refusal::Forgotten => Status::unavailable(format!(
                "too many {} have changed since they were listed: open the stream again, and list them behind it",
                kind.plural()
            )),
        })?;
        tracing::info!(
            namespace = caller.namespace,
            caller = caller.app_id,
            "sidecar connected for updates of {}",
            kind.plural()
        );
        let assigned = (kind == Kind::Configuration).then(|| Assigned {
            following: self.shared.pods.follow(&caller.namespace, &caller.app_id),
            name: None,
        });
        let changes = Changes {
            operator: self.clone(),
            kind,
            caller: caller.clone(),
            subscription,
            assigned,
            pending: Pending::default(),
        };
        Ok(futures::stream::unfold(Some(changes), |changes| async {
            let mut changes = changes?;
            match changes.next().await {
                Ok(update) => Some((Ok(update), Some(changes))),
                Err(Some(status)) => Some((Err(status), None)),
                Err(None) => None,
            }
        }))
    }
}

/// One event as it is sent.
pub struct Update {
    pub json: Bytes,
    pub kind: EventType,
}

struct Changes {
    operator: Operator,
    kind: Kind,
    caller: Caller,
    subscription: Subscription,
    assigned: Option<Assigned>,
    pending: Pending,
}

/// The one Configuration that concerns a sidecar: what its pods ask for now, which may be known only later, or change.
/// Q-operator-assigned
struct Assigned {
    following: Following,
    /// What the events up to here were compared with.
    name: Option<String>,
}

impl Changes {
    /// The next update, or the end of the stream, with an error if it is not the operator's own end.
    async fn next(&mut self) -> Result<Update, Option<Status>> {
        let mut pending = std::mem::take(&mut self.pending);
        loop {
            let told = tokio::select! {
                event = self.event() => {
                    let event = event.map_err(|end| match end {
                        End::Shutdown => None,
                        End::Overflow => Some(Status::unavailable(OVERFLOW)),
                    })?;
                    Some((pending.with(event), true))
                }
                () = pending.due() => {
                    let concerns = |waiting: &Waiting| self.concerns(&waiting.event);
                    pending.take().filter(concerns).map(|waiting| (waiting, false))
                }
            };
            let Some((waiting, is_new)) = told else {
                continue;
            };
            match self.json(&waiting.event).await {
                Ok(json) => {
                    self.pending = pending;
                    let kind = waiting.event.kind;
                    return Ok(Update { json, kind });
                }
                Err(error) => {
                    if is_new {
                        let (app, error) = (&self.caller.app_id, chain(&error));
                        tracing::warn!(%app, "a change is told once its secrets can be read: {error}");
                    }
                    let put = pending.put(waiting);
                    put.map_err(|Overflow| Some(Status::unavailable(OVERFLOW)))?;
                }
            }
        }
    }

    /// Whether an event that has waited is still for this sidecar.
    fn concerns(&self, event: &Event) -> bool {
        let assigned = self.assigned.as_ref();
        assigned.is_none_or(|assigned| assigned.name.as_ref() == Some(&event.entry.name))
    }

    async fn json(&self, event: &Event) -> Result<Bytes, secrets::Error> {
        let (entry, versioned) = (&event.entry, self.caller.versioned);
        // Whoever deletes a resource may have deleted its secrets before; nobody needs them any more.
        if event.kind == EventType::Deleted {
            return Ok(entry.without_secrets(versioned));
        }
        let resolver = &self.operator.shared.resolver;
        let resolved = resolver.resolve(self.kind, entry, secrets::FRESH, versioned);
        resolved.await
    }

    /// The next event that concerns the sidecar.
    async fn event(&mut self) -> Result<Event, End> {
        let Some(assigned) = &mut self.assigned else {
            return self.subscription.next().await;
        };
        let namespace = &self.caller.namespace;
        loop {
            let Some(name) = assigned.following.name() else {
                // Whatever happens meanwhile waits, folded by name, until it is known what concerns the sidecar.
                tokio::select! {
                    end = self.subscription.ended() => return Err(end),
                    () = assigned.following.changed() => continue,
                }
            };
            let before = assigned.name.replace(name.clone());
            if before.as_ref().is_some_and(|before| *before != name) {
                // Its changes so far were passed over as those of another one.
                let informer = self.operator.informer(self.kind);
                let from = self.subscription.from();
                if let Some(entry) = informer.changed_since(from, namespace, &name) {
                    let kind = EventType::Updated;
                    return Ok(Event { kind, entry });
                }
            }
            tokio::select! {
                event = self.subscription.next() => {
                    let event = event?;
                    if event.entry.name == name {
                        return Ok(event);
                    }
                }
                () = assigned.following.changed() => {}
            }
        }
    }
}
