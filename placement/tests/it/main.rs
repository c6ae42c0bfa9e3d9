//! The service over a socket, as sidecars see it.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by a panic"
)]

use std::time::Duration;

use placement::{Board, Metrics, Options, Reports};
use proto::placement::v1::placement_client::PlacementClient;
use proto::placement::v1::{Host, HostOperation, PlacementOrder};
use telemetry::{Meter, MetricOptions};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tonic::{Code, Status, Streaming};
use transport::{ChannelOptions, Connector, Listener, ServerOptions};

struct Server {
    board: Board,
    client: PlacementClient<tonic::transport::Channel>,
    registry: prometheus::Registry,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    _stop: DropGuard,
}

fn server(limit: Duration) -> Server {
    let registry = prometheus::Registry::new();
    let metrics = Metrics::new(&Meter::new(&registry, MetricOptions::default()).unwrap());
    let options = Options {
        replication_factor: 100,
        timeout: limit,
        coalesce: Duration::ZERO,
    };
    let (board, task) = Board::new(
        options,
        tokio::sync::watch::channel(placement::Leads::First).1,
        metrics,
    );
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let uri: http::Uri = format!("http://{}", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let shutdown = CancellationToken::new();
    let tasks = TaskTracker::new();
    tasks.spawn(task.run(shutdown.clone()));
    let service = Reports::new(board.clone(), false);
    tasks.spawn(transport::serve(
        listener,
        ServerOptions::default(),
        service,
        shutdown.clone(),
    ));
    let channel = transport::channel(uri, Connector::plain(), ChannelOptions::default());
    let client = PlacementClient::new(channel);
    Server {
        board,
        client,
        registry,
        tasks,
        _stop: shutdown.clone().drop_guard(),
        shutdown,
    }
}

struct Sidecar {
    host: Host,
    reports: mpsc::Sender<Host>,
    orders: Streaming<PlacementOrder>,
}

impl Server {
    async fn connect(&self, name: &str, entities: &[&str]) -> Result<Sidecar, Status> {
        let host = Host {
            name: name.into(),
            id: name.into(),
            namespace: "default".into(),
            entities: entities.iter().map(|entity| (*entity).to_owned()).collect(),
            api_level: 20,
            ..Host::default()
        };
        let (reports, receiver) = mpsc::channel(8);
        let mut first = host.clone();
        first.set_operation(HostOperation::Report);
        reports.send(first).await.unwrap();
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let orders = self
            .client
            .clone()
            .report_dapr_status(stream)
            .await?
            .into_inner();
        Ok(Sidecar {
            host,
            reports,
            orders,
        })
    }

    fn gauge(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families
            .iter()
            .find(|family| family.name() == name)
            .unwrap();
        family.get_metric()[0].get_gauge().get_value()
    }
}

impl Sidecar {
    async fn order(&mut self) -> Result<(String, u64), Status> {
        let order = timeout(Duration::from_secs(10), self.orders.message())
            .await
            .unwrap()?;
        let order = order.ok_or_else(|| Status::ok("ended"))?;
        Ok((order.operation, order.version))
    }

    async fn expect(&mut self, operation: &str, version: u64) {
        assert_eq!(self.order().await.unwrap(), (operation.to_owned(), version));
    }

    async fn follow(&mut self, operation: HostOperation, version: u64) {
        let mut host = self.host.clone();
        host.set_operation(operation);
        host.version = Some(version);
        self.reports.send(host).await.unwrap();
    }

    async fn round(&mut self, version: u64) {
        let steps = [
            ("lock", HostOperation::Lock),
            ("update", HostOperation::Update),
            ("unlock", HostOperation::Unlock),
        ];
        for (order, answer) in steps {
            self.expect(order, version).await;
            self.follow(answer, version).await;
        }
    }
}

#[tokio::test]
async fn rounds_state_and_metrics() {
    let server = server(Duration::from_secs(10));
    let mut a = server.connect("a", &["cat"]).await.unwrap();
    a.round(1).await;
    let mut b = server.connect("b", &["cat"]).await.unwrap();
    tokio::join!(a.round(2), b.round(2));
    let mut idle = server.connect("idle", &[]).await.unwrap();
    for operation in ["lock", "update", "unlock"] {
        idle.expect(operation, 2).await;
    }
    assert_eq!(server.gauge("dapr_placement_runtimes_total"), 3.0);
    assert_eq!(server.gauge("dapr_placement_actor_runtimes_total"), 2.0);
    let state = serde_json::to_value(server.board.state().await.unwrap()).unwrap();
    let table = &state["tables"]["default"];
    assert_eq!(table["version"], 2);
    assert_eq!(table["hosts"][0]["name"], "a");
    assert_eq!(table["hosts"][1]["entities"][0], "cat");
    assert_eq!(table["hosts"][1]["api_level"], 20);
    drop(b);
    a.expect("lock", 3).await;
    assert_eq!(server.gauge("dapr_placement_runtimes_total"), 2.0);
}

#[tokio::test]
async fn closing_one_side_is_leaving() {
    let server = server(Duration::from_secs(10));
    let mut a = server.connect("a", &["cat"]).await.unwrap();
    a.round(1).await;
    let b = server.connect("b", &["cat"]).await.unwrap();
    a.expect("lock", 2).await;
    drop(b.reports);
    a.follow(HostOperation::Lock, 2).await;
    a.expect("update", 2).await;
}

#[tokio::test]
async fn the_slow_get_deadline_exceeded() {
    let server = server(Duration::from_millis(200));
    let mut a = server.connect("a", &["cat"]).await.unwrap();
    a.expect("lock", 1).await;
    let status = a.order().await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(
        status.message(),
        "dissemination timeout after 200ms for version 1"
    );
}

#[tokio::test]
async fn bad_reports_are_refused() {
    let server = server(Duration::from_secs(10));
    let first = server.connect("", &["cat"]).await.err().unwrap();
    assert_eq!(first.code(), Code::InvalidArgument);
    let mut a = server.connect("a", &["cat"]).await.unwrap();
    a.expect("lock", 1).await;
    a.host.namespace = "other".into();
    a.follow(HostOperation::Lock, 1).await;
    assert_eq!(a.order().await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn hosts_of_too_many_types_are_refused_and_the_service_goes_on() {
    let server = server(Duration::from_secs(10));
    let types: Vec<String> = (0..10_000).map(|number| format!("t{number}")).collect();
    let types: Vec<&str> = types.iter().map(String::as_str).collect();
    for _ in 0..3 {
        let status = server.connect("many", &types).await.err().unwrap();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "10000 entities are more than 1000");
    }
    let families = server.registry.gather();
    let refused = families
        .iter()
        .find(|family| family.name() == "dapr_placement_refused_reports_total")
        .unwrap();
    assert_eq!(refused.get_metric()[0].get_counter().get_value(), 3.0);
    server.connect("a", &["cat"]).await.unwrap().round(1).await;
}

/// Follows all orders until the table of a round has as many hosts, and that round is over.
async fn until_hosts(mut sidecar: Sidecar, hosts: usize) -> Sidecar {
    let mut seen = 0;
    loop {
        let order = sidecar.orders.message().await.unwrap().unwrap();
        if let Some(tables) = &order.tables {
            seen = tables.entries["cat"].load_map.len();
        }
        let operation = match &*order.operation {
            "lock" => HostOperation::Lock,
            "update" => HostOperation::Update,
            _ => HostOperation::Unlock,
        };
        sidecar.follow(operation, order.version).await;
        if operation == HostOperation::Unlock && seen == hosts {
            return sidecar;
        }
    }
}

#[tokio::test]
async fn two_hundred_hosts_settle_in_less_than_two_seconds() {
    const HOSTS: usize = 200;
    let server = server(Duration::from_secs(10));
    let began = std::time::Instant::now();
    let sidecars = (0..HOSTS).map(|number| {
        let name = format!("h{number}");
        let server = &server;
        async move { until_hosts(server.connect(&name, &["cat"]).await.unwrap(), HOSTS).await }
    });
    // Kept, as who goes is a change.
    let settled = timeout(Duration::from_secs(60), futures::future::join_all(sidecars));
    assert_eq!(settled.await.unwrap().len(), HOSTS);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn shutdown_ends_streams() {
    let server = server(Duration::from_secs(10));
    let mut a = server.connect("a", &["cat"]).await.unwrap();
    a.expect("lock", 1).await;
    server.shutdown.cancel();
    assert_eq!(a.order().await.unwrap_err().code(), Code::Unavailable);
    server.tasks.close();
    timeout(Duration::from_secs(3), server.tasks.wait())
        .await
        .unwrap();
    assert_eq!(
        server.connect("b", &[]).await.err().unwrap().code(),
        Code::Unavailable
    );
}
