//! A broker that hands over what a test tells it to, and keeps what became of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use component::{
    Catalog, Component, Fields, PubSub, Registration, Result,
    pubsub::{
        Ack, Acknowledge, Backoff, Capabilities, Capability, Deliveries, Delivery, DeliverySender,
        Ended, Message, Outcome, PublishRequest, Redelivery, SubscribeRequest, deliveries,
    },
};
use tokio::sync::mpsc;

use crate::soon;

/// What became of a message; nothing where it was given back.
pub type End = (String, Option<Outcome>);

#[derive(Clone)]
pub struct Bus(Arc<Inner>);

struct Inner {
    redelivery: Mutex<Redelivery>,
    /// Topics that take nothing for now.
    refused: Mutex<BTreeSet<String>>,
    subscriptions: Mutex<BTreeMap<String, DeliverySender>>,
    ends: mpsc::UnboundedSender<End>,
    ended: tokio::sync::Mutex<mpsc::UnboundedReceiver<End>>,
    published: mpsc::UnboundedSender<PublishRequest>,
    out: tokio::sync::Mutex<mpsc::UnboundedReceiver<PublishRequest>>,
    opened: AtomicUsize,
}

impl Default for Bus {
    fn default() -> Self {
        let (ends, ended) = mpsc::unbounded_channel();
        let (published, out) = mpsc::unbounded_channel();
        Self(Arc::new(Inner {
            redelivery: Mutex::new(Redelivery::Broker(Backoff::NONE)),
            refused: Mutex::default(),
            subscriptions: Mutex::default(),
            ends,
            ended: ended.into(),
            published,
            out: out.into(),
            opened: AtomicUsize::new(0),
        }))
    }
}

impl Bus {
    pub fn register(&self, catalog: &mut Catalog) {
        let bus = self.clone();
        let scripted = Registration::new("test", "scripted", Fields::default());
        let added = catalog.pubsub.add(scripted, move |_| {
            let bus = bus.clone();
            async move { Ok(Arc::new(bus) as Arc<dyn PubSub>) }
        });
        added.unwrap();
        let bus = self.clone();
        let batching = Registration::new("test", "batching", Fields::default());
        let added = catalog.pubsub.add(batching, move |_| {
            let bus = bus.clone();
            async move { Ok(Arc::new(Batching(bus)) as Arc<dyn PubSub>) }
        });
        added.unwrap();
        let hangs = Registration::new("test", "hangs", Fields::default());
        let added = catalog.pubsub.add(hangs, |_| std::future::pending());
        added.unwrap();
    }

    /// Who delivers messages again of what is subscribed to from now on.
    pub fn redelivers(&self, redelivery: Redelivery) {
        *self.0.redelivery.lock().unwrap() = redelivery;
    }

    /// Whether a topic takes what is published.
    pub fn refuses(&self, topic: &str, refuses: bool) {
        let mut refused = self.0.refused.lock().unwrap();
        match refuses {
            true => refused.insert(topic.to_owned()),
            false => refused.remove(topic),
        };
    }

    /// Hands a message to the subscription of a topic, as soon as it wants one.
    pub async fn send(&self, topic: &str, name: &str, data: &str, order_key: Option<&str>) {
        let delivery = self.delivery(topic, name, data, order_key);
        let mut sender = self.sender(topic);
        soon(sender.wanted()).await.unwrap();
        sender.send(delivery).await.unwrap();
    }

    /// Hands over a batch, as a broker has it that knows batches.
    pub async fn send_batch(&self, topic: &str, names: &[&str], data: &str) {
        let messages: Vec<_> = names.iter().map(|name| (*name, data)).collect();
        self.send_ordered(topic, &messages, None).await;
    }

    /// The same, of messages in an order.
    pub async fn send_ordered(
        &self,
        topic: &str,
        messages: &[(&str, &str)],
        order_key: Option<&str>,
    ) {
        let messages = messages.iter();
        let deliveries = messages.map(|(name, data)| self.delivery(topic, name, data, order_key));
        let batch = deliveries.collect();
        self.sender(topic).send_batch(batch).await.unwrap();
    }

    /// Ends the subscription to a topic from the broker's side.
    pub fn finish(&self, topic: &str, reason: Ended) {
        self.sender(topic).end(reason);
    }

    /// Whether the last subscription to a topic was closed for good.
    pub fn is_withdrawn(&self, topic: &str) -> bool {
        self.0.subscriptions.lock().unwrap()[topic].is_withdrawn()
    }

    fn sender(&self, topic: &str) -> DeliverySender {
        self.0.subscriptions.lock().unwrap()[topic].clone()
    }

    fn delivery(&self, topic: &str, name: &str, data: &str, order_key: Option<&str>) -> Delivery {
        Delivery {
            message: Message {
                topic: topic.into(),
                data: data.to_owned().into(),
                content_type: None,
                metadata: BTreeMap::from([("name".to_owned(), name.to_owned())]),
            },
            order_key: order_key.map(str::to_owned),
            attempt: 1,
            ack: Ack::new(Settle(name.to_owned(), self.0.ends.clone())),
        }
    }

    /// What became of the next message.
    pub async fn end(&self) -> End {
        soon(async { self.0.ended.lock().await.recv().await.unwrap() }).await
    }

    /// The next thing that was published.
    pub async fn published(&self) -> PublishRequest {
        soon(async { self.0.out.lock().await.recv().await.unwrap() }).await
    }

    /// The next end, where there is one by now.
    pub async fn end_now(&self) -> Option<End> {
        self.0.ended.lock().await.try_recv().ok()
    }

    /// What is subscribed to.
    pub fn topics(&self) -> Vec<String> {
        let subscriptions = self.0.subscriptions.lock().unwrap();
        let open = subscriptions
            .iter()
            .filter(|(_, sender)| !sender.is_closed());
        open.map(|(topic, _)| topic.clone()).collect()
    }

    pub fn opened(&self) -> usize {
        self.0.opened.load(Ordering::SeqCst)
    }
}

struct Settle(String, mpsc::UnboundedSender<End>);

#[async_trait]
impl Acknowledge for Settle {
    async fn settle(self: Box<Self>, outcome: Outcome) -> Result<()> {
        assert_ne!(self.0, "panics", "as the test wants it");
        let _ = self.1.send((self.0, Some(outcome)));
        Ok(())
    }

    fn release(self: Box<Self>) {
        let _ = self.1.send((self.0, None));
    }
}

impl Component for Bus {}

#[async_trait]
impl PubSub for Bus {
    fn capabilities(&self) -> Capabilities {
        Capabilities::EMPTY
    }

    async fn publish(&self, request: &PublishRequest) -> Result<()> {
        if self.0.refused.lock().unwrap().contains(&request.topic) {
            let kind = component::ErrorKind::Unavailable;
            return Err(component::Error::new(kind, "not now"));
        }
        if request.topic.ends_with("broken") {
            return Err(component::Error::invalid_request("the topic is broken"));
        }
        self.0.published.send(request.clone()).unwrap();
        if request.topic.ends_with("coded") {
            let refused = component::Error::invalid_request("the topic is refused");
            return Err(refused.with_grpc_code(9));
        }
        Ok(())
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<Deliveries> {
        if request.topic == "hangs" {
            std::future::pending::<()>().await;
        }
        let redelivery = match &*request.topic {
            "in-place" => Redelivery::InPlace(Backoff::constant(Duration::from_millis(1))),
            "much-later" => Redelivery::InPlace(Backoff::constant(Duration::from_secs(3600))),
            _ => *self.0.redelivery.lock().unwrap(),
        };
        let (sender, deliveries) = deliveries(request.limits, redelivery);
        self.0.opened.fetch_add(1, Ordering::SeqCst);
        let mut subscriptions = self.0.subscriptions.lock().unwrap();
        subscriptions.insert(request.topic, sender);
        Ok(deliveries)
    }
}

/// The same broker, where it says that it has batches of its own.
struct Batching(Bus);

impl Component for Batching {}

#[async_trait]
impl PubSub for Batching {
    fn capabilities(&self) -> Capabilities {
        Capabilities::EMPTY.with(Capability::BulkSubscribeImmediate)
    }

    async fn publish(&self, request: &PublishRequest) -> Result<()> {
        self.0.publish(request).await
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<Deliveries> {
        self.0.subscribe(request).await
    }
}
