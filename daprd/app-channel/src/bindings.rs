//! Input bindings: which of them the app takes, and their events.

use ::http::{HeaderMap, HeaderValue, Method, Response, header};
use bytes::Bytes;
use proto::runtime::v1::{BindingEventRequest, BindingEventResponse};
use tonic::Code;

use crate::{AppChannel, Error};

impl AppChannel {
    /// Whether an HTTP app takes the events of a binding at this path: it answers OPTIONS there, or says that it has no such
    /// method (contract 2.4).
    ///
    /// # Errors
    /// As [`AppChannel::exchange`].
    pub async fn takes_binding(&self, path: &str) -> Result<bool, Error> {
        let content_type = HeaderValue::from_static("application/json");
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, content_type)]);
        let answer = self.exchange(Method::OPTIONS, path, headers, Bytes::new());
        let status = answer.await?.status();
        Ok(status.is_success() || status == ::http::StatusCode::METHOD_NOT_ALLOWED)
    }

    /// The bindings whose events a gRPC app takes; none where it does not know the question.
    ///
    /// # Errors
    /// Where the app cannot be reached.
    pub async fn input_bindings(&self) -> Result<Vec<String>, Error> {
        match self.list_input_bindings().await {
            Ok(answer) => Ok(answer.bindings),
            Err(status) if status.code() == Code::Unimplemented => Ok(Vec::new()),
            Err(status) => Err(Error::Status(Box::new(status))),
        }
    }

    /// Delivers an event to an HTTP app.
    ///
    /// # Errors
    /// As [`AppChannel::exchange`].
    pub async fn binding_event_http(
        &self,
        path: &str,
        data: Bytes,
        mut headers: HeaderMap,
    ) -> Result<Response<Bytes>, Error> {
        if data.is_empty() {
            // Some frameworks refuse a POST that says nothing of its length, and the client says nothing of none.
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        self.exchange(Method::POST, path, headers, data).await
    }

    /// Delivers an event to a gRPC app.
    ///
    /// # Errors
    /// As [`AppChannel::on_invoke`].
    pub async fn binding_event_grpc(
        &self,
        request: BindingEventRequest,
        metadata: HeaderMap,
    ) -> Result<BindingEventResponse, Error> {
        self.on_binding_event(request, metadata).await
    }
}
