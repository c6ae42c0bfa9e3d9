//! The engine between a broker and an app, both in this process.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod app;
mod batches;
mod bus;
mod delivery;
mod independence;
mod outbox;
mod publish;
mod reload;
mod store;
mod stream;

use std::{future::Future, sync::Arc, time::Duration};

use app_channel::{AppChannel, Protocol};
use arc_swap::ArcSwap;
use blocks::{Declared, Intake, Owner, state};
use component::{
    Catalog, Instance, Lent, Metadata,
    pubsub::{Backoff, Redelivery},
};
use component_conformance::Tasks;
use pubsub::{Engine, Options};
use resiliency::Policies;
use telemetry::{
    GrpcMetrics, HttpMetrics, Meter, MetricOptions, http_metrics::HttpOptions, trace::Tracer,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use app::App;
use bus::Bus;
use store::Absence;

/// An engine with its app and its scripted broker `bus`.
struct World {
    engine: Engine,
    state: state::Stores,
    /// Of stores of the type `state.absent`.
    absence: Absence,
    app: App,
    bus: Bus,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl World {
    /// The app subscribes as `subscriptions` (JSON of `/dapr/subscribe`) says.
    async fn new(subscriptions: &str) -> Self {
        Self::with(subscriptions, &[], &[]).await
    }

    /// The same, where messages are delivered again in this way.
    async fn over(redelivery: Redelivery, subscriptions: &str) -> Self {
        let bus = Bus::default();
        bus.redelivers(redelivery);
        Self::on(bus, subscriptions, &[], &[]).await
    }

    async fn with(
        subscriptions: &str,
        metadata: &[(&str, &str)],
        resiliency: &[crds::Resiliency],
    ) -> Self {
        Self::on(Bus::default(), subscriptions, metadata, resiliency).await
    }

    async fn on(
        bus: Bus,
        subscriptions: &str,
        metadata: &[(&str, &str)],
        resiliency: &[crds::Resiliency],
    ) -> Self {
        let tasks = TaskTracker::new();
        let shutdown = CancellationToken::new();
        let app = App::start(subscriptions, &tasks, shutdown.clone());
        let mut catalog = Catalog::default();
        bus.register(&mut catalog);
        let absence = Absence::default();
        absence.register(&mut catalog);
        component_builtin::register(&mut catalog).unwrap();
        let meter = Meter::new(&prometheus::Registry::new(), MetricOptions::default()).unwrap();
        let (channel, probe) = AppChannel::new(app_channel::Options {
            app_id: "app".into(),
            port: Some(app.port),
            address: "127.0.0.1".into(),
            protocol: Protocol::Http,
            token: None,
            max_concurrency: None,
            pipeline: Arc::default(),
            max_message: 4 << 20,
            health: None,
            http_metrics: HttpMetrics::new(&meter, &HttpOptions::default()).unwrap(),
            grpc_metrics: GrpcMetrics::new(&meter),
        });
        tasks.spawn(probe.run(CancellationToken::new(), shutdown.clone()));
        let policies = Policies::compile(resiliency, meter.clone()).unwrap();
        let registry = blocks::registry::Options {
            catalog: Arc::new(catalog),
            namespace: "ns".into(),
            policies: Arc::new(ArcSwap::new(policies)),
            meter,
        };
        let state = state::Stores::new(registry.clone(), "app".into(), false);
        let (engine, run) = Engine::new(Options {
            registry,
            app_id: "app".into(),
            tracer: Tracer::disabled(),
            app: channel.clone(),
            state: state.clone(),
            spawn: Arc::new(Tasks::default()),
        });
        tasks.spawn(run.run(shutdown.clone()));
        engine
            .apply(declared("bus", "pubsub.scripted", metadata))
            .await
            .unwrap();
        channel.health().wait_for(|healthy| *healthy).await.unwrap();
        engine.start().await;
        Self {
            engine,
            state,
            absence,
            app,
            bus,
            shutdown,
            tasks,
        }
    }

    async fn end(self) {
        self.shutdown.cancel();
        self.tasks.close();
        soon(self.tasks.wait()).await;
    }
}

fn declared(name: &str, component_type: &str, metadata: &[(&str, &str)]) -> Declared {
    Declared {
        name: name.into(),
        component_type: component_type.into(),
        version: "v1".into(),
        metadata: metadata.iter().copied().collect::<Metadata>(),
        names_namespace: metadata
            .iter()
            .any(|(_, value)| values::template::names_namespace(value)),
        init_timeout: Duration::from_secs(5),
        instance: Arc::new(Instance::default()),
        tasks: Arc::new(Tasks::default()),
        lent: Lent::default(),
    }
}

/// Fails a test that waits for what never comes.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), what)
        .await
        .expect("this should have happened by now")
}

/// All ways in which messages are delivered again. In place it happens soon.
const REDELIVERIES: [Redelivery; 4] = [
    Redelivery::Never,
    Redelivery::Reject,
    Redelivery::Broker(Backoff::NONE),
    Redelivery::InPlace(Backoff::constant(Duration::from_millis(1))),
];

/// Longest wait for what must not come.
const SILENCE: Duration = Duration::from_millis(200);
