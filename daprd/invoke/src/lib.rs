//! Service invocation: who is meant, where it listens, whether the call is allowed, and the call itself, streamed both ways
//! over mTLS between sidecars. Contract 2.3, 10.3.

pub mod access_control;
mod answer;
mod callee;
mod endpoints;
mod headers;
mod message;
mod method;
mod metrics;
mod proxy;
mod remote;
mod target;

use std::sync::Arc;

use app_channel::AppChannel;
use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use component::{Body, NameResolver, body};
use http::{Request, Response, request::Parts};
use http_body::Body as _;
use peers::Pool;
use resiliency::{Builtin, Outcome, Policies, policy};
use telemetry::Meter;
use tonic::{Code, Status};

use access_control::AccessControl;
use endpoints::Endpoints;
use headers::Own;
use metrics::Metrics;
use target::Target;

pub use answer::DOMAIN;
pub use callee::{Internal, reflection};
pub use message::Reply;

/// Bodies of a known length up to this many bytes are kept, so that a call can be tried again.
const MAX_REPLAY: u64 = 64 << 10;

/// The same where the platform has asked for retries of this app.
const MAX_POLICY_REPLAY: u64 = 4 << 20;

/// Why an invocation failed. Callers see the texts.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The target is no app id.
    #[error("invalid app id {0}")]
    Target(String),
    /// The method holds what no path may hold.
    #[error("rpc error: code = InvalidArgument desc = invalid method: {0}")]
    Method(String),
    /// The message lacks what an HTTP app has to be told.
    #[error("rpc error: code = InvalidArgument desc = {0}")]
    Message(&'static str),
    /// Nobody knows where the app listens.
    #[error("{0}")]
    Resolve(String),
    /// The other sidecar cannot be reached, or refused the identity.
    #[error("failed to invoke target {app_id}: {problem}")]
    Unreachable { app_id: String, problem: String },
    /// The callee's access list says no.
    #[error("{message}")]
    Denied { message: String },
    /// The request's or answer's body broke off, or is too large for a message.
    #[error("{0}")]
    Body(String),
    /// A resiliency policy ended the call.
    #[error("{0}")]
    Policy(String),
    /// The own app.
    #[error(transparent)]
    App(#[from] app_channel::Error),
    /// What the other sidecar answered; never what an app did.
    #[error("rpc error: code = {} desc = {}", component::error::code_name(.0.code() as i32), .0.message())]
    Status(Box<Status>),
}

impl Error {
    /// The gRPC code that says the same.
    pub fn code(&self) -> Code {
        match self {
            Self::Target(_) | Self::Method(_) | Self::Message(_) => Code::InvalidArgument,
            Self::Denied { .. } => Code::PermissionDenied,
            Self::Unreachable { .. } => Code::Unavailable,
            Self::Status(status) => status.code(),
            Self::App(app_channel::Error::Status(status)) => status.code(),
            _ => Code::Internal,
        }
    }

    /// The same as a status; what an app or sidecar answered passes through as it is.
    pub fn into_status(self) -> Status {
        match self {
            Self::Status(status) | Self::App(app_channel::Error::Status(status)) => *status,
            other => Status::new(other.code(), other.to_string()),
        }
    }

    fn from_status(app_id: &str, status: Status) -> Self {
        let broke = std::error::Error::source(&status).is_some();
        match status.code() {
            Code::PermissionDenied => Self::Denied {
                message: format!(
                    "rpc error: code = PermissionDenied desc = {}",
                    status.message()
                ),
            },
            // The client reports a line that broke before any answer as a status with its cause.
            Code::Unavailable | Code::Unknown if broke => {
                Self::unreachable(app_id, transport::describe(&status))
            }
            Code::Unavailable => Self::unreachable(app_id, status.message().to_owned()),
            _ => Self::Status(Box::new(status)),
        }
    }

    fn unreachable(app_id: &str, problem: String) -> Self {
        Self::Unreachable {
            app_id: app_id.to_owned(),
            problem,
        }
    }

    fn is_transport(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

impl From<body::ReadError> for Error {
    fn from(error: body::ReadError) -> Self {
        Self::Body(error.to_string())
    }
}

/// What invocation is made of.
pub struct Options {
    pub app_id: String,
    pub namespace: String,
    /// Address that other sidecars see; part of the forwarded headers.
    pub host_address: String,
    pub host_name: String,
    /// Internal gRPC port: what a resolver assumes of others.
    pub internal_port: u16,
    /// Name resolution; nothing where it failed to start.
    pub resolver: Arc<ArcSwapOption<Arc<dyn NameResolver>>>,
    pub peers: Pool,
    pub app: AppChannel,
    pub policies: Arc<ArcSwap<Policies>>,
    pub access_control: AccessControl,
    pub http_endpoints: Vec<crds::HttpEndpoint>,
    pub meter: Meter,
    /// Largest message between sidecars, in bytes.
    pub max_message: usize,
}

/// The caller's side. Clones share it.
#[derive(Clone)]
pub struct Invoker(Arc<Inner>);

struct Inner {
    options: Options,
    own: Own,
    endpoints: Endpoints,
    metrics: Metrics,
}

/// What one attempt came to: an answer that a policy may count as a failure, or no answer.
enum Failure<A> {
    Answer(Box<A>),
    Error(Error),
}

/// The outcome of all attempts: a failed answer is an answer all the same.
fn settle<A>(outcome: Result<A, policy::Error<Failure<A>>>) -> Result<A, Error> {
    match outcome {
        Ok(answer) => Ok(answer),
        Err(policy::Error::Inner(Failure::Answer(answer))) => Ok(*answer),
        Err(policy::Error::Inner(Failure::Error(error))) => Err(error),
        Err(other) => Err(Error::Policy(other.map(|_| Unseen).to_string())),
    }
}

/// Stands for a failure that was matched away before: a policy's own errors are left to print.
#[derive(Debug, thiserror::Error)]
#[error("the call failed")]
struct Unseen;

impl Invoker {
    /// # Errors
    /// Where an HTTPEndpoint cannot be used; names it and the field.
    pub fn new(options: Options) -> Result<Self, endpoints::Error> {
        let own = Own::new(
            &options.app_id,
            &options.namespace,
            &options.host_address,
            &options.host_name,
        );
        Ok(Self(Arc::new(Inner {
            endpoints: Endpoints::new(&options.http_endpoints)?,
            metrics: Metrics::new(&options.meter),
            own,
            options,
        })))
    }

    /// Names of the HTTPEndpoint resources.
    pub fn http_endpoints(&self) -> Vec<String> {
        self.0.endpoints.names()
    }

    /// The server that other sidecars call.
    pub fn internal(&self) -> Internal {
        Internal::new(self.clone())
    }

    /// Invokes over HTTP. `method` is the escaped path at the callee; the query stays in the request.
    ///
    /// # Errors
    /// Where nobody answered; an answer of the app, whatever its status, is no error.
    pub async fn http(
        &self,
        target: &str,
        method: &str,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Error> {
        let inner = &self.0;
        let target = Target::parse(target, &inner.options.namespace, &inner.endpoints)?;
        headers::remove_hop_by_hop(request.headers_mut());
        if let Target::Url { url, endpoint } = &target {
            let answer = inner
                .endpoints
                .call(url, endpoint.as_deref(), method, request);
            let mut response = answer.await?;
            headers::remove_hop_by_hop(response.headers_mut());
            return Ok(response);
        }
        let method = method::normalise(method)?;
        inner.own.identify(request.headers_mut(), target.app_id());
        if !self.is_own(&target) {
            inner.own.forward(request.headers_mut());
        }
        let policies = inner.options.policies.load_full();
        let named = policies.names_app(target.app_id());
        let policy = if named {
            policies.app(target.app_id())
        } else {
            policies.builtin(Builtin::ServiceRetries)
        };
        let (parts, body) = request.into_parts();
        let limit = if named && policy.has_retries() {
            MAX_POLICY_REPLAY
        } else {
            MAX_REPLAY
        };
        let outcome = match replayable(body, limit).await? {
            Replay::Kept(bytes) => {
                let attempt =
                    |_| self.attempt(&target, &method, &parts, body::full(bytes.clone()), named);
                policy.run(attempt, classify).await
            }
            Replay::Once(body) => {
                let mut body = Some(body);
                let attempt = |_| {
                    let body = body.take().unwrap_or_else(body::empty);
                    self.attempt(&target, &method, &parts, body, named)
                };
                policy
                    .run(attempt, |_: &Failure<_>| Outcome::Permanent)
                    .await
            }
        };
        let mut response = answer::for_http_caller(settle(outcome)?);
        headers::remove_hop_by_hop(response.headers_mut());
        Ok(response)
    }

    /// One attempt. Under a policy of the platform an answer that is no success counts as a failure.
    async fn attempt(
        &self,
        target: &Target,
        method: &str,
        parts: &Parts,
        body: Body,
        judged: bool,
    ) -> Result<Response<Body>, Failure<Response<Body>>> {
        let mut request = Request::new(body);
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = parts.uri.clone();
        *request.headers_mut() = parts.headers.clone();
        if let Some(trace) = parts.extensions.get::<telemetry::trace::TraceContext>() {
            trace.inject(request.headers_mut());
        }
        let answer = if self.is_own(target) {
            self.local(method, request).await
        } else {
            self.remote(target, method, request).await
        };
        match answer {
            Ok(response) if judged && !is_success(response.status()) => {
                Err(Failure::Answer(Box::new(response)))
            }
            Ok(response) => Ok(response),
            Err(error) => Err(Failure::Error(error)),
        }
    }

    /// Calls the own app.
    async fn local(&self, method: &str, request: Request<Body>) -> Result<Response<Body>, Error> {
        let app = &self.0.options.app;
        if app.protocol().is_grpc() {
            let (message, metadata) =
                message::from_http(method, request, self.0.options.max_message).await?;
            let reply = app.on_invoke(message, metadata).await;
            return answer::of_grpc_app(reply);
        }
        let mut request = method::address(method, request)?;
        headers::remove_binary(request.headers_mut());
        Ok(app.send(request).await?)
    }

    fn is_own(&self, target: &Target) -> bool {
        let options = &self.0.options;
        target.app_id() == options.app_id && target.namespace() == options.namespace
    }

    /// Where the app's sidecar listens.
    async fn resolve(&self, target: &Target) -> Result<String, Error> {
        let options = &self.0.options;
        let resolver = options
            .resolver
            .load_full()
            .ok_or_else(|| Error::Resolve("name resolver not initialized".to_owned()))?;
        let asked = component::names::Target {
            app_id: target.app_id().to_owned(),
            namespace: target.namespace().to_owned(),
            port: options.internal_port,
        };
        resolver
            .resolve(&asked)
            .await
            .map_err(|error| Error::Resolve(component::error::chain(&error)))
    }

    /// The sidecar of a target, ready to be called.
    async fn peer(&self, target: &Target) -> Result<peers::Peer, Error> {
        let address = self.resolve(target).await?;
        let peers = &self.0.options.peers;
        peers
            .peer(&address, target.app_id(), target.namespace())
            .map_err(|error| Error::unreachable(target.app_id(), error.to_string()))
    }
}

fn is_success(status: http::StatusCode) -> bool {
    status.is_success() || status.is_redirection()
}

/// Answers are judged by their status, which the policy may match; a broken line is always worth another try.
fn classify(failure: &Failure<Response<Body>>) -> Outcome {
    match failure {
        Failure::Answer(response) => Outcome::Http(response.status().as_u16()),
        Failure::Error(error) if error.is_transport() => Outcome::Retryable,
        Failure::Error(_) => Outcome::Permanent,
    }
}

/// A body for one or for many attempts.
enum Replay {
    Kept(Bytes),
    Once(Body),
}

/// Keeps a body that is known to be small; everything else streams.
async fn replayable(body: Body, limit: u64) -> Result<Replay, Error> {
    match body.size_hint().exact() {
        Some(0) => Ok(Replay::Kept(Bytes::new())),
        Some(length) if length <= limit => Ok(Replay::Kept(body::read(body, usize::MAX).await?)),
        _ => Ok(Replay::Once(body)),
    }
}
