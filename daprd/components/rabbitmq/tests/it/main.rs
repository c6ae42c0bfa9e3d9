//! The broker against the suite that every family runs, and what is its own: declarations, restarts of the server, and ways
//! to log in.

mod authority;
mod outage;
mod queues;
mod server;
mod tls;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use component::{
    Catalog, PubSub,
    pubsub::{Deliveries, Delivery, Outcome, PublishRequest, SubscribeRequest},
};
use component_conformance::{fields, open, pubsub, table};
use server::{PATIENCE, Server, server};

/// Queues that outlive their consumers, and keep what failed.
const KEPT: [(&str, &str); 3] = [
    ("deletedWhenUnused", "false"),
    ("requeueInFailure", "true"),
    ("deliveryMode", "2"),
];

fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    component_rabbitmq::register(&mut catalog).expect("no name is taken twice");
    catalog
}

async fn open_broker(fields: &[(&str, &str)]) -> component::Result<Arc<dyn PubSub>> {
    let open = open("broker", fields);
    catalog().pubsub.open("rabbitmq", "", open).await
}

async fn broker(server: &Server, fields: &[(&str, &str)]) -> Arc<dyn PubSub> {
    let url = server.url();
    let all = [&[("connectionString", url.as_str())], fields].concat();
    open_broker(&all).await.expect("a broker")
}

fn topic(name: &str) -> String {
    format!("{name}-{:016x}", fastrand::u64(..))
}

fn request(topic: &str, metadata: &[(&str, &str)]) -> SubscribeRequest {
    SubscribeRequest {
        topic: topic.to_owned(),
        metadata: pairs(metadata),
        ..SubscribeRequest::default()
    }
}

fn pairs(metadata: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = metadata
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    owned.collect()
}

async fn publish(
    broker: &dyn PubSub,
    topic: &str,
    data: &str,
    metadata: &[(&str, &str)],
) -> component::Result<()> {
    let request = PublishRequest {
        topic: topic.to_owned(),
        data: Bytes::copy_from_slice(data.as_bytes()),
        metadata: pairs(metadata),
        ..PublishRequest::default()
    };
    broker.publish(&request).await
}

async fn next(deliveries: &mut Deliveries) -> Delivery {
    let next = tokio::time::timeout(PATIENCE, deliveries.next()).await;
    next.expect("a message in time").expect("a message")
}

async fn receive(deliveries: &mut Deliveries) -> String {
    let delivery = next(deliveries).await;
    delivery.ack.settle(Outcome::Ok).await.expect("is settled");
    String::from_utf8_lossy(&delivery.message.data).into_owned()
}

async fn silent(deliveries: &mut Deliveries) {
    let came = tokio::time::timeout(Duration::from_millis(300), deliveries.next()).await;
    assert!(came.is_err(), "a message came that must not");
}

#[test]
fn fields_are_those_of_the_list() {
    fields::suite(&catalog());
}

#[tokio::test]
async fn classic_queues_pass_the_suite() {
    let (server, _turn) = server().await;
    let broker = broker(server, &KEPT).await;
    let traits = pubsub::Traits {
        durable: true,
        ..pubsub::Traits::default()
    };
    pubsub::suite(&*broker, table::row(table::PUBSUB, "rabbitmq"), traits).await;
}

/// As they are without any metadata: queues go away with their consumers, and what fails is lost.
#[tokio::test]
async fn queues_that_keep_nothing_pass_the_suite() {
    let (server, _turn) = server().await;
    let broker = broker(server, &[]).await;
    let traits = pubsub::Traits::default();
    pubsub::suite(&*broker, table::row(table::PUBSUB, "rabbitmq"), traits).await;
}

/// What every subscription of a broker is asked with besides.
struct With(Arc<dyn PubSub>, &'static [(&'static str, &'static str)]);

#[async_trait::async_trait]
impl component::Component for With {
    async fn ping(&self) -> component::Result<()> {
        self.0.ping().await
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

#[async_trait::async_trait]
impl PubSub for With {
    fn capabilities(&self) -> component::pubsub::Capabilities {
        self.0.capabilities()
    }

    async fn publish(&self, request: &PublishRequest) -> component::Result<()> {
        self.0.publish(request).await
    }

    async fn subscribe(&self, mut request: SubscribeRequest) -> component::Result<Deliveries> {
        request.metadata.extend(pairs(self.1));
        self.0.subscribe(request).await
    }
}

#[tokio::test]
async fn quorum_queues_and_single_consumers_pass_the_suite() {
    let (server, _turn) = server().await;
    let metadata: [&'static [(&str, &str)]; 2] = [
        &[("queueType", "quorum")],
        &[("singleActiveConsumer", "true")],
    ];
    for metadata in metadata {
        let broker = With(broker(server, &KEPT).await, metadata);
        let traits = pubsub::Traits {
            durable: true,
            ..pubsub::Traits::default()
        };
        pubsub::suite(&broker, table::row(table::PUBSUB, "rabbitmq"), traits).await;
    }
}
