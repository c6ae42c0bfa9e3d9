//! What stands between the connection of the subscriptions and the subscriptions: the session, and who is told of what.

use std::collections::HashMap;

use component::{
    Error, ErrorKind, Result,
    pubsub::{DeliverySender, Ended},
};
use parking_lot::Mutex;
use rumqttc::{
    AsyncClient, Event, ManualAck, Outgoing, Packet, PubAck, PubRec, Publish, QoS, SubAck,
    SubscribeFilter, SubscribeReasonCode,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::{
    failure::Failure,
    filter::Filter,
    link::Listener,
    session::{Acknowledgement, MOST_UNCLAIMED, Session, Taken},
};

/// The session, between the connection and the subscriptions.
pub struct Inbox {
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
    /// Since when subscriptions miss what is published, because they have lost their connection.
    lost: Option<Instant>,
    /// Nobody is told of anything any more.
    is_closed: bool,
    /// The subscriptions that are open, by number.
    open: HashMap<u64, DeliverySender>,
    opened: u64,
}

impl Inbox {
    /// For subscriptions of this quality of service.
    pub fn new(is_clean: bool, qos: QoS) -> Self {
        Self {
            shared: Mutex::new(Shared {
                session: Session::new(is_clean),
                client: None,
                connections: 0,
                is_restoring: false,
                lost: None,
                is_closed: false,
                open: HashMap::new(),
                opened: 0,
            }),
            changed: Notify::new(),
            qos,
        }
    }

    /// One more subscription, by its number.
    pub fn open(&self, filter: &Filter, sender: DeliverySender) -> u64 {
        let mut shared = self.shared.lock();
        let number = shared.opened;
        shared.opened += 1;
        shared.open.insert(number, sender);
        shared.session.subscribe(filter);
        number
    }

    /// One subscription less; the last of a filter may have the server forget it.
    pub fn leave(&self, number: u64, filter: &Filter, forget: bool) {
        let mut shared = self.shared.lock();
        shared.open.remove(&number);
        if shared.open.is_empty() {
            shared.lost = None;
        }
        let left = shared.session.unsubscribe(filter, forget);
        if let Some(left) = left {
            for acknowledgement in left {
                shared.acknowledge(Some(acknowledgement));
            }
            if let Some(client) = &shared.client {
                let _ = client.try_unsubscribe(filter.text());
            }
        }
        drop(shared);
        self.changed.notify_waiters();
    }

    /// Connections so far.
    pub fn connections(&self) -> u64 {
        self.shared.lock().connections
    }

    /// The server has taken the subscription on this connection. Whether that one is still there: the next has begun without
    /// the subscription.
    pub fn confirm(&self, filter: &Filter, connection: u64) -> bool {
        let mut shared = self.shared.lock();
        let is_current = shared.connections == connection;
        if is_current {
            shared.session.confirm(filter);
        }
        is_current
    }

    /// Nobody is told of anything any more.
    pub fn close(&self) {
        self.shared.lock().is_closed = true;
    }

    /// Since when subscriptions miss what is published.
    pub fn lost_since(&self) -> Option<Instant> {
        self.shared.lock().lost
    }

    /// Until none does.
    pub async fn restored(&self) {
        self.wait(|shared| shared.lost.is_none().then_some(()))
            .await;
    }

    /// The next message of a filter.
    pub async fn take(&self, filter: &Filter) -> Taken {
        self.wait(|shared| shared.session.take(filter)).await
    }

    /// Gives up what belongs to nobody, for as long as it is asked to: it would use up what the server sends ahead.
    /// Q-mqtt-unclaimed
    pub async fn abandon(&self, component: &str) {
        loop {
            let deadline = self.wait(|shared| shared.session.claim_deadline()).await;
            sleep_until(deadline).await;
            let mut shared = self.shared.lock();
            let (topics, acknowledgements) = shared.session.abandon(Instant::now());
            for topic in topics {
                tracing::warn!(
                    target: "dapr.contrib",
                    "{component}: messages of the topic {topic:?} are dropped: the session has a subscription to it from before, \
                     and nobody has subscribed to it within {MOST_UNCLAIMED:?}"
                );
                // Where it was one with wildcards, the server goes on, and what it sends is dropped.
                if let Some(client) = &shared.client {
                    let _ = client.try_unsubscribe(topic);
                }
            }
            for acknowledgement in acknowledgements {
                shared.acknowledge(Some(acknowledgement));
            }
            drop(shared);
            self.changed.notify_waiters();
        }
    }

    /// Ends all subscriptions.
    pub fn end_all(&self, reason: impl Fn() -> Ended) {
        let open = {
            let mut shared = self.shared.lock();
            shared.lost = None;
            std::mem::take(&mut shared.open)
        };
        self.changed.notify_waiters();
        for sender in open.into_values() {
            sender.end(reason());
        }
    }

    fn receive(&self, publish: Publish) {
        let mut shared = self.shared.lock();
        let acknowledgement = match String::from_utf8(publish.topic.to_vec()) {
            Ok(topic) => shared.session.receive(topic, publish, Instant::now()),
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

    /// A message is done with.
    ///
    /// # Errors
    /// Where it is too late to say so.
    pub fn settle(&self, number: u64) -> Result<()> {
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

    /// A message is given back.
    pub fn release(&self, number: u64) {
        let mut shared = self.shared.lock();
        let acknowledgement = shared.session.release(number, Instant::now());
        shared.acknowledge(acknowledgement);
        drop(shared);
        self.changed.notify_waiters();
    }

    /// Waits until something is there.
    async fn wait<T>(&self, mut look: impl FnMut(&mut Shared) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From now on nothing is missed.
            changed.as_mut().enable();
            if let Some(found) = look(&mut self.shared.lock()) {
                return found;
            }
            changed.await;
        }
    }

    fn subscribed(&self, answer: &SubAck) {
        let restores = {
            let mut shared = self.shared.lock();
            let restores = std::mem::take(&mut shared.is_restoring);
            if restores {
                shared.lost = None;
            }
            restores
        };
        self.changed.notify_waiters();
        if restores && answer.return_codes.contains(&SubscribeReasonCode::Failure) {
            let failure = refused("at least one of its topics after a new connection");
            tracing::warn!(target: "dapr.contrib", "{}", failure.text());
            self.end_all(|| Ended::Failed(failure.error()));
        }
    }
}

/// A subscription that the server does not take.
pub fn refused(what: &str) -> Failure {
    let text = format!("mqtt: the server refuses the subscription to {what}");
    Failure::new(ErrorKind::Unauthorized, text)
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
        self.wait(|shared| shared.session.has_room().then_some(()))
            .await;
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
            shared.lost = None;
            // The server has the subscriptions. To ask for them again would bring the retained messages again.
            for filter in shared.session.withdrawn() {
                let _ = client.try_unsubscribe(filter.text());
            }
            drop(shared);
            self.changed.notify_waiters();
            return;
        }
        let filters = shared.session.filters();
        let filters: Vec<_> = filters
            .map(|filter| SubscribeFilter::new(filter.text().to_owned(), self.qos))
            .collect();
        shared.is_restoring = !filters.is_empty() && client.try_subscribe_many(filters).is_ok();
        if !shared.is_restoring {
            shared.lost = None;
        }
        drop(shared);
        self.changed.notify_waiters();
    }

    fn event(&self, event: Event) {
        match event {
            Event::Incoming(Packet::Publish(publish)) => self.receive(publish),
            Event::Incoming(Packet::SubAck(answer)) => self.subscribed(&answer),
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
        let misses = !shared.open.is_empty() && shared.session.filters().next().is_some();
        if misses && shared.lost.is_none() {
            shared.lost = Some(Instant::now());
        }
    }

    fn given_up(&self, failure: &Failure) {
        self.end_all(|| Ended::Failed(failure.error()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beyond what Mosquitto sends without an acknowledgement, nothing else would come.
    #[tokio::test(start_paused = true)]
    async fn what_nobody_subscribes_to_is_given_up_in_time() {
        let inbox = Inbox::new(false, QoS::AtLeastOnce);
        let mut old = Publish::new("old", QoS::AtLeastOnce, "m");
        old.pkid = 1;
        inbox.event(Event::Incoming(Packet::Publish(old)));
        let given_up = async {
            let look = |shared: &mut Shared| shared.session.is_empty().then(Instant::now);
            inbox.wait(look).await
        };
        let begun = Instant::now();
        tokio::select! {
            () = inbox.abandon("broker") => {}
            at = given_up => assert!(at >= begun + MOST_UNCLAIMED),
        }
    }
}
