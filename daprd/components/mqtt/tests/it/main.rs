//! The broker against the suite that every family runs, and what is its own: sessions, restarts, and ways to be refused.

mod held;
mod outage;
mod refusals;
mod server;
mod sessions;
mod tls;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use component::{
    Catalog, ErrorKind, PubSub,
    pubsub::{Deliveries, Delivery, Outcome, PublishRequest, SubscribeRequest},
};
use component_conformance::{fields, open, pubsub, table};
use server::{PATIENCE, Server};

/// Longest wait for a message that must not come.
const SILENCE: Duration = Duration::from_millis(300);

fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    component_mqtt::register(&mut catalog).expect("no name is taken twice");
    catalog
}

async fn broker(fields: &[(&str, &str)]) -> component::Result<Arc<dyn PubSub>> {
    catalog()
        .pubsub
        .open("mqtt3", "", open("broker", fields))
        .await
}

/// A broker for a client of this id.
async fn client(server: &Server, id: &str) -> Arc<dyn PubSub> {
    let opened = broker(&[("url", &server.url()), ("consumerID", id)]).await;
    opened.expect("a broker")
}

async fn subscribe(broker: &dyn PubSub, topic: &str) -> Deliveries {
    let request = SubscribeRequest {
        topic: topic.to_owned(),
        ..SubscribeRequest::default()
    };
    broker.subscribe(request).await.expect("a subscription")
}

fn message(topic: &str, data: impl Into<Bytes>, metadata: &[(&str, &str)]) -> PublishRequest {
    let metadata = metadata.iter();
    let metadata = metadata.map(|(name, value)| (name.to_string(), value.to_string()));
    PublishRequest {
        topic: topic.to_owned(),
        data: data.into(),
        content_type: None,
        metadata: metadata.collect::<BTreeMap<_, _>>(),
    }
}

async fn publish(broker: &dyn PubSub, topic: &str, data: impl Into<Bytes>) {
    let sent = broker.publish(&message(topic, data, &[])).await;
    sent.expect("a message is published");
}

async fn next(deliveries: &mut Deliveries) -> Delivery {
    let delivery = tokio::time::timeout(PATIENCE, deliveries.next()).await;
    delivery.expect("in time").expect("a message")
}

/// The next message, settled.
async fn receive(deliveries: &mut Deliveries) -> String {
    let delivery = next(deliveries).await;
    let text = text(&delivery);
    settle(delivery).await;
    text
}

async fn settle(delivery: Delivery) {
    delivery.ack.settle(Outcome::Ok).await.expect("is settled");
}

fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.message.data).into_owned()
}

async fn silent(deliveries: &mut Deliveries) {
    if let Ok(came) = tokio::time::timeout(SILENCE, deliveries.next()).await {
        panic!("came: {:?}", came.map(|delivery| text(&delivery)));
    }
}

#[test]
fn fields_are_declared_as_the_reference_lists_them() {
    fields::suite(&catalog());
}

#[tokio::test]
async fn every_quality_of_service_conforms() {
    let server = Server::start("").await;
    for (qos, clean, durable) in [
        ("0", "false", false),
        ("1", "false", true),
        ("2", "false", true),
        ("1", "true", false),
    ] {
        let fields = [
            ("url", &*server.url()),
            ("consumerID", &format!("conforms-{qos}-{clean}")),
            ("qos", qos),
            ("cleanSession", clean),
        ];
        let broker = broker(&fields).await.unwrap();
        let traits = pubsub::Traits {
            durable,
            levels: true,
            ..pubsub::Traits::default()
        };
        pubsub::suite(&*broker, table::row(table::PUBSUB, "mqtt3"), traits).await;
        let closed = broker.publish(&message("t", "m", &[])).await.unwrap_err();
        assert_eq!(closed.kind(), ErrorKind::Unavailable);
        let request = SubscribeRequest::default();
        let closed = broker.subscribe(request).await.err().unwrap();
        assert_ne!(closed.kind(), ErrorKind::Internal);
    }
}
