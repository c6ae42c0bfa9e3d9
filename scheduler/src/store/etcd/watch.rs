//! A watch that goes on wherever etcd lets it, and says so where it does not.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use proto::etcd::rpc::watch_request::RequestUnion;
use proto::etcd::rpc::{WatchCreateRequest, WatchRequest, WatchResponse};
use tonic::{Status, Streaming};
use values::Pauses;

use super::client::Client;
use super::wire;
use crate::store::{Range, Seen};

/// A watch of keys that begin alike.
pub(super) struct Watching {
    client: Arc<Client>,
    range: Range,
    /// The revision to go on with; `None` if it is not known, and changes may be missed.
    next: Option<u64>,
    stream: Option<Opened>,
    pauses: Pauses,
}

struct Opened {
    responses: Streaming<WatchResponse>,
    endpoint: usize,
}

impl Watching {
    pub fn new(client: Arc<Client>, prefix: &str) -> Self {
        Self {
            client,
            range: Range::prefix(prefix),
            next: None,
            stream: None,
            pauses: Pauses::doubling(FIRST_PAUSE, LONGEST_PAUSE),
        }
    }

    /// The next news. Reading anew is the first.
    pub async fn next(&mut self) -> Seen {
        loop {
            let outcome = match &mut self.stream {
                Some(opened) => opened.responses.message().await,
                None => self.open().await.map(Some),
            };
            let seen = match outcome {
                Ok(Some(response)) => self.take(response),
                Ok(None) => {
                    self.stream = None;
                    None
                }
                Err(error) => {
                    if let Some(opened) = self.stream.take() {
                        self.client.broke(opened.endpoint, &error);
                    }
                    tracing::warn!("no watch of etcd: {}", transport::describe(&error));
                    None
                }
            };
            if seen.is_some() {
                self.pauses.reset();
            } else if self.stream.is_none() {
                tokio::time::sleep(self.pauses.pause()).await;
            }
            if let Some(seen) = seen {
                return seen;
            }
        }
    }

    /// The first response comes with the stream.
    async fn open(&mut self) -> Result<WatchResponse, Status> {
        let create = WatchCreateRequest {
            key: self.range.start.clone(),
            range_end: wire::end(&self.range.end),
            start_revision: self
                .next
                .map_or(0, |next| i64::try_from(next).unwrap_or(i64::MAX)),
            progress_notify: true,
        };
        let create = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        let endpoint = self.client.endpoint();
        let opening = self.client.open(|to| {
            // The watch ends with its requests.
            let requests = stream::iter([create.clone()]).chain(stream::pending());
            let request = to.request(requests);
            async move {
                let mut responses = to.watch().watch(request).await?.into_inner();
                let first = responses.message().await?;
                let first = first.ok_or_else(|| Status::unavailable("no answer"))?;
                Ok((first, responses))
            }
        });
        let (first, responses) = opening.await?;
        self.stream = Some(Opened {
            responses,
            endpoint,
        });
        Ok(first)
    }

    fn take(&mut self, response: WatchResponse) -> Option<Seen> {
        let revision = wire::revision(response.header.as_ref());
        if response.canceled {
            self.stream = None;
            tracing::warn!(
                "the watch of etcd was cancelled (compacted until {}): {}",
                response.compact_revision,
                response.cancel_reason
            );
            if response.compact_revision > 0 {
                // What was there in between is forgotten.
                self.next = None;
            }
            return None;
        }
        if response.created {
            // From a backup, for instance.
            let went_back = self.next.is_some_and(|next| revision + 1 < next);
            let known = self.next.is_some() && !went_back;
            if !known {
                self.next = Some(revision + 1);
            }
            if went_back {
                tracing::warn!("etcd has gone back to revision {revision}: all is read anew");
                self.stream = None;
            }
            return (!known).then_some(Seen::Resync);
        }
        let changes: Vec<_> = response
            .events
            .into_iter()
            .filter_map(wire::change)
            .collect();
        match changes.last() {
            // Events of one revision come together.
            Some(last) => self.next = Some(last.revision + 1),
            None => self.next = self.next.max(Some(revision + 1)),
        }
        (!changes.is_empty()).then_some(Seen::Changes(changes))
    }
}

/// Before a watch is tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
