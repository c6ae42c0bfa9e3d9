//! gRPC proxying: methods that Dapr does not know go to the app that the metadata name, unread and streamed.

use component::{Body, body};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tonic::Status;
use transport::Peer;

use crate::{Error, Invoker, access_control::Call, headers, target::Target};

const APP_ID: HeaderName = HeaderName::from_static("dapr-app-id");

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
        let Some(named) = named(request.headers()) else {
            let status = Status::unknown(
                "cannot proxy request: missing dapr-callee-app-id or dapr-app-id metadata",
            );
            return Err(Error::Status(Box::new(status)));
        };
        let named = named.to_str().unwrap_or_default().to_owned();
        let target = Target::parse(&named, &inner.options.namespace, &inner.endpoints)?;
        headers::remove_connection(request.headers_mut());
        inner.own.identify(request.headers_mut(), target.app_id());
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
        let peer = match self.peer(&target).await {
            Ok(peer) => peer,
            Err(Error::Resolve(problem)) => {
                return Err(Error::Status(Box::new(Status::unknown(problem))));
            }
            Err(other) => return Err(other),
        };
        let response = peer.pass(request.map(tonic::body::Body::new)).await;
        let response = response
            .map_err(|error| Error::unreachable(target.app_id(), transport::describe(&error)))?;
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

/// The app that metadata name, by the name that sidecars use among themselves first.
fn named(metadata: &HeaderMap) -> Option<&HeaderValue> {
    let by_callee = metadata.get(headers::CALLEE_APP_ID);
    by_callee.or_else(|| metadata.get(APP_ID))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_name_says_who_is_called_and_the_longer_one_first() {
        let mut metadata = HeaderMap::new();
        assert_eq!(named(&metadata), None);
        metadata.insert("dapr-app-id", HeaderValue::from_static("a"));
        assert_eq!(named(&metadata).unwrap(), "a");
        metadata.insert("dapr-callee-app-id", HeaderValue::from_static("b"));
        assert_eq!(named(&metadata).unwrap(), "b");
    }
}
