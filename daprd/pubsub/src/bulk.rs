//! The way of a batch from broker to app: each message is read and routed for itself, each path gets one call, and only
//! what failed is tried again.

use std::{collections::BTreeMap, time::Duration};

use app_channel::event_headers;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use component::pubsub::{BulkEntry, BulkPublishRequest, Delivery, Message, Outcome, Redelivery};
use http::{HeaderValue, StatusCode, header};
use parking_lot::Mutex;
use proto::runtime::v1::{
    TopicEventBulkRequest, TopicEventBulkRequestEntry, topic_event_bulk_request_entry::Event,
};
use serde_json::value::RawValue;
use telemetry::trace::Span;

use crate::{
    cloud_event::{self, BULK_TYPE, CloudEvent},
    content_type,
    core::LOG,
    delivery::{Retry, Subscriber, settle, trace_headers},
    json,
    metrics::Process,
    outcome::{self, Dropped, Failure, Verdict},
    request::{self, BatchEntry, PUBSUB_NAME},
};

/// A message of a batch.
struct Entry {
    id: String,
    delivery: Delivery,
    content_type: String,
    /// The event as JSON; of a raw message, its bytes as a base64 string.
    text: Box<RawValue>,
    /// Nothing for raw messages.
    event: Option<CloudEvent>,
}

/// What is to become of a message once its batch is through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Success,
    /// To the dead letter topic, where there is one.
    Drop,
    /// Dropped because the app takes no such batches; never dead-lettered.
    DropSilently,
    Failed,
}

/// A message that its batch is through with.
type Ended = (Delivery, End);

type Answers = BTreeMap<String, Result<Verdict, Failure>>;

/// What an app said to a batch.
enum Answer {
    Entries(Answers),
    /// It takes no batches at this path.
    DropAll,
}

/// The messages of one path: those still to be delivered, and those that are through.
#[derive(Default)]
struct Progress {
    left: Mutex<Vec<Entry>>,
    ended: Mutex<Vec<(Entry, End)>>,
}

impl Subscriber {
    /// Delivers a batch until the outcome of every message is final, and settles it.
    pub async fn handle_batch(&self, mut batch: Vec<Delivery>, redelivery: Redelivery) {
        let topic = self.subscription.topic.clone();
        loop {
            let failed = self.deliver_batch(batch, &topic).await;
            let Some(attempt) = failed.iter().map(|one| one.attempt).max() else {
                return;
            };
            match self.retry(&topic, redelivery, attempt).await {
                Retry::GiveBack => return,
                Retry::Settle(outcome) => {
                    for delivery in failed {
                        settle(delivery.ack, outcome, &topic).await;
                    }
                    return;
                }
                Retry::Again => {
                    batch = failed;
                    for delivery in &mut batch {
                        delivery.attempt = delivery.attempt.saturating_add(1);
                    }
                }
            }
        }
    }

    /// Delivers a batch once, under the policy, and settles what is final. The rest is wanted again.
    async fn deliver_batch(&self, batch: Vec<Delivery>, topic: &str) -> Vec<Delivery> {
        let began = self.core.clock.instant();
        let mut ended: Vec<Ended> = Vec::new();
        let mut by_path: BTreeMap<String, Progress> = BTreeMap::new();
        for delivery in batch {
            match self.read_entry(delivery, topic) {
                Ok((path, entry)) => by_path.entry(path).or_default().left.get_mut().push(entry),
                Err(end) => ended.push(*end),
            }
        }
        for (path, progress) in by_path {
            self.deliver_entries(topic, &path, &progress).await;
            let through = progress.ended.into_inner().into_iter();
            ended.extend(through.map(|(entry, end)| (entry.delivery, end)));
            let left = progress.left.into_inner().into_iter();
            ended.extend(left.map(|entry| (entry.delivery, End::Failed)));
        }
        let elapsed = self.core.clock.instant() - began;
        self.settle_batch(topic, ended, elapsed).await
    }

    fn read_entry(&self, delivery: Delivery, topic: &str) -> Result<(String, Entry), Box<Ended>> {
        match self.read_text(&delivery.message, topic) {
            Ok((path, text, event)) => {
                let default = match &event {
                    Some(_) => "application/cloudevents+json",
                    None => content_type::BINARY,
                };
                let given = delivery
                    .message
                    .content_type
                    .clone()
                    .filter(|given| !given.is_empty());
                let entry = Entry {
                    id: cloud_event::new_id(),
                    content_type: given.unwrap_or_else(|| default.to_owned()),
                    delivery,
                    text,
                    event,
                };
                Ok((path, entry))
            }
            Err(end) => Err(Box::new((delivery, end))),
        }
    }

    fn read_text(
        &self,
        message: &Message,
        topic: &str,
    ) -> Result<(String, Box<RawValue>, Option<CloudEvent>), End> {
        let unreadable = |problem: String| {
            tracing::error!(
                target: LOG,
                "error reading one of the messages of a batch in pubsub {} and topic {topic}: {problem}",
                self.pubsub()
            );
            End::Failed
        };
        let unrouted = || {
            tracing::warn!(
                target: LOG,
                "no matching route for event in pubsub {} and topic {topic}; skipping",
                self.pubsub()
            );
            End::Drop
        };
        if self.subscription.raw.clone().map_err(unreadable)? {
            let text = || Ok(String::from_utf8_lossy(&message.data).into_owned().into());
            let path = self.subscription.route(text).map_err(unreadable)?;
            let path = path.ok_or_else(unrouted)?.to_owned();
            let encoded = json::raw(json::quote(&STANDARD.encode(&message.data)));
            return Ok((path, encoded, None));
        }
        let event = CloudEvent::parse(&message.data, &message.metadata).map_err(unreadable)?;
        if event.has_expired(self.core.clock.now()) {
            tracing::warn!(target: LOG, "dropping an expired pub/sub event of topic {topic}");
            return Err(End::Drop);
        }
        let path = self
            .subscription
            .route(|| event.to_value())
            .map_err(unreadable)?;
        let path = path.ok_or_else(unrouted)?.to_owned();
        Ok((path, json::raw(event.to_json()), Some(event)))
    }

    async fn deliver_entries(&self, topic: &str, path: &str, progress: &Progress) {
        let policy = self.core.brokers.inbound(self.pubsub());
        let attempt = |_| async {
            let answer = self.call(topic, path, progress).await?;
            apply(progress, answer)
        };
        let classify = |failure: &Failure| {
            if self.is_ending() {
                resiliency::Outcome::Permanent
            } else {
                failure.outcome
            }
        };
        if let Err(error) = policy.run(resiliency::repeatable(attempt), classify).await {
            let problem = error.map(|failure| failure.problem);
            tracing::warn!(target: LOG, "error while delivering a batch of topic {topic}: {problem:?}");
        }
    }

    /// One call of the app with everything that is left.
    async fn call(&self, topic: &str, path: &str, progress: &Progress) -> Result<Answer, Failure> {
        let app = &self.core.options.app;
        let spans = self.spans(topic, progress);
        let named = BTreeMap::from([(PUBSUB_NAME.to_owned(), self.pubsub().to_owned())]);
        if app.protocol().is_grpc() {
            let request = self.grpc_request(topic, path, progress);
            let mut headers = request::grpc_headers(&named);
            trace_headers(&mut headers, spans.last(), true);
            return match app.bulk_topic_event_grpc(request, headers).await {
                Ok(response) => Ok(Answer::Entries(
                    response
                        .statuses
                        .into_iter()
                        .map(|entry| (entry.entry_id, outcome::of_status(entry.status)))
                        .collect(),
                )),
                Err(error) => outcome::of_error(&error).map(|_| Answer::DropAll),
            };
        }
        let body = {
            let left = progress.left.lock();
            let entries: Vec<BatchEntry<'_>> = left
                .iter()
                .map(|entry| BatchEntry {
                    entry_id: &entry.id,
                    event: &entry.text,
                    metadata: &entry.delivery.message.metadata,
                    content_type: &entry.content_type,
                })
                .collect();
            request::batch_body(&cloud_event::new_id(), self.pubsub(), topic, &entries)
        };
        let mut headers = event_headers(&named);
        let content_type = HeaderValue::from_static(content_type::JSON);
        headers.insert(header::CONTENT_TYPE, content_type);
        trace_headers(&mut headers, spans.last(), false);
        match app.topic_event_http(path, body.into(), headers).await {
            Ok(response) if response.status() == StatusCode::NOT_FOUND => Ok(Answer::DropAll),
            Ok(response) => {
                outcome::of_bulk_http(response.status(), response.body()).map(Answer::Entries)
            }
            Err(error) => outcome::of_error(&error).map(|_| Answer::DropAll),
        }
    }

    fn spans(&self, topic: &str, progress: &Progress) -> Vec<Span> {
        let left = progress.left.lock();
        left.iter()
            .filter_map(|entry| self.span(entry.event.as_ref()?, topic))
            .collect()
    }

    fn grpc_request(&self, topic: &str, path: &str, progress: &Progress) -> TopicEventBulkRequest {
        let left = progress.left.lock();
        let entries = left
            .iter()
            .filter_map(|entry| {
                let event = match &entry.event {
                    None => Event::Bytes(entry.delivery.message.data.clone()),
                    // What cannot be put into a message is left out, stays unanswered, and counts as failed.
                    Some(event) => Event::CloudEvent(request::entry(event).ok()?),
                };
                Some(TopicEventBulkRequestEntry {
                    entry_id: entry.id.clone(),
                    content_type: entry.content_type.clone(),
                    metadata: entry.delivery.message.metadata.clone(),
                    event: Some(event),
                })
            })
            .collect();
        TopicEventBulkRequest {
            id: cloud_event::new_id(),
            entries,
            metadata: BTreeMap::from([(PUBSUB_NAME.to_owned(), self.pubsub().to_owned())]),
            topic: topic.to_owned(),
            pubsub_name: self.pubsub().to_owned(),
            r#type: BULK_TYPE.to_owned(),
            path: path.to_owned(),
        }
    }

    async fn settle_batch(
        &self,
        topic: &str,
        ended: Vec<Ended>,
        elapsed: Duration,
    ) -> Vec<Delivery> {
        let mut counts = [
            (Process::Success, 0),
            (Process::Drop, 0),
            (Process::Retry, 0),
        ];
        let mut failed = Vec::new();
        for (delivery, end) in ended {
            let (slot, outcome) = match end {
                End::Success => (0, Outcome::Ok),
                End::Drop => match self.drop_message(&delivery.message).await {
                    // The dead letter topic did not take it now; it may with the others, or the next time.
                    Outcome::Retry => {
                        failed.push(delivery);
                        continue;
                    }
                    outcome => (1, outcome),
                },
                End::DropSilently => (1, Outcome::Drop),
                End::Failed => {
                    failed.push(delivery);
                    continue;
                }
            };
            counts[slot].1 += 1;
            settle(delivery.ack, outcome, topic).await;
        }
        let ending = self.is_ending();
        let taken = !ending && !failed.is_empty() && self.dead_letter_batch(entries(&failed)).await;
        counts[if taken { 1 } else { 2 }].1 += failed.len();
        let metrics = &self.core.metrics;
        metrics.delivered_batch(self.pubsub(), topic, &counts, elapsed);
        if taken {
            for delivery in failed.drain(..) {
                settle(delivery.ack, Outcome::Ok, topic).await;
            }
        }
        if ending {
            // A subscription that ends gives back what it could not deliver.
            failed.clear();
        }
        failed
    }

    /// Publishes what failed to the dead letter topic; false where there is none, or it did not take them all.
    async fn dead_letter_batch(&self, entries: Vec<BulkEntry>) -> bool {
        let Some(topic) = self.subscription.dead_letter_topic.clone() else {
            return false;
        };
        let request = BulkPublishRequest {
            topic,
            entries,
            metadata: BTreeMap::new(),
        };
        self.core.dead_letter_batch(&self.broker, request).await
    }
}

/// Messages as they are published again.
fn entries(deliveries: &[Delivery]) -> Vec<BulkEntry> {
    let messages = deliveries.iter().map(|delivery| &delivery.message);
    let entry = |(index, message): (usize, &Message)| BulkEntry {
        entry_id: index.to_string(),
        data: message.data.clone(),
        content_type: message.content_type.clone().unwrap_or_default(),
        metadata: message.metadata.clone(),
    };
    messages.enumerate().map(entry).collect()
}

/// Moves what the app has answered for good.
///
/// # Errors
/// Where something is left to try again.
fn apply(progress: &Progress, answer: Answer) -> Result<(), Failure> {
    let mut left = progress.left.lock();
    let mut ended = progress.ended.lock();
    let entries = std::mem::take(&mut *left);
    let mut answers = match answer {
        Answer::DropAll => {
            ended.extend(entries.into_iter().map(|entry| (entry, End::DropSilently)));
            return Ok(());
        }
        Answer::Entries(answers) => answers,
    };
    let mut problem = None;
    for entry in entries {
        let end = match answers.remove(&entry.id) {
            Some(Ok(Verdict::Success)) => End::Success,
            Some(Ok(Verdict::Drop(Dropped::ByApp | Dropped::NoPath))) => End::Drop,
            Some(Ok(Verdict::Drop(Dropped::NoCallback))) => End::DropSilently,
            Some(Err(failure)) => {
                problem = Some(failure);
                left.push(entry);
                continue;
            }
            None => {
                problem = Some(Failure::new("response not received, RETRY required"));
                left.push(entry);
                continue;
            }
        };
        ended.push((entry, end));
    }
    if !answers.is_empty() {
        tracing::warn!(target: LOG, "invalid entry ids received from app in the answer to a batch");
    }
    problem.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use component::pubsub::Ack;

    use super::*;

    fn progress(ids: &[&str]) -> Progress {
        let entry = |id: &&str| Entry {
            id: (*id).to_owned(),
            delivery: Delivery::new(Message::default(), Ack::none()),
            content_type: String::new(),
            text: json::raw("{}".into()),
            event: None,
        };
        Progress {
            left: Mutex::new(ids.iter().map(entry).collect()),
            ended: Mutex::default(),
        }
    }

    fn left(progress: &Progress) -> Vec<String> {
        progress
            .left
            .lock()
            .iter()
            .map(|entry| entry.id.clone())
            .collect()
    }

    #[test]
    fn only_what_failed_is_left() {
        let progress = progress(&["a", "b", "c", "d"]);
        let answers = Answers::from([
            ("a".into(), Ok(Verdict::Success)),
            ("b".into(), Ok(Verdict::Drop(Dropped::ByApp))),
            ("c".into(), Err(Failure::new("RETRY"))),
            ("stranger".into(), Ok(Verdict::Success)),
        ]);
        assert!(apply(&progress, Answer::Entries(answers)).is_err());
        assert_eq!(left(&progress), ["c", "d"]);
        let ends: Vec<End> = progress.ended.lock().iter().map(|(_, end)| *end).collect();
        assert_eq!(ends, [End::Success, End::Drop]);

        let rest = ["c", "d"].map(|id| (id.to_owned(), Ok(Verdict::Success)));
        assert!(apply(&progress, Answer::Entries(rest.into())).is_ok());
        assert!(left(&progress).is_empty());
    }

    #[test]
    fn an_app_without_the_path_drops_all() {
        let progress = progress(&["a", "b"]);
        assert!(apply(&progress, Answer::DropAll).is_ok());
        assert!(
            progress
                .ended
                .lock()
                .iter()
                .all(|(_, end)| *end == End::DropSilently)
        );
    }
}
