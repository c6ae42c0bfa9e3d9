//! What the tests of every form do with a store and a broker.

use std::sync::Arc;

use component::{PubSub, StateStore, pubsub::Deliveries, state::DeleteRequest};
use component_conformance::{pubsub, state, table};

use crate::{
    broker, item, publish, receive,
    server::{Server, until},
    set, store, subscribe,
};

/// Fields of a broker that delivers again soon, for the suite.
pub const QUICK: [(&str, &str); 2] = [
    ("processingTimeout", "400ms"),
    ("redeliverInterval", "100ms"),
];

/// What the suite may expect of a broker.
pub const TRAITS: pubsub::Traits = pubsub::Traits {
    durable: true,
    metadata: true,
    levels: false,
    one_at_a_time: false,
};

/// Both suites, on components of these fields.
pub async fn conform(store: &dyn StateStore, fields: &[(&str, &str)]) {
    let broker = broker(&[fields, &QUICK].concat()).await.expect("a broker");
    tokio::join!(
        state::suite(store, table::row(table::STATE, "redis")),
        pubsub::suite(&*broker, table::row(table::PUBSUB, "redis"), TRAITS)
    );
}

/// What most programs do with a store.
pub async fn saves_and_deletes(store: &dyn StateStore) {
    store.set(&set("k", b"v")).await.expect("a key is written");
    assert_eq!(
        &item(store, "k").await.expect("it is there").value[..],
        b"v"
    );
    let request = DeleteRequest {
        key: "k".into(),
        ..DeleteRequest::default()
    };
    store.delete(&request).await.expect("a key is deleted");
    assert!(item(store, "k").await.is_none());
}

/// What most programs do with a broker.
async fn publishes_and_receives(broker: &dyn PubSub) {
    let mut deliveries = subscribe(broker, "t").await;
    publish(broker, "t", b"m").await.expect("is published");
    assert_eq!(receive(&mut deliveries).await, &b"m"[..]);
}

/// Both, on components of these fields.
pub async fn works(fields: &[(&str, &str)]) {
    saves_and_deletes(&*store(fields).await.expect("a store")).await;
    publishes_and_receives(&*broker(fields).await.expect("a broker")).await;
}

/// That, whether the server's certificate is checked or not.
pub async fn works_over_tls(fields: &[(&str, &str)]) {
    for mode in [&[][..], &[("insecureSkipTLSVerify", "true")]] {
        works(&[fields, mode].concat()).await;
    }
}

/// A store, and a broker with somebody who listens, while servers come and go.
pub struct InUse {
    store: Arc<dyn StateStore>,
    broker: Arc<dyn PubSub>,
    topic: &'static str,
    deliveries: Deliveries,
}

impl InUse {
    pub async fn open(fields: &[(&str, &str)], topic: &'static str) -> Self {
        let store = store(fields).await.expect("a store");
        let broker = broker(fields).await.expect("a broker");
        let deliveries = subscribe(&*broker, topic).await;
        Self {
            store,
            broker,
            topic,
            deliveries,
        }
    }

    /// A message arrives.
    pub async fn delivers(&mut self) {
        let published = publish(&*self.broker, self.topic, b"before").await;
        published.expect("is published");
        assert_eq!(receive(&mut self.deliveries).await, &b"before"[..]);
    }

    /// Writes and messages go to the server that is in charge now.
    pub async fn goes_on_at(&mut self, server: &Server, key: &str) {
        until("the store follows", async || {
            self.store.set(&set(key, b"v")).await.is_ok()
        })
        .await;
        until("the broker follows", async || {
            publish(&*self.broker, self.topic, b"after").await.is_ok()
        })
        .await;
        assert_eq!(receive(&mut self.deliveries).await, &b"after"[..]);
        assert_eq!(server.ask(&["HGET", key, "data"]).await, "v");
    }
}
