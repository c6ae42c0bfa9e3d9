//! Publish operations.

use std::collections::{BTreeMap, BTreeSet};

use ::pubsub::{BulkEntry, BulkPublish, Error, Publish};
use proto::runtime::v1::{
    BulkPublishRequest, BulkPublishResponse, BulkPublishResponseFailedEntry, PublishEventRequest,
};

use super::{Api, Operation, Route, rpc};
use crate::{
    ApiError, CallContext, Reason, Transport, http::pubsub as codec, reason::pubsub as reason,
};

pub static ROWS: &[Operation] = &[
    Operation::new(
        "PublishEvent",
        "publish",
        &[rpc!("PublishEvent", "v1", publish_event)],
        &[Route {
            methods: &["POST", "PUT"],
            path: "/v1.0/publish/{pubsub}/{*topic}",
            codec: |api, call| Box::pin(codec::publish(api, call)),
        }],
    ),
    Operation::new(
        "BulkPublishEvent",
        "publish",
        &[
            rpc!("BulkPublishEvent", "v1", bulk_publish_event),
            rpc!("BulkPublishEventAlpha1", "v1alpha1", bulk_publish_event),
        ],
        &[
            Route {
                methods: &["POST", "PUT"],
                path: "/v1.0/publish/bulk/{pubsub}/{*topic}",
                codec: |api, call| Box::pin(codec::bulk_publish(api, call)),
            },
            Route {
                methods: &["POST", "PUT"],
                path: "/v1.0-alpha1/publish/bulk/{pubsub}/{*topic}",
                codec: |api, call| Box::pin(codec::bulk_publish(api, call)),
            },
        ],
    ),
];

/// A retry policy judges a publish by the codes of the API that it came through.
fn http_status(call: &CallContext) -> Option<pubsub::HttpStatus> {
    let status = |code| invoke::http_status(tonic::Code::from_i32(code)).as_u16();
    (call.transport == Transport::Http).then_some(status as pubsub::HttpStatus)
}

impl Api {
    /// Publishes one event.
    pub async fn publish_event(
        &self,
        call: &CallContext,
        request: PublishEventRequest,
    ) -> Result<(), ApiError> {
        let about = About::of(&request.pubsub_name, &request.topic, &request.metadata);
        let publish = Publish {
            pubsub: request.pubsub_name,
            topic: request.topic,
            data: request.data,
            content_type: request.data_content_type,
            metadata: request.metadata,
            trace: call.trace.clone(),
            // Compat: Q-raw-trace: what is published raw over HTTP travels without its trace.
            trace_raw: call.transport == Transport::Grpc,
            http_status: http_status(call),
        };
        self.options
            .pubsub
            .publish(publish)
            .await
            .map_err(|error| self.pubsub_error(call, &about, error))
    }

    /// Publishes several events; what failed is listed.
    pub async fn bulk_publish_event(
        &self,
        call: &CallContext,
        request: BulkPublishRequest,
    ) -> Result<BulkPublishResponse, ApiError> {
        let about = About::of(&request.pubsub_name, &request.topic, &request.metadata);
        self.check_pubsub(
            call,
            &request.pubsub_name,
            &request.topic,
            &request.metadata,
        )?;
        let mut ids = BTreeSet::new();
        for entry in &request.entries {
            if entry.entry_id.is_empty() || !ids.insert(entry.entry_id.as_str()) {
                let cause = "entryId is duplicated or not present for entry";
                return Err(self.with_cause(
                    &about,
                    &reason::MARSHAL_EVENTS,
                    format!(
                        "error marshaling events to bytes for topic {} pubsub {}. error: {cause}",
                        about.topic, about.pubsub
                    ),
                    cause,
                ));
            }
        }
        let entries = request
            .entries
            .into_iter()
            .map(|entry| BulkEntry {
                entry_id: entry.entry_id,
                data: entry.event,
                content_type: entry.content_type,
                metadata: entry.metadata,
            })
            .collect();
        let publish = BulkPublish {
            pubsub: request.pubsub_name,
            topic: request.topic,
            entries,
            metadata: request.metadata,
            trace: call.trace.clone(),
            http_status: http_status(call),
        };
        let failed = self
            .options
            .pubsub
            .bulk_publish(publish)
            .await
            .map_err(|error| self.pubsub_error(call, &about, error))?;
        // Compat: Q-bulk-failures: over gRPC one failure fails the call, and the entries are not listed.
        if call.transport == Transport::Grpc
            && let Some(first) = failed.first()
        {
            let (topic, pubsub) = (&about.topic, &about.pubsub);
            let cause = &first.error;
            let message =
                format!("error when publishing to topic {topic} in pubsub {pubsub}: {cause}");
            return Err(with_topic(&about, &reason::PUBLISH, message, cause));
        }
        let failed_entries = failed
            .into_iter()
            .map(|failed| BulkPublishResponseFailedEntry {
                entry_id: failed.entry_id,
                error: failed.error,
            })
            .collect();
        Ok(BulkPublishResponse { failed_entries })
    }

    /// The broker and the topic must be there before a body is looked at.
    pub(crate) fn check_pubsub(
        &self,
        call: &CallContext,
        pubsub: &str,
        topic: &str,
        metadata: &BTreeMap<String, String>,
    ) -> Result<(), ApiError> {
        let about = About::of(pubsub, topic, metadata);
        self.options
            .pubsub
            .check(pubsub, topic)
            .map_err(|error| self.pubsub_error(call, &about, error))
    }

    /// A body of bulk entries that cannot be read.
    pub(crate) fn unreadable_events(&self, pubsub: &str, topic: &str, cause: &str) -> ApiError {
        let message = format!(
            "error when unmarshaling the request for topic {topic} pubsub {pubsub}: {cause}"
        );
        ApiError::new(&reason::UNMARSHAL_EVENTS, message.clone())
            .resource("pubsub", pubsub, &message)
            .metadata([("appID", self.options.app_id.as_str())])
    }

    /// An event of a bulk publish that its content type does not describe.
    pub(crate) fn mismatched_event(&self, pubsub: &str, topic: &str, cause: &str) -> ApiError {
        let about = About::of(pubsub, topic, &BTreeMap::new());
        let message = format!(
            "error when marshalling cloud event envelope for topic {topic} pubsub {pubsub}: {cause}"
        );
        self.with_cause(&about, &reason::ENVELOPE, message, cause)
    }

    pub(crate) fn pubsub_error(&self, call: &CallContext, about: &About, error: Error) -> ApiError {
        let text = error.to_string();
        let (pubsub, topic) = (&about.pubsub, &about.topic);
        let plain = |row: &'static Reason, message: String| {
            let error = ApiError::new(row, message.clone()).resource("pubsub", pubsub, &message);
            if about.metadata.is_empty() {
                error
            } else {
                error.metadata(about.metadata.clone())
            }
        };
        match &error {
            Error::NameEmpty => plain(&reason::NAME_EMPTY, "pubsub name is empty".to_owned()),
            Error::TopicEmpty { .. } => plain(
                &reason::TOPIC_EMPTY,
                format!("topic is empty in pubsub {pubsub}"),
            ),
            // Compat: Q-pubsub-missing: no pub/sub at all is answered as one of another name.
            Error::NotConfigured | Error::NotFound { .. } => {
                let error =
                    ApiError::new(&reason::NOT_FOUND, format!("pubsub {pubsub} is not found"));
                match call.transport {
                    // Compat: Q-pubsub-missing: only the HTTP API shows the request's metadata in the details.
                    Transport::Http => error.metadata(about.metadata.clone()),
                    Transport::Grpc => error,
                }
            }
            Error::Metadata { .. } => plain(
                &reason::METADATA,
                format!("failed deserializing metadata. Error: {text}"),
            ),
            Error::CloudEvent { .. } => self.with_cause(
                about,
                &reason::CLOUD_EVENT,
                "cannot create cloudevent".to_owned(),
                &text,
            ),
            Error::Forbidden { .. } => {
                let app_id = &self.options.app_id;
                let message = format!("topic {topic} is not allowed for app id {app_id}");
                with_topic(about, &reason::FORBIDDEN, message, &text)
            }
            _ => {
                let message =
                    format!("error when publishing to topic {topic} in pubsub {pubsub}: {text}");
                with_topic(about, &reason::PUBLISH, message, &text)
            }
        }
    }

    fn with_cause(
        &self,
        about: &About,
        row: &'static Reason,
        message: String,
        cause: &str,
    ) -> ApiError {
        ApiError::new(row, message.clone())
            .resource("pubsub", &about.pubsub, &message)
            .metadata([("appID", self.options.app_id.as_str()), ("error", cause)])
    }
}

fn with_topic(about: &About, row: &'static Reason, message: String, cause: &str) -> ApiError {
    ApiError::new(row, message.clone())
        .resource("pubsub", &about.pubsub, &message)
        .metadata([("topic", about.topic.as_str()), ("error", cause)])
}

/// What an error is about.
pub(crate) struct About {
    pubsub: String,
    topic: String,
    metadata: BTreeMap<String, String>,
}

impl About {
    pub(crate) fn of(pubsub: &str, topic: &str, metadata: &BTreeMap<String, String>) -> Self {
        Self {
            pubsub: pubsub.to_owned(),
            topic: topic.to_owned(),
            metadata: metadata.clone(),
        }
    }
}
