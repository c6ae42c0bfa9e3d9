//! One call of the app with a batch, over HTTP or gRPC.

use std::collections::BTreeMap;

use app_channel::event_headers;
use http::{HeaderValue, StatusCode, header};
use proto::runtime::v1::{
    TopicEventBulkRequest, TopicEventBulkRequestEntry, topic_event_bulk_request_entry::Event,
};
use telemetry::trace::Span;

use super::progress::{Answer, Progress};
use crate::{
    cloud_event::{self, BULK_TYPE},
    content_type,
    delivery::{Subscriber, trace_headers},
    outcome::{self, Failure},
    request::{self, BatchEntry, PUBSUB_NAME},
};

impl Subscriber {
    /// One call of the app with everything that is left.
    pub(super) async fn call(
        &self,
        topic: &str,
        path: &str,
        progress: &Progress,
    ) -> Result<Answer, Failure> {
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
}
