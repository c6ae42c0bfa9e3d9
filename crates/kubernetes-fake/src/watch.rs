//! Watches: a line for each event, for as long as the client asked for.

use std::sync::Arc;
use std::time::Duration;

use futures::stream;
use http::Response;
use serde_json::{Value, json};
use tokio::sync::watch as signal;
use tokio::time::Instant;

use crate::answer::{Answer, AnswerBody, streamed};
use crate::request::{Seen, Target};
use crate::selector::Selector;
use crate::verbs::shown;
use crate::{Fake, State};

/// How long a watch lasts that does not say so.
const LASTS: Duration = Duration::from_secs(30 * 60);

struct Watch {
    fake: Fake,
    turns: signal::Receiver<u64>,
    collection: String,
    selector: Selector,
    metadata_only: bool,
    bookmarks: bool,
    /// The next event to look at.
    position: usize,
    epoch: u64,
    until: Instant,
    /// What is sent first.
    first: Vec<String>,
}

/// Begins a watch.
pub fn open(
    fake: &Fake,
    state: &State,
    seen: &Seen,
    target: &Target,
    turns: signal::Receiver<u64>,
) -> Response<AnswerBody> {
    let storage = &state.storage;
    if !storage.is_known(&target.collection) {
        return Answer::status(404).into_response();
    }
    let selector = Selector::new(seen, target.namespace.as_deref(), target.name.as_deref());
    let from = seen
        .parameter("resourceVersion")
        .and_then(|it| it.parse().ok());
    let from = from.filter(|&version: &u64| version > 0);
    let mut first = Vec::new();
    if from.is_some_and(|version| version < storage.compacted()) {
        let gone = Answer::failure(410, "Expired", "too old resource version");
        if state.gone_at_once {
            return gone.into_response();
        }
        return streamed(stream::iter([line("ERROR", &gone.body)]));
    }
    if from.is_none() {
        let matching = storage
            .list(&target.collection)
            .filter(|it| selector.matches(it));
        first.extend(matching.map(|it| line("ADDED", &shown(it, seen.metadata_only))));
        first.reverse();
    }
    let lasts = seen
        .parameter("timeoutSeconds")
        .and_then(|it| it.parse().ok());
    let position = storage.position(&target.collection, from.unwrap_or(storage.version()));
    let watch = Watch {
        fake: Fake(Arc::clone(&fake.0)),
        turns,
        collection: target.collection.clone(),
        selector,
        metadata_only: seen.metadata_only,
        bookmarks: seen.parameter("allowWatchBookmarks") == Some("true"),
        position,
        epoch: storage.epoch(),
        until: Instant::now() + lasts.map_or(LASTS, Duration::from_secs),
        first,
    };
    streamed(stream::unfold(watch, |mut watch| async {
        let line = watch.next().await?;
        Some((line, watch))
    }))
}

fn line(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

impl Watch {
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(line) = self.first.pop() {
                return Some(line);
            }
            self.turns.borrow_and_update();
            if let Some(line) = self.look() {
                return line;
            }
            tokio::select! {
                changed = self.turns.changed() => changed.ok()?,
                () = tokio::time::sleep_until(self.until) => return None,
            }
        }
    }

    /// The next line, or the end; `None` if there is nothing to say.
    fn look(&mut self) -> Option<Option<String>> {
        let state = self.fake.0.state.lock();
        if state.storage.epoch() != self.epoch {
            return Some(None);
        }
        for event in state.storage.events(&self.collection, self.position) {
            self.position += 1;
            if event.kind == "BOOKMARK" {
                if self.bookmarks {
                    return Some(Some(line("BOOKMARK", &shown(&event.object, false))));
                }
            } else if self.selector.matches(&event.object) {
                let object = shown(&event.object, self.metadata_only);
                return Some(Some(line(&event.kind, &object)));
            }
        }
        None
    }
}
