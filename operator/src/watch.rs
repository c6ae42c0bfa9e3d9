//! Following a kind of object through the Kubernetes API: one watcher, its errors and their pauses.
//! A kind the cluster does not know (yet) is no error: versions of operator and CRDs may differ for a while.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

/// What a follower is told.
#[derive(Debug)]
pub enum News<K> {
    /// A list begins; what is not in it is gone.
    Listing,
    /// An object in the list.
    Listed(K),
    /// The list is complete.
    Complete,
    /// An object was made or changed.
    Applied(K),
    /// An object was deleted.
    Deleted(K),
    /// The cluster does not know the kind.
    UnknownKind,
}

/// The pause after the first failure; it doubles up to the longest one.
const FIRST_PAUSE: Duration = Duration::from_millis(800);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How often a kind the cluster does not know is asked for again.
const UNKNOWN_KIND_PAUSE: Duration = Duration::from_secs(30);

/// Objects in one page of a list; pages keep the peak of memory low when a watch begins anew.
const PAGE: u32 = 250;

/// Follows `api` until shutdown and hands everything to `tell`.
pub async fn follow<K>(
    what: &str,
    api: Api<K>,
    labels: Option<&str>,
    shutdown: &CancellationToken,
    tell: impl FnMut(News<K>),
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut config = watcher::Config::default().page_size(PAGE);
    if let Some(labels) = labels {
        config = config.labels(labels);
    }
    let stream = watcher::watcher(api, config);
    shutdown
        .run_until_cancelled(listen(what, stream, tell))
        .await;
}

async fn listen<K>(
    what: &str,
    stream: impl futures::Stream<Item = watcher::Result<Event<K>>>,
    mut tell: impl FnMut(News<K>),
) {
    let mut stream = pin!(stream);
    let mut pause = FIRST_PAUSE;
    let mut unknown = false;
    while let Some(event) = stream.next().await {
        let error = match event {
            Ok(event) => {
                if !matches!(event, Event::Init) {
                    pause = FIRST_PAUSE;
                    unknown = false;
                }
                tell(event.into());
                continue;
            }
            Err(error) => error,
        };
        if is_unknown_kind(&error) {
            if !std::mem::replace(&mut unknown, true) {
                tracing::warn!(
                    "the cluster does not know {what}, which are left out until it does"
                );
                tell(News::UnknownKind);
            }
            tokio::time::sleep(UNKNOWN_KIND_PAUSE).await;
            continue;
        }
        tracing::warn!(%error, ?pause, "cannot watch {what}, trying again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

impl<K> From<Event<K>> for News<K> {
    fn from(event: Event<K>) -> Self {
        match event {
            Event::Init => Self::Listing,
            Event::InitApply(object) => Self::Listed(object),
            Event::InitDone => Self::Complete,
            Event::Apply(object) => Self::Applied(object),
            Event::Delete(object) => Self::Deleted(object),
        }
    }
}

fn is_unknown_kind(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 404,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use kube::core::Status;

    fn failure(code: u16) -> watcher::Error {
        let status = Status::failure("no", "Test").with_code(code);
        watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status)))
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_kind_is_told_once_and_asked_for_again() {
        let events: Vec<watcher::Result<Event<Pod>>> = vec![
            Ok(Event::Init),
            Err(failure(404)),
            Ok(Event::Init),
            Err(failure(404)),
            Ok(Event::Init),
            Ok(Event::InitDone),
        ];
        let mut told = Vec::new();
        let started = tokio::time::Instant::now();
        listen("things", futures::stream::iter(events), |news| {
            told.push(news)
        })
        .await;
        let unknown = told.iter().filter(|news| matches!(news, News::UnknownKind));
        assert_eq!(unknown.count(), 1);
        assert!(matches!(told.last(), Some(News::Complete)));
        assert_eq!(started.elapsed(), UNKNOWN_KIND_PAUSE * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_make_longer_and_longer_pauses() {
        let events: Vec<watcher::Result<Event<Pod>>> = (0..10).map(|_| Err(failure(500))).collect();
        let started = tokio::time::Instant::now();
        listen("things", futures::stream::iter(events), |_| {
            panic!("nothing to tell")
        })
        .await;
        let expected = 800 * (1 + 2 + 4 + 8 + 16 + 32) + 4 * 30_000;
        assert_eq!(started.elapsed(), Duration::from_millis(expected));
    }
}
