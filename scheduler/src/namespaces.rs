//! What a deleted namespace leaves behind is cleaned up: its jobs and reminders (contract 8.6). A namespace is suspected
//! when it is seen to go, or when a complete list has no such namespace that has jobs: it was deleted while nobody looked.
//! Its jobs go only when the API server, asked for it by name, says that it is not there.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::PartialObjectMeta;
use kube::runtime::watcher::Event;
use kubernetes::{Cluster, Reflector, Signal, State, Store};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use values::Pauses;

use crate::names::{self, JOBS};
use crate::service::delete_prefix;
use crate::store::{self, End, Range};

/// Follows the namespaces of a cluster until shutdown. `ready` once they are known.
pub(crate) async fn run(
    kubeconfig: Option<PathBuf>,
    jobs: store::Shared,
    ready: daemon::Target,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let cluster = Cluster::connect(kubeconfig.as_deref(), "").await;
    let cluster = cluster.context("unable to connect to the cluster")?;
    let api = |cluster: &Cluster| Api::<PartialObjectMeta<Namespace>>::all(cluster.client());
    let reflector = Reflector::new("namespaces", &cluster, api);
    let news = News::default();
    let mut known = Store::<()>::default();
    let follow = reflector.run(&shutdown, |signal: Signal<_>| {
        let listed = matches!(&signal, Signal::Event(Event::InitDone));
        for change in known.apply(signal, |_| Some(())) {
            if change.new.is_none() {
                news.gone(change.key.name);
            }
        }
        if listed {
            news.listed(known.iter().map(|(key, _)| key.name.clone()).collect());
        }
        // Who may not see namespaces, as in an installation for one of them, fires jobs all the same.
        if known.is_known() || known.state() == State::Refused {
            ready.ready();
        }
    });
    let cleaner = Cleaner {
        api: api(&cluster),
        jobs,
    };
    tokio::select! {
        () = follow => {}
        () = cleaner.run(&news) => {}
    }
    Ok(())
}

/// What the reflector has said and nobody has looked into.
#[derive(Default)]
struct News {
    state: Mutex<Suspicion>,
    noticed: Notify,
}

#[derive(Default)]
struct Suspicion {
    /// Namespaces that may be gone.
    gone: BTreeSet<String>,
    /// All namespaces there are, by the last list.
    listed: Option<BTreeSet<String>>,
}

impl News {
    fn gone(&self, namespace: String) {
        self.state.lock().gone.insert(namespace);
        self.noticed.notify_one();
    }

    fn listed(&self, there: BTreeSet<String>) {
        self.state.lock().listed = Some(there);
        self.noticed.notify_one();
    }

    fn take(&self) -> Suspicion {
        std::mem::take(&mut *self.state.lock())
    }

    /// What could not be looked into, and is no longer news where something newer is known.
    fn again(&self, left: Suspicion) {
        let mut state = self.state.lock();
        state.gone.extend(left.gone);
        if state.listed.is_none() {
            state.listed = left.listed;
        }
    }
}

struct Cleaner {
    api: Api<PartialObjectMeta<Namespace>>,
    jobs: store::Shared,
}

impl Cleaner {
    async fn run(&self, news: &News) {
        let mut pauses = Pauses::doubling(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            news.noticed.notified().await;
            loop {
                let left = self.look(news.take()).await;
                if left.gone.is_empty() && left.listed.is_none() {
                    pauses.reset();
                    break;
                }
                news.again(left);
                tokio::time::sleep(pauses.pause()).await;
            }
        }
    }

    /// Cleans up behind namespaces that are gone; what could not be found out or done is left (Q-scheduler-namespaces).
    async fn look(&self, mut suspicion: Suspicion) -> Suspicion {
        if let Some(listed) = &suspicion.listed {
            match with_jobs(&self.jobs).await {
                Ok(stored) => {
                    let missing = stored.difference(listed).cloned();
                    suspicion.gone.extend(missing);
                    suspicion.listed = None;
                }
                Err(error) => tracing::error!("cannot read the namespaces of jobs: {error}"),
            }
        }
        let mut left = BTreeSet::new();
        for namespace in suspicion.gone {
            if let Err(error) = self.clean(&namespace).await {
                tracing::error!("Failed to delete jobs for namespace {namespace}: {error:#}");
                left.insert(namespace);
            }
        }
        Suspicion {
            gone: left,
            listed: suspicion.listed,
        }
    }

    async fn clean(&self, namespace: &str) -> anyhow::Result<()> {
        // One of its name may have come again, and a list may have been of a server that knew less.
        match self.api.get_metadata(namespace).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 && status.reason == NOT_FOUND => {}
            Err(error) => return Err(error).context("whether it is gone cannot be found out"),
        }
        tracing::info!("Deleting jobs from deleted namespace {namespace}");
        for prefix in names::of_namespace(namespace) {
            delete_prefix(&self.jobs, &prefix).await?;
        }
        Ok(())
    }
}

/// The namespaces that have jobs or reminders. Each takes one step, however many it has.
async fn with_jobs(jobs: &store::Shared) -> Result<BTreeSet<String>, store::Error> {
    let mut namespaces = BTreeSet::new();
    for kind in names::KINDS {
        let place = format!("{JOBS}{kind}{}", names::SEPARATOR);
        let mut range = Range {
            limit: Some(1),
            keys_only: true,
            ..Range::prefix(&place)
        };
        while let Some(first) = jobs.range(range.clone()).await?.entries.pop() {
            let full = names::of_key(&first.key, &place);
            let namespace = full.and_then(|full| Some(full.split_once(names::SEPARATOR)?.0));
            range.start = match namespace {
                Some(namespace) => {
                    if is_name(namespace) {
                        namespaces.insert(namespace.to_owned());
                    }
                    let all = format!("{place}{namespace}{}", names::SEPARATOR);
                    match End::of_prefix(all.as_bytes()) {
                        End::Before(end) => end,
                        End::Single | End::Open => break,
                    }
                }
                // A key that tools have written.
                None => [&first.key[..], b"\0"].concat().into(),
            };
        }
    }
    Ok(namespaces)
}

/// Whether a cluster can have a namespace of this name. Jobs of others are nobody's to delete.
fn is_name(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= MAX_NAMESPACE
        && text.bytes().next().is_some_and(letter)
        && text.bytes().all(|byte| letter(byte) || byte == b'-')
}

/// The reason by which the API server says that something is not there; what only cannot reach it says otherwise.
const NOT_FOUND: &str = "NotFound";

/// Characters of a namespace.
const MAX_NAMESPACE: usize = 63;

/// Before what could not be found out or done is tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Op, Store as _, Txn, embedded::Embedded};

    #[tokio::test]
    async fn namespaces_of_jobs_and_reminders_are_found_each_once() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _writer) = Embedded::open(&folder.path().join("store"), u64::MAX).unwrap();
        let names = [
            "app||a||x||1",
            "app||a||x||2",
            "app||a-b||x||1",
            "app||b||x||1",
            "app||nothing",
            "app||||x||1",
            "app||Not A Namespace||x||1",
            "actorreminder||c||t||1||r",
            "actorreminder||a||t||1||r",
            "else||d||x||1",
        ];
        let put = |name: &&str| Op::put(format!("{JOBS}{name}"), "");
        let txn = Txn {
            compare: Vec::new(),
            then: names.iter().map(put).collect(),
        };
        store.commit(txn).await.unwrap();
        let store: store::Shared = std::sync::Arc::new(store);
        let found = with_jobs(&store).await.unwrap();
        assert_eq!(Vec::from_iter(found), ["a", "a-b", "b", "c"]);
    }
}
