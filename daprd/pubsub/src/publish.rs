//! Publishing: scopes, envelope, policy, metrics.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use component::{
    ErrorKind,
    pubsub::{BulkPublishRequest, BulkResult, Capability, PublishRequest},
};
use parking_lot::Mutex;
use resiliency::Outcome;
use telemetry::trace::TraceContext;

use crate::{
    Error,
    brokers::{self, Broker},
    cloud_event::{self, Parts, field},
    core::{Core, LOG},
};

/// One event to publish.
#[derive(Clone, Debug, Default)]
pub struct Publish {
    pub pubsub: String,
    pub topic: String,
    pub data: Bytes,
    /// Content type of `data`; empty for plain text.
    pub content_type: String,
    pub metadata: BTreeMap<String, String>,
    /// The trace that the envelope carries on.
    pub trace: Option<TraceContext>,
    /// Whether the metadata of a message without an envelope carry the trace.
    pub trace_raw: bool,
    /// As in [`BulkPublish`].
    pub http_status: Option<HttpStatus>,
}

/// The HTTP status of a gRPC code.
pub type HttpStatus = fn(i32) -> u16;

/// One of several events.
#[derive(Clone, Debug, Default)]
pub struct BulkEntry {
    /// Unique among the entries.
    pub entry_id: String,
    pub data: Bytes,
    pub content_type: String,
    pub metadata: BTreeMap<String, String>,
}

/// Several events for one topic.
#[derive(Clone, Debug, Default)]
pub struct BulkPublish {
    pub pubsub: String,
    pub topic: String,
    pub entries: Vec<BulkEntry>,
    pub metadata: BTreeMap<String, String>,
    pub trace: Option<TraceContext>,
    /// What a gRPC code of the component is, where the policy's list of HTTP codes says what is tried again; else that of
    /// gRPC codes does.
    pub http_status: Option<HttpStatus>,
}

/// An entry that was not published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub entry_id: String,
    pub error: String,
}

impl Core {
    /// Fails as a publish would before it looks at the event.
    ///
    /// # Errors
    /// [`Error::NotConfigured`], [`Error::NameEmpty`], [`Error::NotFound`], [`Error::TopicEmpty`].
    pub fn check(&self, pubsub: &str, topic: &str) -> Result<(), Error> {
        self.target(pubsub, topic).map(drop)
    }

    /// Publishes one event; on return the broker has it.
    ///
    /// # Errors
    /// As [`Core::check`]; [`Error::Metadata`], [`Error::CloudEvent`], [`Error::Forbidden`], [`Error::Component`].
    pub async fn publish(&self, publish: Publish) -> Result<(), Error> {
        let broker = self.target(&publish.pubsub, &publish.topic)?;
        let raw = raw_payload(&publish.metadata)?;
        let (trace_parent, trace_state) = trace_texts(publish.trace.as_ref());
        let mut metadata = publish.metadata;
        let data = if raw {
            if publish.trace_raw {
                metadata.insert(field::TRACE_ID.to_owned(), trace_parent);
                metadata.insert(field::TRACE_STATE.to_owned(), trace_state);
            }
            publish.data
        } else {
            let parts = Parts {
                app_id: &self.options.app_id,
                pubsub: &publish.pubsub,
                topic: &publish.topic,
                content_type: &publish.content_type,
                trace_parent: &trace_parent,
                trace_state: &trace_state,
            };
            self.enclose(&broker, parts, &publish.data, &metadata)?
        };
        let request = PublishRequest {
            topic: publish.topic,
            data,
            content_type: None,
            metadata,
        };
        self.send(&broker, request, publish.http_status).await
    }

    /// Publishes an event that has its envelope already.
    ///
    /// # Errors
    /// As [`Core::check`]; [`Error::Forbidden`], [`Error::Component`].
    pub async fn publish_event(
        &self,
        pubsub: &str,
        topic: &str,
        event: Bytes,
    ) -> Result<(), Error> {
        let broker = self.target(pubsub, topic)?;
        let request = PublishRequest {
            topic: topic.to_owned(),
            data: event,
            ..PublishRequest::default()
        };
        self.send(&broker, request, None).await
    }

    /// Publishes several events; what failed is listed.
    ///
    /// # Errors
    /// As [`Core::publish`], where nothing was tried; failures of the component are in the list.
    pub async fn bulk_publish(&self, publish: BulkPublish) -> Result<Vec<Failed>, Error> {
        let broker = self.target(&publish.pubsub, &publish.topic)?;
        let raw = raw_payload(&publish.metadata)?;
        let (trace_parent, trace_state) = trace_texts(publish.trace.as_ref());
        let mut entries = Vec::with_capacity(publish.entries.len());
        for mut entry in publish.entries {
            // Metadata of the request counts only for entries that bring some of their own, as upstream has it.
            if !entry.metadata.is_empty() {
                for (key, value) in &publish.metadata {
                    let slot = entry.metadata.entry(key.clone());
                    slot.or_insert_with(|| value.clone());
                }
            }
            if !raw {
                let parts = Parts {
                    app_id: &self.options.app_id,
                    pubsub: &publish.pubsub,
                    topic: &publish.topic,
                    content_type: &entry.content_type,
                    trace_parent: &trace_parent,
                    trace_state: &trace_state,
                };
                entry.data = self.enclose(&broker, parts, &entry.data, &entry.metadata)?;
            }
            entries.push(component::pubsub::BulkEntry {
                entry_id: entry.entry_id,
                data: entry.data,
                content_type: entry.content_type,
                metadata: entry.metadata,
            });
        }
        let request = BulkPublishRequest {
            topic: publish.topic,
            entries,
            metadata: publish.metadata,
        };
        self.send_batch(&broker, request, publish.http_status).await
    }

    fn target(&self, pubsub: &str, topic: &str) -> Result<Arc<Broker>, Error> {
        let broker = brokers::named(&self.brokers, pubsub)?;
        if topic.is_empty() {
            return Err(Error::TopicEmpty {
                pubsub: pubsub.to_owned(),
            });
        }
        Ok(broker)
    }

    fn enclose(
        &self,
        broker: &Broker,
        parts: Parts<'_>,
        data: &[u8],
        metadata: &BTreeMap<String, String>,
    ) -> Result<Bytes, Error> {
        // Where the broker lets messages expire, it does so by their metadata.
        let ttl = match broker.capabilities().contains(Capability::MessageTtl) {
            true => None,
            false => cloud_event::time_to_live(metadata),
        };
        cloud_event::envelope(parts, data, metadata, self.clock.now(), ttl)
            .map(Bytes::from)
            .map_err(|problem| Error::CloudEvent { problem })
    }

    fn check_publishing(&self, broker: &Broker, topic: &str) -> Result<(), Error> {
        if broker.beside.scopes.may_publish(topic) {
            return Ok(());
        }
        Err(Error::Forbidden {
            topic: topic.to_owned(),
            app_id: self.options.app_id.clone(),
        })
    }

    /// Publishes bytes as they are, under scopes and policy; `request.topic` is the app's.
    async fn send(
        &self,
        broker: &Broker,
        mut request: PublishRequest,
        http: Option<HttpStatus>,
    ) -> Result<(), Error> {
        self.check_publishing(broker, &request.topic)?;
        let name = &broker.listed.name;
        let topic = std::mem::take(&mut request.topic);
        request.topic = broker.beside.on_broker(&topic);
        let began = self.clock.instant();
        let publish = || broker.component.publish(&request);
        let calling = self
            .brokers
            .call_judged(broker, "publish", judge(http), publish);
        let result = calling.await;
        let elapsed = self.clock.instant() - began;
        self.metrics
            .published(name, &topic, result.is_ok(), elapsed);
        Ok(result?)
    }

    /// Publishes entries as they are; only those that failed are tried again.
    async fn send_batch(
        &self,
        broker: &Broker,
        mut request: BulkPublishRequest,
        http: Option<HttpStatus>,
    ) -> Result<Vec<Failed>, Error> {
        self.check_publishing(broker, &request.topic)?;
        let name = &broker.listed.name;
        let topic = std::mem::take(&mut request.topic);
        let full_topic = broker.beside.on_broker(&topic);
        let count = request.entries.len();
        let began = self.clock.instant();

        let left = Mutex::new(request.entries);
        let failures = Mutex::new(Vec::new());
        let publish = || {
            let request = BulkPublishRequest {
                topic: full_topic.clone(),
                entries: left.lock().clone(),
                metadata: request.metadata.clone(),
            };
            let (left, failures) = (&left, &failures);
            async move {
                let results = broker.component.bulk_publish(&request).await?;
                settle(&mut left.lock(), &mut failures.lock(), results)
            }
        };
        let calling = self
            .brokers
            .call_judged(broker, "bulk publish", judge(http), publish);
        let result = calling.await;

        let left = left.into_inner();
        let failed = match &result {
            Ok(()) => Vec::new(),
            Err(error) => {
                let known: BTreeMap<String, String> = failures.into_inner().into_iter().collect();
                let text = component::error::chain(error);
                left.into_iter()
                    .map(|entry| Failed {
                        error: known.get(&entry.entry_id).unwrap_or(&text).clone(),
                        entry_id: entry.entry_id,
                    })
                    .collect()
            }
        };
        let elapsed = self.clock.instant() - began;
        let published = count - failed.len();
        self.metrics
            .published_batch(name, &topic, result.is_ok(), published, elapsed);
        Ok(failed)
    }

    /// Publishes a message to a dead letter topic, within a time of its own: the policy that gave the message up may have
    /// used up every other.
    pub async fn dead_letter(&self, broker: &Broker, request: PublishRequest) -> bool {
        let topic = request.topic.clone();
        let publish = self.send(broker, request, None);
        let problem = match tokio::time::timeout(DEAD_LETTER_LIMIT, publish).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {DEAD_LETTER_LIMIT:?}"),
        };
        tracing::error!(target: LOG, "error sending message to dead letter topic {topic}: {problem}");
        false
    }

    /// The same for several messages; true where the topic has taken them all.
    pub async fn dead_letter_batch(&self, broker: &Broker, request: BulkPublishRequest) -> bool {
        let topic = request.topic.clone();
        let publish = self.send_batch(broker, request, None);
        let problem = match tokio::time::timeout(DEAD_LETTER_LIMIT, publish).await {
            Ok(Ok(failed)) => match failed.into_iter().next() {
                None => return true,
                Some(failed) => failed.error,
            },
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {DEAD_LETTER_LIMIT:?}"),
        };
        tracing::error!(target: LOG, "error sending messages to dead letter topic {topic}: {problem}");
        false
    }
}

/// What a gRPC code of a component is to its policy.
fn judge(http: Option<HttpStatus>) -> impl Fn(i32) -> Outcome {
    move |code| match http {
        Some(http) => Outcome::Http(http(code)),
        None => Outcome::Grpc(code),
    }
}

/// Keeps the entries that failed.
///
/// # Errors
/// Where some did.
fn settle(
    left: &mut Vec<component::pubsub::BulkEntry>,
    failures: &mut Vec<(String, String)>,
    results: Vec<BulkResult>,
) -> Result<(), component::Error> {
    let mut results: BTreeMap<String, Result<(), component::Error>> = results
        .into_iter()
        .map(|one| (one.entry_id, one.result))
        .collect();
    let mut kind = None;
    failures.clear();
    left.retain(|entry| {
        let error = match results.remove(&entry.entry_id) {
            Some(Ok(())) => return false,
            Some(Err(error)) => error,
            None => component::Error::new(
                ErrorKind::Internal,
                "the component did not say what became of the entry",
            ),
        };
        kind = kind.or(Some(error.kind()));
        let text = component::error::chain(&error);
        failures.push((entry.entry_id.clone(), text));
        true
    });
    match kind {
        None => Ok(()),
        Some(kind) => Err(component::Error::new(kind, "bulk publish failed")),
    }
}

fn raw_payload(metadata: &BTreeMap<String, String>) -> Result<bool, Error> {
    cloud_event::is_raw(metadata).map_err(|problem| Error::Metadata { problem })
}

fn trace_texts(trace: Option<&TraceContext>) -> (String, String) {
    match trace {
        None => Default::default(),
        Some(trace) => {
            let state = trace.tracestate().unwrap_or_default().to_owned();
            (trace.traceparent(), state)
        }
    }
}

/// How long a message may take to its dead letter topic.
const DEAD_LETTER_LIMIT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_without_a_result_has_failed() {
        let entry = |id: &str| component::pubsub::BulkEntry {
            entry_id: id.to_owned(),
            ..component::pubsub::BulkEntry::default()
        };
        let mut left = vec![entry("sent"), entry("forgotten")];
        let mut failures = Vec::new();
        let sent = BulkResult {
            entry_id: "sent".to_owned(),
            result: Ok(()),
        };
        let error = settle(&mut left, &mut failures, vec![sent]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert_eq!(left.len(), 1);
        assert_eq!(failures[0].0, "forgotten");
        assert!(settle(&mut Vec::new(), &mut failures, Vec::new()).is_ok());
    }
}
