//! The gRPC API that sidecars read their resources from (contract 5.3).

mod access;
mod service;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use kube::Api;
use kubernetes::Cluster;
use security::SpiffeId;
use tonic::Status;

use crate::pods::Pods;
use crate::resources::informer::{End, NotKnown};
use crate::resources::secrets::Resolver;
use crate::resources::{Entry, EventType, Informer, Kind, Subscription, entry};

/// What the API answers from. Cheap to clone.
#[derive(Clone)]
pub struct Operator {
    shared: Arc<Shared>,
}

struct Shared {
    cluster: Cluster,
    /// By the discriminant of the kind.
    informers: [Informer; 7],
    pods: Pods,
    resolver: Resolver,
}

impl Operator {
    pub fn new(cluster: Cluster, informers: [Informer; 7], pods: Pods) -> Self {
        let resolver = Resolver::new(cluster.clone());
        Self {
            shared: Arc::new(Shared {
                cluster,
                informers,
                pods,
                resolver,
            }),
        }
    }

    fn informer(&self, kind: Kind) -> &Informer {
        &self.shared.informers[kind as usize]
    }

    /// The resources of a namespace, those in an app's scope if one is given, with their secret values.
    async fn list(
        &self,
        kind: Kind,
        namespace: &str,
        scope: Option<&SpiffeId>,
    ) -> Result<Vec<Bytes>, Status> {
        // An empty list instead would make the sidecar drop what it has.
        let entries = self.informer(kind).list(namespace).map_err(|NotKnown| {
            Status::unavailable(format!("{} are not known yet", kind.plural()))
        })?;
        let mut list = Vec::new();
        for entry in entries {
            if scope.is_none_or(|id| entry.in_scope(id.app_id())) {
                list.push(self.resolve(kind, &entry).await?);
            }
        }
        Ok(list)
    }

    /// One resource. What the watch has not seen yet, because it was made just now, is asked for by name.
    async fn find(&self, kind: Kind, namespace: &str, name: &str) -> Result<Bytes, Status> {
        if let Some(entry) = self.informer(kind).find(namespace, name) {
            return self.resolve(kind, &entry).await;
        }
        let api: Api<entry::Raw> =
            Api::namespaced_with(self.shared.cluster.client(), namespace, &kind.resource());
        let raw = api.get(name).await.map_err(|error| {
            Status::unknown(format!(
                "cannot get {} {namespace}/{name}: {error}",
                kind.plural()
            ))
        })?;
        self.resolve(kind, &Entry::new(kind, raw)).await
    }

    async fn resolve(&self, kind: Kind, entry: &Entry) -> Result<Bytes, Status> {
        let resolved = self.shared.resolver.resolve(kind, entry).await;
        resolved.map_err(|error| {
            let chain = chain(&error);
            tracing::warn!("{chain}");
            Status::unknown(chain)
        })
    }

    /// The changes of a kind for an app; `only` names the one resource that concerns it.
    fn changes(
        &self,
        kind: Kind,
        id: &SpiffeId,
        only: Option<Option<String>>,
    ) -> Result<impl Stream<Item = Result<Update, Status>> + Send + use<>, Status> {
        let subscription = self
            .informer(kind)
            .subscribe(id.namespace(), id.app_id())
            .map_err(|_| Status::unavailable(STOPPING))?;
        tracing::info!(
            namespace = id.namespace(),
            caller = id.app_id(),
            "sidecar connected for updates of {}",
            kind.plural()
        );
        let changes = Changes {
            operator: self.clone(),
            kind,
            subscription,
            only,
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
struct Update {
    json: Bytes,
    kind: EventType,
}

struct Changes {
    operator: Operator,
    kind: Kind,
    subscription: Subscription,
    only: Option<Option<String>>,
}

impl Changes {
    /// The next update, or the end of the stream, with an error if it is not the operator's own end.
    async fn next(&mut self) -> Result<Update, Option<Status>> {
        loop {
            let event = self.subscription.next().await.map_err(|end| match end {
                End::Shutdown => None,
                End::Overflow => Some(Status::unavailable("updates were not read in time")),
            })?;
            let entry = &event.entry;
            if let Some(only) = &self.only
                && only.as_deref() != Some(entry.name.as_str())
            {
                continue;
            }
            // Whoever deletes a resource may have deleted its secrets before; nobody needs them any more.
            let json = if event.kind == EventType::Deleted {
                entry.json.clone()
            } else {
                let resolved = self.operator.resolve(self.kind, entry).await;
                resolved.map_err(|status| Some(Status::unavailable(status.message())))?
            };
            return Ok(Update {
                json,
                kind: event.kind,
            });
        }
    }
}

/// What refused callers read while the operator stops.
const STOPPING: &str = "operator is shutting down";

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
