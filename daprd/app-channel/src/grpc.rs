//! Calls to a gRPC app: the AppCallback services, and requests that are passed through unread.

use ::http::{HeaderMap, Request, Response, Uri, uri::PathAndQuery};
use component::{Body, body};
use proto::{
    common::v1::{InvokeRequest, InvokeResponse},
    runtime::v1::{
        BindingEventRequest, BindingEventResponse, HealthCheckResponse, JobEventRequest,
        ListInputBindingsResponse, ListTopicSubscriptionsResponse, TopicEventBulkRequest,
        TopicEventBulkResponse, TopicEventRequest, TopicEventResponse,
        app_callback_alpha_client::AppCallbackAlphaClient, app_callback_client::AppCallbackClient,
        app_callback_health_check_client::AppCallbackHealthCheckClient,
    },
};
use tonic::{Code, Status, metadata::MetadataMap};
use tower::Service as _;

use crate::{AppChannel, Error, TOKEN_HEADER};

/// Calls one RPC of a generated client with the app's token, limits and metadata.
macro_rules! call {
    ($channel:expr, $client:ident, $rpc:ident, $message:expr, $metadata:expr) => {{
        let _place = $channel.enter().await;
        call_unlimited!($channel, $client, $rpc, $message, $metadata)
    }};
}

/// The same without a place among the calls under way.
macro_rules! call_unlimited {
    ($channel:expr, $client:ident, $rpc:ident, $message:expr, $metadata:expr) => {{
        let channel: &AppChannel = $channel;
        let limit = channel.0.options.max_message;
        let mut client =
            $client::with_origin(channel.0.clients.grpc.clone(), channel.0.origin.clone())
                .max_decoding_message_size(limit)
                .max_encoding_message_size(limit);
        let mut request = tonic::Request::new($message);
        *request.metadata_mut() = channel.metadata($metadata);
        client.$rpc(request).await
    }};
}

impl AppChannel {
    /// Invokes a method of the app by message.
    ///
    /// # Errors
    /// [`Error::NoChannel`], [`Error::Unhealthy`], [`Error::Status`].
    pub async fn on_invoke(
        &self,
        request: InvokeRequest,
        metadata: HeaderMap,
    ) -> Result<tonic::Response<InvokeResponse>, Error> {
        self.check()?;
        call!(self, AppCallbackClient, on_invoke, request, metadata).map_err(failed)
    }

    /// Delivers a topic event.
    ///
    /// # Errors
    /// As [`AppChannel::on_invoke`].
    pub async fn topic_event_grpc(
        &self,
        request: TopicEventRequest,
        metadata: HeaderMap,
    ) -> Result<TopicEventResponse, Error> {
        self.check()?;
        call!(self, AppCallbackClient, on_topic_event, request, metadata)
            .map(tonic::Response::into_inner)
            .map_err(failed)
    }

    /// Delivers several topic events; apps that only know the older name are asked by it.
    ///
    /// # Errors
    /// As [`AppChannel::on_invoke`].
    pub async fn bulk_topic_event_grpc(
        &self,
        request: TopicEventBulkRequest,
        metadata: HeaderMap,
    ) -> Result<TopicEventBulkResponse, Error> {
        self.check()?;
        let first = call!(
            self,
            AppCallbackClient,
            on_bulk_topic_event,
            request.clone(),
            metadata.clone()
        );
        let answer = match first {
            Err(status) if status.code() == Code::Unimplemented => call!(
                self,
                AppCallbackAlphaClient,
                on_bulk_topic_event_alpha1,
                request,
                metadata
            ),
            other => other,
        };
        answer.map(tonic::Response::into_inner).map_err(failed)
    }

    pub(crate) async fn list_topic_subscriptions(
        &self,
    ) -> Result<ListTopicSubscriptionsResponse, Status> {
        let none = HeaderMap::new();
        call!(self, AppCallbackClient, list_topic_subscriptions, (), none)
            .map(tonic::Response::into_inner)
    }

    pub(crate) async fn list_input_bindings(&self) -> Result<ListInputBindingsResponse, Status> {
        let none = HeaderMap::new();
        call!(self, AppCallbackClient, list_input_bindings, (), none)
            .map(tonic::Response::into_inner)
    }

    pub(crate) async fn on_binding_event(
        &self,
        request: BindingEventRequest,
        metadata: HeaderMap,
    ) -> Result<BindingEventResponse, Error> {
        self.check()?;
        call!(self, AppCallbackClient, on_binding_event, request, metadata)
            .map(tonic::Response::into_inner)
            .map_err(failed)
    }

    /// Apps that only know the older name are asked by it.
    pub(crate) async fn on_job_event(&self, request: JobEventRequest) -> Result<(), Status> {
        let none = HeaderMap::new;
        let again = request.clone();
        match call!(self, AppCallbackClient, on_job_event, request, none()) {
            Err(status) if status.code() == Code::Unimplemented => {
                call!(
                    self,
                    AppCallbackAlphaClient,
                    on_job_event_alpha1,
                    again,
                    none()
                )
            }
            other => other,
        }
        .map(|_| ())
    }

    /// Asks a gRPC app for its health, also while it has as many calls as it may have.
    pub(crate) async fn health_check(&self) -> Result<HealthCheckResponse, Status> {
        let none = HeaderMap::new();
        call_unlimited!(self, AppCallbackHealthCheckClient, health_check, (), none)
            .map(tonic::Response::into_inner)
    }

    /// Passes a gRPC request on as it is, trailers and streams included.
    ///
    /// # Errors
    /// [`Error::NoChannel`], [`Error::Unhealthy`], [`Error::Unreachable`].
    pub async fn pass(&self, mut request: Request<Body>) -> Result<Response<Body>, Error> {
        self.check()?;
        let place = self.enter().await;
        let mut parts = self.0.origin.clone().into_parts();
        parts.path_and_query = Some(
            request
                .uri()
                .path_and_query()
                .cloned()
                .unwrap_or(PathAndQuery::from_static("/")),
        );
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        request.headers_mut().remove(TOKEN_HEADER);
        if let Some(token) = self.token() {
            request.headers_mut().insert(TOKEN_HEADER, token);
        }
        let request = request.map(tonic::body::Body::new);
        let response = self.0.clients.grpc.clone().call(request).await;
        drop(place);
        match response {
            Ok(response) => Ok(response.map(body::streamed)),
            Err(error) => Err(Error::Unreachable(transport::describe(&error))),
        }
    }

    fn metadata(&self, mut headers: HeaderMap) -> MetadataMap {
        headers.remove(TOKEN_HEADER);
        if let Some(token) = self.token() {
            headers.insert(TOKEN_HEADER, token);
        }
        MetadataMap::from_headers(headers)
    }
}

/// A status of the client itself, about a line that broke, is told in words of its causes.
fn failed(status: Status) -> Error {
    if std::error::Error::source(&status).is_none() {
        return Error::Status(Box::new(status));
    }
    let code = match status.code() {
        Code::Unknown => Code::Unavailable,
        code => code,
    };
    let text = format!(
        "error invoking app channel: {}",
        transport::describe(&status)
    );
    Error::Status(Box::new(Status::new(code, text)))
}
