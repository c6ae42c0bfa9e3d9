//! What a deleted namespace leaves behind is cleaned up: its jobs and reminders (contract 8.6).

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::PartialObjectMeta;
use kubernetes::{Cluster, Reflector, Signal, State, Store};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::names;
use crate::service::delete_prefix;
use crate::store;

/// Follows the namespaces of a cluster until shutdown. `ready` once they are known.
pub(crate) async fn run(
    kubeconfig: Option<PathBuf>,
    jobs: store::Shared,
    ready: daemon::Target,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let cluster = Cluster::connect(kubeconfig.as_deref(), "").await;
    let cluster = cluster.context("unable to connect to the cluster")?;
    let (gone, noticed) = (Mutex::new(BTreeSet::new()), Notify::new());
    let api = |cluster: &Cluster| Api::<PartialObjectMeta<Namespace>>::all(cluster.client());
    let reflector = Reflector::new("namespaces", &cluster, api);
    let mut known = Store::<()>::default();
    let follow = reflector.run(&shutdown, |signal: Signal<_>| {
        for change in known.apply(signal, |_| Some(())) {
            if change.new.is_none() {
                gone.lock().insert(change.key.name);
                noticed.notify_one();
            }
        }
        // Who may not see namespaces, as in an installation for one of them, fires jobs all the same.
        if known.is_known() || known.state() == State::Refused {
            ready.ready();
        }
    });
    let clean = async {
        loop {
            noticed.notified().await;
            let gone = std::mem::take(&mut *gone.lock());
            for namespace in gone {
                clean(&jobs, &namespace).await;
            }
        }
    };
    tokio::select! {
        () = follow => {}
        () = clean => {}
    }
    Ok(())
}

async fn clean(jobs: &store::Shared, namespace: &str) {
    tracing::info!("Deleting jobs from deleted namespace {namespace}");
    for prefix in names::of_namespace(namespace) {
        if let Err(error) = delete_prefix(jobs, &prefix).await {
            tracing::error!("Failed to delete jobs for namespace {namespace}: {error}");
        }
    }
}
