//! The gRPC side of a test app: callbacks that record, and a two-way stream that proxying can be tried on.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use axum::Router;
use proto::common::v1 as common;
use proto::placement::v1 as placement;
use proto::runtime::v1 as runtime;
use proto::runtime::v1::app_callback_server::{AppCallback, AppCallbackServer};
use proto::runtime::v1::topic_event_response::TopicEventResponseStatus;
use tokio_stream::{Stream, StreamExt as _};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use crate::wait;

#[derive(Default)]
struct Seen {
    events: Vec<runtime::TopicEventRequest>,
    invocations: Vec<(MetadataMap, common::InvokeRequest)>,
    binding_events: Vec<runtime::BindingEventRequest>,
}

/// What the gRPC app declares, and what it was told. Clones share the record.
#[derive(Clone, Default)]
pub struct Callbacks {
    subscriptions: Vec<runtime::TopicSubscription>,
    bindings: BTreeMap<String, runtime::BindingEventResponse>,
    statuses: Arc<Mutex<Vec<TopicEventResponseStatus>>>,
    seen: Arc<Mutex<Seen>>,
}

impl Callbacks {
    /// Subscribes to a topic.
    #[must_use]
    pub fn subscribe(mut self, pubsub: &str, topic: &str) -> Self {
        self.subscriptions.push(runtime::TopicSubscription {
            pubsub_name: pubsub.to_owned(),
            topic: topic.to_owned(),
            ..Default::default()
        });
        self
    }

    /// Takes the events of an input binding, and answers this.
    #[must_use]
    pub fn binding(mut self, name: &str, answer: runtime::BindingEventResponse) -> Self {
        self.bindings.insert(name.to_owned(), answer);
        self
    }

    /// Waits until `count` events of input bindings arrived.
    pub async fn binding_events(&self, count: usize) -> Vec<runtime::BindingEventRequest> {
        wait::until(
            &format!("{count} binding events"),
            wait::DEADLINE,
            || async {
                let seen = self.seen.lock().expect("nobody panics with it");
                let events = seen.binding_events.clone();
                (events.len() >= count).then_some(events)
            },
        )
        .await
    }

    /// Answers the next events with these statuses, in this order, and then with SUCCESS.
    #[must_use]
    pub fn statuses(self, statuses: &[TopicEventResponseStatus]) -> Self {
        *self.statuses.lock().expect("nobody panics with it") =
            statuses.iter().rev().copied().collect();
        self
    }

    /// Waits until `count` events arrived.
    pub async fn events(&self, count: usize) -> Vec<runtime::TopicEventRequest> {
        wait::until(&format!("{count} topic events"), wait::DEADLINE, || async {
            let events = self
                .seen
                .lock()
                .expect("nobody panics with it")
                .events
                .clone();
            (events.len() >= count).then_some(events)
        })
        .await
    }

    /// The invocations until now.
    pub fn invocations(&self) -> Vec<(MetadataMap, common::InvokeRequest)> {
        self.seen
            .lock()
            .expect("nobody panics with it")
            .invocations
            .clone()
    }

    pub(super) fn mount<S: Clone + Send + Sync + 'static>(self, router: Router<S>) -> Router<S> {
        router
            .route_service(
                "/dapr.proto.runtime.v1.AppCallback/{*method}",
                AppCallbackServer::new(self),
            )
            .route_service(
                "/dapr.proto.placement.v1.Placement/{*method}",
                placement::placement_server::PlacementServer::new(Echo),
            )
    }
}

#[tonic::async_trait]
impl AppCallback for Callbacks {
    /// Answers the body and content type of the request.
    async fn on_invoke(
        &self,
        request: Request<common::InvokeRequest>,
    ) -> Result<Response<common::InvokeResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let response = common::InvokeResponse {
            data: message.data.clone(),
            content_type: message.content_type.clone(),
        };
        let method = message.method.clone();
        self.seen
            .lock()
            .expect("nobody panics with it")
            .invocations
            .push((metadata, message));
        if method == "refuse" {
            return Err(Status::failed_precondition("refused by the app"));
        }
        let mut response = Response::new(response);
        response
            .metadata_mut()
            .insert("x-app", "called".parse().expect("ASCII"));
        Ok(response)
    }

    async fn list_topic_subscriptions(
        &self,
        _: Request<()>,
    ) -> Result<Response<runtime::ListTopicSubscriptionsResponse>, Status> {
        Ok(Response::new(runtime::ListTopicSubscriptionsResponse {
            subscriptions: self.subscriptions.clone(),
        }))
    }

    async fn on_topic_event(
        &self,
        request: Request<runtime::TopicEventRequest>,
    ) -> Result<Response<runtime::TopicEventResponse>, Status> {
        self.seen
            .lock()
            .expect("nobody panics with it")
            .events
            .push(request.into_inner());
        let status = self.statuses.lock().expect("nobody panics with it").pop();
        Ok(Response::new(runtime::TopicEventResponse {
            status: status.unwrap_or_default().into(),
        }))
    }

    async fn list_input_bindings(
        &self,
        _: Request<()>,
    ) -> Result<Response<runtime::ListInputBindingsResponse>, Status> {
        Ok(Response::new(runtime::ListInputBindingsResponse {
            bindings: self.bindings.keys().cloned().collect(),
        }))
    }

    async fn on_binding_event(
        &self,
        request: Request<runtime::BindingEventRequest>,
    ) -> Result<Response<runtime::BindingEventResponse>, Status> {
        let event = request.into_inner();
        let answer = self.bindings.get(&event.name).cloned();
        let answer = answer.ok_or_else(|| Status::not_found("no such binding"))?;
        let mut seen = self.seen.lock().expect("nobody panics with it");
        seen.binding_events.push(event);
        Ok(Response::new(answer))
    }

    async fn on_bulk_topic_event(
        &self,
        _: Request<runtime::TopicEventBulkRequest>,
    ) -> Result<Response<runtime::TopicEventBulkResponse>, Status> {
        Err(Status::unimplemented("no bulk topics"))
    }

    async fn on_job_event(
        &self,
        _: Request<runtime::JobEventRequest>,
    ) -> Result<Response<runtime::JobEventResponse>, Status> {
        Err(Status::unimplemented("no jobs"))
    }
}

/// A service that daprd does not serve itself on its API port, so calls of it are proxied to the app: each
/// host comes back as an order of its name.
struct Echo;

type Orders = Pin<Box<dyn Stream<Item = Result<placement::PlacementOrder, Status>> + Send>>;

#[tonic::async_trait]
impl placement::placement_server::Placement for Echo {
    type ReportDaprStatusStream = Orders;

    async fn report_dapr_status(
        &self,
        request: Request<Streaming<placement::Host>>,
    ) -> Result<Response<Orders>, Status> {
        let orders = request.into_inner().map(|host| {
            let host = host?;
            if host.name == "refuse" {
                return Err(Status::out_of_range("refused by the app"));
            }
            Ok(placement::PlacementOrder {
                operation: host.name,
                ..Default::default()
            })
        });
        Ok(Response::new(Box::pin(orders)))
    }
}
