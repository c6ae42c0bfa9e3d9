//! gRPC proxying: methods that Dapr does not know go to the app that the metadata name, unread and streamed.

mod measured;

use component::{Body, body};
use futures::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, request::Parts};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use resiliency::{Call, Outcome};
use tonic::{Code, Status};
use transport::Peer;

use measured::Sent;

use crate::{
    Error, Invoker, access_control, headers,
    invocation::{Failure, MAX_POLICY_REPLAY, settle},
    method::MethodPath,
    replay::Replay,
    target::Target,
};

const APP_ID: HeaderName = HeaderName::from_static("dapr-app-id");

/// Says that a call is a stream, of which nothing is kept.
const STREAM: HeaderName = HeaderName::from_static("dapr-stream");

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
        let target = Target::parse(&named, &inner.options.namespace, &inner.endpoints.load())?;
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
            let sent = Sent::new(self, target.app_id(), is_stream(request.headers()));
            return match inner.options.app.pass(request).await {
                Ok(response) => Ok(sent.answered(response)),
                Err(error) => {
                    sent.failed();
                    Err(error.into())
                }
            };
        }
        let policy = self.policy(&named, &target, request.uri().path());
        // Nobody knows whether an unknown method streams unless the caller says so. Of a stream, only its beginning is
        // under the policy. Q-proxy-policy
        let judged = policy.judges_answers() && !is_stream(request.headers());
        let (parts, body) = request.into_parts();
        let limit = if judged { MAX_POLICY_REPLAY } else { 0 };
        let (replay, first) = Replay::new(body, limit);
        let attempt = |body| Box::pin(self.proxy_once(&target, &parts, body, judged));
        let call = Call::new(attempt(first), |_| replay.again().map(attempt));
        let classify = |failure: &Failure| match failure.outcome(&target, &replay) {
            // The built-in retries are not for what is passed on.
            Outcome::Unreached => Outcome::Retryable,
            outcome => outcome,
        };
        settle(policy.run(call, classify).await, &replay)
    }

    async fn proxy_once(
        &self,
        target: &Target,
        parts: &Parts,
        body: Body,
        judged: bool,
    ) -> Result<Response<Body>, Failure> {
        let peer = self.peer(target).await.map_err(|error| {
            Failure::Error(match error {
                Error::Resolve(problem) => Error::Status(Box::new(Status::unknown(problem))),
                other => other,
            })
        })?;
        let request = Request::from_parts(parts.clone(), tonic::body::Body::new(body));
        let sent = Sent::new(self, target.app_id(), is_stream(&parts.headers));
        let response = match peer.pass(request).await {
            Ok(response) => sent.answered(response.map(body::streamed)),
            Err(error) => {
                sent.failed();
                let problem = transport::describe(&error);
                let error = Error::unreachable(target.app_id(), problem);
                return Err(Failure::Error(error));
            }
        };
        if !judged {
            return Ok(response);
        }
        let (response, code) = peek(response).await;
        match code {
            None | Some(0) => Ok(response),
            Some(code) => Err(Failure::Answer(Box::new(response), Outcome::Grpc(code))),
        }
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
        let method = MethodPath::from_grpc(request.uri());
        if let Err(status) = self.authorize(id.as_ref(), &method, access_control::Call::Grpc) {
            return status.into_http();
        }
        request.headers_mut().remove(APP_ID);
        if let Some(id) = &id {
            headers::name_caller(request.headers_mut(), id);
        }
        match self.0.options.app.pass(request).await {
            Ok(response) => response.map(tonic::body::Body::new),
            Err(error) => Error::from(error).into_status().into_http(),
        }
    }
}

/// Waits for the first message of an answer, or for the status of one that has none.
async fn peek(response: Response<Body>) -> (Response<Body>, Option<i32>) {
    if let Some(code) = grpc_status(response.headers()) {
        return (response, Some(code));
    }
    let (parts, mut body) = response.into_parts();
    let first = body.frame().await;
    let code = match &first {
        Some(Ok(frame)) => frame
            .trailers_ref()
            .map(|trailers| grpc_status(trailers).unwrap_or(Code::Unknown as i32)),
        Some(Err(_)) => Some(Code::Unavailable as i32),
        None => Some(Code::Unknown as i32),
    };
    let frames = stream::iter(first).chain(BodyStream::new(body));
    let body = body::streamed(StreamBody::new(frames));
    (Response::from_parts(parts, body), code)
}

fn grpc_status(headers: &HeaderMap) -> Option<i32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// Whether the caller says that the call is a stream.
fn is_stream(metadata: &HeaderMap) -> bool {
    let value = metadata.get(STREAM).and_then(|value| value.to_str().ok());
    value.is_some_and(values::is_truthy)
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
