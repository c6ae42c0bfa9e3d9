//! Reading of all jobs with their counters, a page at a time and each page once the one before has been taken in.

use std::collections::HashMap;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use prost::Message as _;
use proto::cron::Counter;
use tokio::time::sleep;

use crate::names::{self, COUNTERS, JOBS};
use crate::ownership::AGAIN;
use crate::store::{self, Entry, Range};

/// A page of jobs.
#[derive(Default)]
pub(crate) struct Page {
    pub jobs: Vec<Entry>,
    /// By the names of jobs.
    pub counters: HashMap<String, Counter>,
    /// Where the next page begins.
    pub next: Option<Bytes>,
    /// Of the last write before.
    pub revision: u64,
}

/// Reads the page from a key on, as often as it takes.
///
/// # Errors
/// When the store has broken.
pub(crate) async fn page(store: store::Shared, start: Bytes) -> Result<Page, store::Error> {
    persist("jobs", || attempt(&store, start.clone())).await
}

/// Reads single jobs, as often as it takes.
///
/// # Errors
/// When the store has broken.
pub(crate) async fn keys(store: store::Shared, keys: Vec<Bytes>) -> Result<Page, store::Error> {
    let one = |key: Bytes| {
        let store = store.clone();
        async move { persist("a job", || single(&store, key.clone())).await }
    };
    let mut pages = stream::iter(keys).map(one).buffered(AT_ONCE);
    let mut all = Page::default();
    while let Some(page) = pages.next().await {
        let page = page?;
        all.jobs.extend(page.jobs);
        all.counters.extend(page.counters);
    }
    Ok(all)
}

/// Reads until it works, or the store has broken.
async fn persist<F>(what: &str, read: impl Fn() -> F) -> Result<Page, store::Error>
where
    F: Future<Output = Result<Page, store::Error>>,
{
    loop {
        match read().await {
            Err(error) if error.is_passing() => {
                tracing::warn!("{what} cannot be read: {error}");
                sleep(AGAIN).await;
            }
            outcome => return outcome,
        }
    }
}

async fn single(store: &store::Shared, key: Bytes) -> Result<Page, store::Error> {
    let jobs = store.range(Range::one(key)).await?.entries;
    let counters = if jobs.is_empty() {
        HashMap::new()
    } else {
        counters(store, &jobs).await?
    };
    Ok(Page {
        jobs,
        counters,
        ..Page::default()
    })
}

/// Where the first page begins.
pub(crate) fn first() -> Bytes {
    Range::prefix(JOBS).start
}

async fn attempt(store: &store::Shared, start: Bytes) -> Result<Page, store::Error> {
    let range = Range {
        start,
        limit: Some(PAGE),
        ..Range::prefix(JOBS)
    };
    let page = store.range(range).await?;
    Ok(Page {
        counters: counters(store, &page.entries).await?,
        next: page.next(),
        revision: page.revision,
        jobs: page.entries,
    })
}

/// The counters of a page of jobs, by name.
async fn counters(
    store: &store::Shared,
    jobs: &[Entry],
) -> Result<HashMap<String, Counter>, store::Error> {
    let name = |job: Option<&Entry>| {
        let name = job.and_then(|job| names::of_key(&job.key, JOBS));
        format!("{COUNTERS}{}", name.unwrap_or_default())
    };
    let range = Range {
        start: name(jobs.first()).into(),
        end: store::End::Before(format!("{}\0", name(jobs.last())).into()),
        limit: None,
        keys_only: false,
    };
    let page = store.range(range).await?;
    let read = page.entries.iter().filter_map(|entry| {
        let name = names::of_key(&entry.key, COUNTERS)?;
        Some((name.to_owned(), Counter::decode(&entry.value[..]).ok()?))
    });
    Ok(read.collect())
}

/// Jobs that are read at a time.
const PAGE: usize = 1000;

/// Single jobs that are read at the same time.
const AT_ONCE: usize = 64;
