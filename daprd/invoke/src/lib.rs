//! Service invocation: who is meant, where it listens, whether the call is allowed, and the call itself, streamed both ways
//! over mTLS between sidecars. Contract 2.3, 10.3.

pub mod access_control;
mod answer;
mod callee;
mod endpoints;
mod error;
mod headers;
mod invocation;
mod message;
mod method;
mod metrics;
mod proxy;
mod remote;
mod replay;
mod target;

use std::sync::Arc;

use app_channel::AppChannel;
use arc_swap::{ArcSwap, ArcSwapOption};
use component::{Body, NameResolver};
use http::{Request, Response};
use peers::Pool;
use resiliency::{Policies, Policy};
use telemetry::Meter;

use access_control::AccessControl;
use endpoints::Endpoints;
use headers::CallerHeaders;
use invocation::{Asked, Invocation};
use metrics::Metrics;
use target::Target;

pub use answer::http_status;
pub use callee::{Internal, reflection};
pub use error::Error;
pub use message::Reply;
pub use method::{Escapes, MethodPath};

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
    /// What becomes of the escapes in the paths that apps are invoked by over HTTP.
    pub escapes: Escapes,
    pub meter: Meter,
    /// Largest message between sidecars, in bytes.
    pub max_message: usize,
}

/// The caller's side. Clones share it.
#[derive(Clone)]
pub struct Invoker(Arc<Inner>);

struct Inner {
    options: Options,
    own: CallerHeaders,
    /// Empty until they are loaded, which is once the secrets that they name can be read.
    endpoints: ArcSwap<Endpoints>,
    metrics: Metrics,
}

impl Invoker {
    pub fn new(options: Options) -> Self {
        let own = CallerHeaders::new(
            &options.app_id,
            &options.namespace,
            &options.host_address,
            &options.host_name,
        );
        Self(Arc::new(Inner {
            endpoints: ArcSwap::default(),
            metrics: Metrics::new(&options.meter),
            own,
            options,
        }))
    }

    /// Takes the HTTPEndpoint resources, whose secrets are in place. One that cannot be used is left out, and the log names
    /// it and the field.
    pub fn load_http_endpoints(&self, resources: &[crds::HttpEndpoint]) {
        let (endpoints, problems) = Endpoints::load(resources);
        for problem in problems {
            tracing::error!("not loaded: {problem}");
        }
        self.0.endpoints.store(Arc::new(endpoints));
    }

    /// Names of the HTTPEndpoint resources.
    pub fn http_endpoints(&self) -> Vec<String> {
        self.0.endpoints.load().names()
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
        let callee = Target::parse(target, &inner.options.namespace, &inner.endpoints.load())?;
        let path = match &callee {
            Target::App { .. } => MethodPath::from_url(method, inner.options.escapes)?,
            Target::Url { .. } => MethodPath::default(),
        };
        transport::remove_hop_by_hop(request.headers_mut());
        let response = self
            .invoke(target, &callee, &path, method, request, Asked::ByHttp)
            .await?;
        let mut response = answer::for_http_caller(response);
        transport::remove_hop_by_hop(response.headers_mut());
        Ok(response)
    }

    /// Invokes under the policy of the target; `written` is what the caller calls it.
    async fn invoke(
        &self,
        written: &str,
        target: &Target,
        method: &MethodPath,
        escaped: &str,
        mut request: Request<Body>,
        asked: Asked,
    ) -> Result<Response<Body>, Error> {
        let inner = &self.0;
        if target.is_app() {
            let headers = request.headers_mut();
            inner.own.identify(headers, target.app_id());
            if !self.is_own(target) {
                inner.own.forward(headers);
            }
            let trace = request.extensions().get::<telemetry::trace::TraceContext>();
            if let Some(trace) = trace.cloned() {
                trace.inject(request.headers_mut());
            }
        }
        let endpoint = match target {
            Target::App { .. } => method.as_str().to_owned(),
            Target::Url { url, endpoint } => match endpoint {
                Some(_) => url.to_string(),
                None => escaped.to_owned(),
            },
        };
        let policy = self.policy(written, target, &endpoint);
        let (parts, body) = request.into_parts();
        let invocation = Invocation {
            invoker: self,
            target,
            method,
            escaped,
            parts: &parts,
            asked,
        };
        invocation.run(&policy, body).await
    }

    /// The policy of an endpoint of a target, by the name that the caller uses or by the app id alone.
    fn policy(&self, written: &str, target: &Target, endpoint: &str) -> Policy {
        let policies = self.0.options.policies.load();
        let name = match target {
            Target::App { app_id, .. } if !policies.names_app(written) => app_id,
            _ => written,
        };
        policies.app_endpoint(name, &format!("{name}:{endpoint}"))
    }

    /// Calls the own app.
    async fn local(
        &self,
        method: &MethodPath,
        request: Request<Body>,
    ) -> Result<Response<Body>, Error> {
        let app = &self.0.options.app;
        if app.protocol().is_grpc() {
            let (message, metadata) =
                message::from_http(method.as_str(), request, self.0.options.max_message).await?;
            let reply = app.on_invoke(message, metadata).await;
            return answer::of_grpc_app(reply);
        }
        let mut request = method.address(request)?;
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
