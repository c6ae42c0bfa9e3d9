//! The connection of the subscriptions: what it brings goes into the session, and from there to each of them.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use component::{
    Error, ErrorKind, Result, Spawn,
    pubsub::{Ack, Acknowledge, Delivery, DeliverySender, Ended, Message, Outcome},
};
use parking_lot::Mutex;
use rumqttc::{
    AsyncClient, Event, ManualAck, Outgoing, Packet, PubAck, PubRec, Publish, QoS, SubAck,
    SubscribeFilter, SubscribeNoticeError, SubscribeReasonCode,
};
use tokio::{sync::Notify, time::timeout};

use crate::{
    failure::Failure,
    filter::Filter,
    link::{Link, Listener, Options, PATIENCE},
    metadata::Settings,
    session::{Acknowledgement, Session, Taken},
};

/// All subscriptions of a component.
pub struct Consumer {
    inbox: Arc<Inbox>,
    link: Link,
    qos: QoS,
}

/// The session, between the connection and the subscriptions.
struct Inbox {
    shared: Mutex<Shared>,
    /// Something waits that did not, or there is room that was not.
    changed: Notify,
    qos: QoS,
}

struct Shared {
    session: Session,
    /// What acknowledgements go through; nothing while there is no connection.
    client: Option<AsyncClient>,
    /// Connections so far.
    connections: u64,
    /// The answer to the subscriptions that a new connection begins with is still to come.
    is_restoring: bool,
    /// Nobody is told of anything any more.
    is_closed: bool,
    /// The subscriptions that are open, by number.
    open: HashMap<u64, DeliverySender>,
    opened: u64,
}

impl Consumer {
    /// Connects as soon as there is a subscription.
    pub fn start(settings: &Settings, name: &str, tasks: &Arc<dyn Spawn>) -> Arc<Self> {
        let clean = settings.clean_session;
        let inbox = Arc::new(Inbox {
            shared: Mutex::new(Shared {
                session: Session::new(clean),
                client: None,
                connections: 0,
                is_restoring: false,
                is_closed: false,
                open: HashMap::new(),
                opened: 0,
            }),
            changed: Notify::new(),
            qos: settings.qos,
        });
        let options = Options::new(settings, &settings.consumer, clean);
        let link = Link::start(name, options, Arc::clone(&inbox), tasks);
        Arc::new(Self {
            inbox,
            link,
            qos: settings.qos,
        })
    }

    /// Subscribes; on return the server keeps messages for it.
    ///
    /// # Errors
    /// The server's, or where it does not answer.
    pub async fn subscribe(
        &self,
        filter: Filter,
        forget: bool,
        sender: &DeliverySender,
    ) -> Result<Subscription> {
        if self.link.is_closed() {
            return Err(Error::new(ErrorKind::Unavailable, "component is closed"));
        }
        let subscription = self.inbox.open(filter, forget, sender.clone());
        let attempts = self.ask(&subscription.filter);
        let outcome = timeout(PATIENCE, attempts).await;
        outcome.unwrap_or_else(|_| {
            let text = format!("mqtt: no answer to a subscription within {PATIENCE:?}");
            Err(Error::new(ErrorKind::Unavailable, text))
        })?;
        Ok(subscription)
    }

    async fn ask(&self, filter: &Filter) -> Result<()> {
        let surrenders = self.link.surrenders();
        loop {
            self.link.check_since(surrenders)?;
            let client = self.link.client().await?;
            let connection = self.inbox.shared.lock().connections;
            let Ok(notice) = client.subscribe_tracked(filter.text(), self.qos).await else {
                // The connection has ended meanwhile.
                continue;
            };
            match notice.wait_async().await {
                Ok(_) => {
                    let mut shared = self.inbox.shared.lock();
                    // The next connection has begun without it, if this one has ended meanwhile.
                    if shared.connections == connection {
                        shared.session.confirm(filter);
                        return Ok(());
                    }
                }
                Err(SubscribeNoticeError::V4SubAckFailure(_)) => {
                    return Err(refused(&format!("{:?}", filter.text())).error());
                }
                Err(_) => {}
            }
        }
    }

    /// Ends all subscriptions, writes what was settled, and leaves.
    pub async fn close(&self) {
        self.inbox.end_all(|| Ended::Closed);
        self.link.close().await;
        self.inbox.shared.lock().is_closed = true;
    }
}

fn refused(what: &str) -> Failure {
    let text = format!("mqtt: the server refuses the subscription to {what}");
    Failure::new(ErrorKind::Unauthorized, text)
}

impl Inbox {
    fn open(
        self: &Arc<Self>,
        filter: Filter,
        forget: bool,
        sender: DeliverySender,
    ) -> Subscription {
        let mut shared = self.shared.lock();
        let number = shared.opened;
        shared.opened += 1;
        shared.open.insert(number, sender);
        shared.session.subscribe(&filter);
        Subscription {
            inbox: Arc::clone(self),
            filter,
            number,
            forget,
        }
    }

    fn end_all(&self, reason: impl Fn() -> Ended) {
        let open = std::mem::take(&mut self.shared.lock().open);
        for sender in open.into_values() {
            sender.end(reason());
        }
    }

    fn receive(&self, publish: Publish) {
        let mut shared = self.shared.lock();
        let acknowledgement = match String::from_utf8(publish.topic.to_vec()) {
            Ok(topic) => shared.session.receive(topic, publish),
            Err(_) => {
                tracing::warn!(target: "dapr.contrib", "mqtt: a message is dropped: its topic is no UTF-8");
                (publish.qos != QoS::AtMostOnce).then_some(Acknowledgement {
                    qos: publish.qos,
                    packet: publish.pkid,
                })
            }
        };
        shared.acknowledge(acknowledgement);
        drop(shared);
        self.changed.notify_waiters();
    }

    fn settle(&self, number: u64) -> Result<()> {
        let mut shared = self.shared.lock();
        if shared.is_closed {
            let text = "mqtt: the component is closed; the message comes again";
            return Err(Error::new(ErrorKind::Unavailable, text));
        }
        let acknowledgement = shared.session.settle(number);
        shared.acknowledge(acknowledgement);
        drop(shared);
        self.changed.notify_waiters();
        Ok(())
    }

    fn release(&self, number: u64) {
        let mut shared = self.shared.lock();
        let acknowledgement = shared.session.release(number);
        shared.acknowledge(acknowledgement);
        drop(shared);
        self.changed.notify_waiters();
    }

    /// Waits until something is there.
    async fn wait<T>(&self, mut look: impl FnMut(&mut Session) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From now on nothing is missed.
            changed.as_mut().enable();
            if let Some(found) = look(&mut self.shared.lock().session) {
                return found;
            }
            changed.await;
        }
    }

    fn restored(&self, answer: &SubAck) {
        let restores = std::mem::take(&mut self.shared.lock().is_restoring);
        if restores && answer.return_codes.contains(&SubscribeReasonCode::Failure) {
            let failure = refused("at least one of its topics after a new connection");
            tracing::warn!(target: "dapr.contrib", "{}", failure.text());
            self.end_all(|| Ended::Failed(failure.error()));
        }
    }
}

impl Shared {
    /// Tells the server. Without a connection it sends the message again, and is told then.
    fn acknowledge(&self, acknowledgement: Option<Acknowledgement>) {
        let (Some(client), Some(Acknowledgement { qos, packet })) = (&self.client, acknowledgement)
        else {
            return;
        };
        let ack = match qos {
            QoS::ExactlyOnce => ManualAck::PubRec(PubRec::new(packet)),
            QoS::AtLeastOnce | QoS::AtMostOnce => ManualAck::PubAck(PubAck::new(packet)),
        };
        // There is a request for each message that is held, at most, so there is room for it. A connection that has ended
        // meanwhile is as good as none.
        let _ = client.try_manual_ack(ack);
    }
}

impl Listener for Inbox {
    async fn room(&self) {
        self.wait(|session| session.has_room().then_some(())).await;
    }

    fn is_needed(&self) -> bool {
        !self.shared.lock().open.is_empty()
    }

    fn connected(&self, client: &AsyncClient, session_present: bool) {
        let mut shared = self.shared.lock();
        shared.session.connect(session_present);
        shared.client = Some(client.clone());
        shared.connections += 1;
        if session_present {
            // The server has the subscriptions. To ask for them again would bring the retained messages again.
            for filter in shared.session.withdrawn() {
                let _ = client.try_unsubscribe(filter.text());
            }
            return;
        }
        let filters = shared.session.filters();
        let filters: Vec<_> = filters
            .map(|filter| SubscribeFilter::new(filter.text().to_owned(), self.qos))
            .collect();
        shared.is_restoring = !filters.is_empty() && client.try_subscribe_many(filters).is_ok();
    }

    fn event(&self, event: Event) {
        match event {
            Event::Incoming(Packet::Publish(publish)) => self.receive(publish),
            Event::Incoming(Packet::SubAck(answer)) => self.restored(&answer),
            Event::Outgoing(Outgoing::PubAck(packet) | Outgoing::PubComp(packet)) => {
                self.shared.lock().session.acknowledged(packet);
            }
            _ => {}
        }
    }

    fn lost(&self) {
        let mut shared = self.shared.lock();
        shared.client = None;
        shared.is_restoring = false;
    }

    fn given_up(&self, failure: &Failure) {
        self.end_all(|| Ended::Failed(failure.error()));
    }
}

/// A subscription in the session; left when it is dropped.
pub struct Subscription {
    inbox: Arc<Inbox>,
    filter: Filter,
    number: u64,
    /// The server is to forget it, once nobody else here has it.
    forget: bool,
}

impl Subscription {
    /// Hands messages over until it is closed.
    pub async fn forward(mut self, sender: DeliverySender) {
        self.hand_over(sender.clone()).await;
        // Q-mqtt-withdrawn
        self.forget |= sender.is_withdrawn();
    }

    async fn hand_over(&self, mut sender: DeliverySender) {
        loop {
            let taken = tokio::select! {
                biased;
                () = sender.closed() => return,
                taken = self.inbox.wait(|session| session.take(&self.filter)) => taken,
            };
            let delivery = self.delivery(taken);
            if sender.wanted().await.is_err() || sender.send(delivery).await.is_err() {
                return;
            }
        }
    }

    fn delivery(&self, taken: Taken) -> Delivery {
        let settle = Settle {
            inbox: Arc::clone(&self.inbox),
            number: taken.number,
        };
        let retained = ("retained".to_owned(), taken.retained.to_string());
        let message = Message {
            topic: taken.topic.clone(),
            data: taken.payload,
            content_type: None,
            metadata: [retained].into(),
        };
        Delivery::new(message, Ack::new(settle)).in_order_of(taken.topic)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut shared = self.inbox.shared.lock();
        shared.open.remove(&self.number);
        let Some(left) = shared.session.unsubscribe(&self.filter, self.forget) else {
            return;
        };
        for acknowledgement in left {
            shared.acknowledge(Some(acknowledgement));
        }
        if let Some(client) = &shared.client {
            let _ = client.try_unsubscribe(self.filter.text());
        }
    }
}

/// Settles one message.
struct Settle {
    inbox: Arc<Inbox>,
    number: u64,
}

#[async_trait]
impl Acknowledge for Settle {
    /// Whatever the outcome: a message is wanted again only where the server keeps none, and forgets it.
    async fn settle(self: Box<Self>, _: Outcome) -> Result<()> {
        self.inbox.settle(self.number)
    }

    fn release(self: Box<Self>) {
        self.inbox.release(self.number);
    }
}
