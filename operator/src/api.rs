//! The gRPC API that sidecars read their resources from (contract 5.3).

pub mod access;
mod changes;
mod pending;
mod service;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kube::Api;
use kubernetes::Cluster;
use tonic::Status;

use crate::pods::Pods;
use crate::resources::informer::NotKnown;
use crate::resources::secrets::{self, Resolver};
use crate::resources::{Caller, Entry, Informer, Kind, entry};

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

    /// The resources of the caller's namespace that its app loads, with their secret values.
    async fn list(&self, kind: Kind, caller: &Caller) -> Result<Vec<Bytes>, Status> {
        let (informer, connection) = (self.informer(kind), caller.connection);
        // An empty list instead would make the sidecar drop what it has.
        let entries = informer.list(&caller.namespace, connection);
        let entries = entries.map_err(|NotKnown| {
            Status::unavailable(format!("{} are not known yet", kind.plural()))
        })?;
        let age = match informer.is_streaming(connection) {
            true => secrets::RECENT,
            false => secrets::FRESH,
        };
        // Compat: Q-operator-list-resiliency. The one list that leaves scopes to the sidecar.
        let unscoped = kind == Kind::Resiliency;
        let mut list = Vec::new();
        for entry in entries {
            if unscoped || entry.in_scope(&caller.app_id) {
                list.push(self.resolve(kind, &entry, caller, age).await?);
            }
        }
        Ok(list)
    }

    /// One resource. What the watch has not seen yet, because it was made just now, is asked for by name.
    async fn find(&self, kind: Kind, caller: &Caller, name: &str) -> Result<Bytes, Status> {
        let namespace = &caller.namespace;
        let found = self.informer(kind).find(namespace, name, caller.connection);
        if let Some(entry) = found {
            return self.resolve(kind, &entry, caller, secrets::FRESH).await;
        }
        if !(kubernetes::is_name(namespace) && kubernetes::is_name(name)) {
            return Err(Status::invalid_argument(format!(
                "this is no name of {}",
                kind.plural()
            )));
        }
        let api: Api<entry::Raw> =
            Api::namespaced_with(self.shared.cluster.client(), namespace, &kind.resource());
        let raw = api.get(name).await.map_err(|error| {
            Status::unknown(format!(
                "cannot get {} {namespace}/{name}: {error}",
                kind.plural()
            ))
        })?;
        let entry = Entry::new(kind, raw);
        self.resolve(kind, &entry, caller, secrets::FRESH).await
    }

    /// The JSON of a resource, as the caller wants it.
    async fn resolve(
        &self,
        kind: Kind,
        entry: &Entry,
        caller: &Caller,
        age: Duration,
    ) -> Result<Bytes, Status> {
        let resolver = &self.shared.resolver;
        let resolved = resolver.resolve(kind, entry, age, caller.versioned).await;
        resolved.map_err(|error| {
            let chain = chain(&error);
            tracing::warn!("{chain}");
            Status::unknown(chain)
        })
    }
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
