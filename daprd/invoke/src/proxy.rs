//! gRPC proxying: methods that Dapr does not know go to the app that the metadata name, unread and streamed.

use component::{Body, body};
use http::{Request, Response};
use tonic::Status;
use transport::Peer;

use crate::{Error, Invoker, access_control::Call, headers, target::Target};

const APP_ID: &str = "dapr-app-id";

impl Invoker {
    /// Passes a request of the own app on to the app it names.
    pub async fn proxy(&self, request: Request<Body>) -> Response<tonic::body::Body> {
        match self.proxy_to_target(request).await {
            Ok(response) => response.map(tonic::body::Body::new),
            Err(error) => error.into_status().into_http(),
        }
    }

    async fn proxy_to_target(&self, mut request: Request<Body>) -> Result<Response<Body>, Error> {
        let inner = &self.0;
        let Some(named) = request.headers().get(APP_ID) else {
            let status = Status::invalid_argument(
                "failed to proxy request: required metadata dapr-callee-app-id or dapr-app-id not found",
            );
            return Err(Error::Status(Box::new(status)));
        };
        let named = named.to_str().unwrap_or_default().to_owned();
        let target = Target::parse(&named, &inner.options.namespace, &inner.endpoints)?;
        headers::remove_connection(request.headers_mut());
        inner.own.add(request.headers_mut(), target.app_id());
        if let Some(trace) = request
            .extensions()
            .get::<telemetry::trace::TraceContext>()
            .cloned()
        {
            trace.inject_grpc(request.headers_mut());
        }
        if self.is_own(&target) {
            request.headers_mut().remove(APP_ID);
            return Ok(inner.options.app.pass(request).await?);
        }
        let peer = self.peer(&target).await?;
        let response = peer.pass(request.map(tonic::body::Body::new)).await;
        let response = response.map_err(|error| Error::Unreachable {
            app_id: target.app_id().to_owned(),
            problem: component::error::chain(&error),
        })?;
        Ok(response.map(body::streamed))
    }

    /// Passes a request of another sidecar on to the own app.
    pub(crate) async fn pass_to_app(
        &self,
        mut request: Request<Body>,
    ) -> Response<tonic::body::Body> {
        let id = match request.extensions().get::<Peer>().map(security::peer_id) {
            Some(Ok(id)) => id,
            None => None,
            Some(Err(error)) => {
                return Status::unauthenticated(component::error::chain(&error)).into_http();
            }
        };
        let path = request.uri().path().to_owned();
        if let Err(status) = self.authorize(id.as_ref(), &path, Call::Grpc) {
            return status.into_http();
        }
        request.headers_mut().remove(APP_ID);
        match self.0.options.app.pass(request).await {
            Ok(response) => response.map(tonic::body::Body::new),
            Err(error) => Error::from(error).into_status().into_http(),
        }
    }
}
