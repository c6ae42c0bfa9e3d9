//! A caller and a callee with an app behind it, over real sockets.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod app;
mod bodies;
mod health;
mod policies;

use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

use app_channel::{AppChannel, HealthOptions, Protocol};
use arc_swap::{ArcSwap, ArcSwapOption};
use async_trait::async_trait;
use component::{Body, NameResolver, names::Target};
use http::{Request, Response};
use invoke::{Error, Invoker, Options, access_control::AccessControl};
use peers::Pool;
use resiliency::Policies;
use security::Security;
use telemetry::{GrpcMetrics, HttpMetrics, Meter, MetricOptions, http_metrics::HttpOptions};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use transport::{Listener, ServerOptions};

use app::App;

/// The largest message between the sidecars here.
const MAX_MESSAGE: usize = 1 << 20;

/// Finds every app at one address.
struct Fixed(String);

impl component::Component for Fixed {}

#[async_trait]
impl NameResolver for Fixed {
    async fn resolve(&self, _: &Target) -> component::Result<String> {
        Ok(self.0.clone())
    }
}

/// How the two sidecars are set up.
struct Setup {
    protocol: Protocol,
    resiliency: serde_json::Value,
    max_concurrency: Option<usize>,
    health: Option<HealthOptions>,
}

impl Setup {
    fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            resiliency: serde_json::json!({}),
            max_concurrency: None,
            health: None,
        }
    }
}

/// The metrics of one sidecar.
struct Metrics {
    registry: prometheus::Registry,
    meter: Meter,
}

impl Metrics {
    fn new() -> Self {
        let registry = prometheus::Registry::new();
        let meter = Meter::new(&registry, MetricOptions::default()).unwrap();
        Self { registry, meter }
    }

    /// The sum of a metric's series, if it was written.
    fn sum(&self, name: &str) -> Option<f64> {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name)?;
        let series = family.get_metric().iter();
        Some(series.map(|it| it.get_counter().get_value()).sum())
    }
}

struct World {
    caller: Invoker,
    app: App,
    channel: AppChannel,
    callee_metrics: Metrics,
    caller_metrics: Metrics,
    shutdown: CancellationToken,
    _tasks: TaskTracker,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl World {
    async fn new(setup: Setup) -> Self {
        let tasks = TaskTracker::new();
        let shutdown = CancellationToken::new();
        let app = App::start(&tasks, shutdown.clone());
        let (callee_metrics, caller_metrics) = (Metrics::new(), Metrics::new());
        let (channel, probe) = channel(&setup, Some(app.port), &callee_metrics);
        tasks.spawn(probe.run(CancellationToken::new(), shutdown.clone()));
        let mut health = channel.health();
        soon(health.wait_for(|healthy| *healthy)).await.unwrap();
        let callee = invoker("callee", channel.clone(), None, &setup, &callee_metrics);
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let internal = callee.internal();
        let service = tower::service_fn(move |request: Request<transport::RequestBody>| {
            let answer = internal.clone().handle(request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let stop = shutdown.clone();
        tasks.spawn(async move {
            transport::serve(listener, ServerOptions::default(), service, stop).await;
        });
        let (no_app, _) = channel_without_app(&caller_metrics);
        let caller = invoker("caller", no_app, Some(address), &setup, &caller_metrics);
        Self {
            caller,
            app,
            channel,
            callee_metrics,
            caller_metrics,
            shutdown,
            _tasks: tasks,
        }
    }

    async fn call(&self, method: &str, body: Body) -> Result<Response<Body>, Error> {
        let request = Request::post("/").body(body).unwrap();
        soon(self.caller.http("callee", method, request)).await
    }

    /// A gRPC call of a method that sidecars do not know.
    async fn proxy(
        &self,
        method: &str,
        metadata: &[(&'static str, &'static str)],
        body: Body,
    ) -> Response<tonic::body::Body> {
        let mut request = Request::post(format!("/test.Service/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("dapr-app-id", "callee");
        for (name, value) in metadata {
            request = request.header(*name, *value);
        }
        soon(self.caller.proxy(request.body(body).unwrap())).await
    }
}

fn channel_without_app(metrics: &Metrics) -> (AppChannel, app_channel::Probe) {
    channel(&Setup::new(Protocol::Http), None, metrics)
}

fn channel(
    setup: &Setup,
    port: Option<u16>,
    metrics: &Metrics,
) -> (AppChannel, app_channel::Probe) {
    AppChannel::new(app_channel::Options {
        app_id: "callee".into(),
        port,
        address: "127.0.0.1".into(),
        protocol: setup.protocol,
        token: None,
        max_concurrency: setup.max_concurrency,
        pipeline: Arc::default(),
        max_message: MAX_MESSAGE,
        health: setup.health.clone(),
        http_metrics: HttpMetrics::new(&metrics.meter, &HttpOptions::default()).unwrap(),
        grpc_metrics: GrpcMetrics::new(&metrics.meter),
    })
}

fn invoker(
    app_id: &str,
    app: AppChannel,
    address: Option<String>,
    setup: &Setup,
    metrics: &Metrics,
) -> Invoker {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    let meter = metrics.meter.clone();
    let mut resource: crds::Resiliency =
        serde_json::from_value(serde_json::json!({ "spec": setup.resiliency })).unwrap();
    resource.metadata.name = Some("test".to_owned());
    let policies = Policies::compile(&[resource], meter.clone()).unwrap();
    let resolver: Option<Arc<Arc<dyn NameResolver>>> =
        address.map(|address| Arc::new(Arc::new(Fixed(address)) as Arc<dyn NameResolver>));
    Invoker::new(Options {
        app_id: app_id.to_owned(),
        namespace: "default".into(),
        host_address: String::new(),
        host_name: String::new(),
        internal_port: 0,
        resolver: Arc::new(ArcSwapOption::new(resolver)),
        peers: Pool::new(peers::Options {
            security: without_tls(metrics),
            max_idle: Duration::from_secs(60),
            collect_interval: Duration::from_secs(60),
            max_header_bytes: 64 << 10,
            metrics: GrpcMetrics::new(&meter),
            unreachable: Arc::new(|_| {}),
        }),
        app,
        policies: Arc::new(ArcSwap::new(policies)),
        access_control: AccessControl::default(),
        escapes: invoke::Escapes::Decoded,
        meter,
        max_message: MAX_MESSAGE,
    })
}

fn without_tls(metrics: &Metrics) -> Security {
    let options = security::Options::without_identity("any", &metrics.registry);
    security::new(options).unwrap().0
}

/// Fails where something does not happen within a time that no machine needs.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what)
        .await
        .expect("it takes too long")
}
