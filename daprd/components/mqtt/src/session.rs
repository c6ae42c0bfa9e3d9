//! The messages that a session holds: received, and neither acknowledged nor forgotten. A pure state machine: what the server
//! sends and what becomes of it go in, acknowledgements come out.
//!
//! The server sends what was not acknowledged again on the next connection, under the same packet id and marked as a
//! duplicate. What is still held then is not delivered a second time; what was settled meanwhile is acknowledged. A message
//! that is released goes back to its place in the queue of its filter, because the server will not send it again on this
//! connection.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use component::pubsub::MOST_BYTES;
use rumqttc::{Publish, QoS};
use tokio::time::Instant;

use crate::filter::Filter;

/// Filters that were withdrawn and are remembered; of older ones, what still comes waits for a subscriber.
const MOST_WITHDRAWN: usize = 256;

/// How long a message waits for somebody to subscribe to its topic: an app subscribes to all of its topics when it starts, so
/// what nobody has asked for by then is of an earlier one. Q-mqtt-unclaimed
pub const MOST_UNCLAIMED: Duration = Duration::from_secs(30);

/// Topics that nobody has subscribed to and are remembered; messages of older ones wait again.
const MOST_ABANDONED: usize = 256;

/// Messages that are held at once before no more are read: twice what a subscription has under way at most.
pub const MOST_HELD: usize = 1024;

/// What the server is told of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    pub qos: QoS,
    pub packet: u16,
}

/// A message that was taken to be delivered.
#[derive(Clone, Debug)]
pub struct Taken {
    /// What it is settled or released by.
    pub number: u64,
    pub topic: String,
    pub payload: Bytes,
    pub retained: bool,
}

/// One session, over all its connections.
#[derive(Default)]
pub struct Session {
    /// Nothing outlives a subscription.
    is_clean: bool,
    received: u64,
    held: BTreeMap<u64, Held>,
    by_packet: HashMap<u16, u64>,
    routes: Vec<Route>,
    /// Filters that nobody comes back to. The server may still send what it had for them, and has the subscription if it was
    /// away when it was told.
    withdrawn: VecDeque<Filter>,
    /// Messages for which there is no route yet, and since when: a session may have them from an earlier life of the app.
    unrouted: BTreeMap<u64, Instant>,
    /// Topics of which messages have waited in vain.
    abandoned: VecDeque<String>,
    unsettled: usize,
    unsettled_bytes: usize,
}

struct Held {
    message: Taken,
    receipt: Option<Receipt>,
    is_settled: bool,
}

/// How the server knows a message; there is none without a quality of service, and after the session was lost.
struct Receipt {
    acknowledgement: Acknowledgement,
    /// It was sent on the connection that is there now, so it can be acknowledged.
    is_current: bool,
}

/// The messages of one filter.
struct Route {
    filter: Filter,
    subscribers: usize,
    /// The server has the subscription, and has it again on each connection.
    is_confirmed: bool,
    waiting: BTreeSet<u64>,
}

impl Session {
    pub fn new(is_clean: bool) -> Self {
        Self {
            is_clean,
            ..Self::default()
        }
    }

    /// Whether more may be read.
    pub fn has_room(&self) -> bool {
        self.unsettled < MOST_HELD && self.unsettled_bytes < MOST_BYTES
    }

    /// Whether nothing is held that is still to be settled.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.unsettled == 0
    }

    /// A new connection. Without its session the server has forgotten all packet ids, and what it never sent again in a
    /// whole connection it has heard of.
    pub fn connect(&mut self, session_present: bool) {
        self.held.retain(|_, held| {
            let Some(receipt) = &mut held.receipt else {
                return true;
            };
            let was_current = std::mem::replace(&mut receipt.is_current, false);
            if !session_present {
                held.receipt = None;
            }
            !held.is_settled || (session_present && was_current)
        });
        self.by_packet = self
            .held
            .iter()
            .filter_map(|(number, held)| {
                Some((held.receipt.as_ref()?.acknowledgement.packet, *number))
            })
            .collect();
    }

    /// A message came. What has been settled already is to be acknowledged once more.
    pub fn receive(
        &mut self,
        topic: String,
        publish: Publish,
        now: Instant,
    ) -> Option<Acknowledgement> {
        let acknowledgement = Acknowledgement {
            qos: publish.qos,
            packet: publish.pkid,
        };
        let counts = publish.qos != QoS::AtMostOnce;
        if counts && let Some(number) = self.by_packet.get(&publish.pkid).copied() {
            if publish.dup && self.is_same(number, &topic, &publish) {
                return self.receive_again(number);
            }
            // The server has used the packet id for something else, so it knows that the old message was settled.
            self.detach(number);
        }
        let number = self.received;
        self.received += 1;
        self.unsettled += 1;
        self.unsettled_bytes += topic.len() + publish.payload.len();
        if counts {
            self.by_packet.insert(publish.pkid, number);
        }
        let message = Taken {
            number,
            topic,
            payload: publish.payload,
            retained: publish.retain,
        };
        let held = Held {
            message,
            receipt: counts.then_some(Receipt {
                acknowledgement,
                is_current: true,
            }),
            is_settled: false,
        };
        self.held.insert(number, held);
        self.enqueue(number, now)
    }

    /// Queues a message. One that nobody comes back for is done with: it would keep the server from sending others.
    fn enqueue(&mut self, number: u64, now: Instant) -> Option<Acknowledgement> {
        if self.queue(number, now) {
            return None;
        }
        let topic = &self.held.get(&number)?.message.topic;
        let mut withdrawn = self.withdrawn.iter();
        let is_withdrawn = withdrawn.any(|filter| filter.closeness(topic).is_some());
        if !self.is_clean && !is_withdrawn && !self.abandoned.contains(topic) {
            return None;
        }
        self.unrouted.remove(&number);
        self.settle(number)
    }

    fn is_same(&self, number: u64, topic: &str, publish: &Publish) -> bool {
        self.held.get(&number).is_some_and(|held| {
            held.message.topic == topic && held.message.payload == publish.payload
        })
    }

    fn receive_again(&mut self, number: u64) -> Option<Acknowledgement> {
        let held = self.held.get_mut(&number)?;
        let receipt = held.receipt.as_mut()?;
        receipt.is_current = true;
        held.is_settled.then_some(receipt.acknowledgement)
    }

    fn detach(&mut self, number: u64) {
        let Some(held) = self.held.get_mut(&number) else {
            return;
        };
        held.receipt = None;
        if held.is_settled {
            self.held.remove(&number);
        }
    }

    /// Puts a message where its next subscriber finds it: with the filter that names its topic most closely, and rather
    /// with one that has subscribers. Q-mqtt-overlap
    fn queue(&mut self, number: u64, now: Instant) -> bool {
        let Some(held) = self.held.get(&number) else {
            return false;
        };
        let topic = &held.message.topic;
        let closest = self
            .routes
            .iter_mut()
            .filter_map(|route| {
                let closeness = route.filter.closeness(topic)?;
                Some(((route.subscribers > 0, closeness), route))
            })
            .max_by_key(|(rank, _)| *rank);
        match closest {
            Some((_, route)) => route.waiting.insert(number),
            None => {
                self.unrouted.insert(number, now);
                false
            }
        }
    }

    /// The next message of a filter.
    pub fn take(&mut self, filter: &Filter) -> Option<Taken> {
        let route = self.route(filter)?;
        let number = route.waiting.pop_first()?;
        self.held.get(&number).map(|held| held.message.clone())
    }

    /// A message is done with.
    pub fn settle(&mut self, number: u64) -> Option<Acknowledgement> {
        let held = self.held.get_mut(&number)?;
        if held.is_settled {
            return None;
        }
        held.is_settled = true;
        self.unsettled -= 1;
        self.unsettled_bytes -= held.message.topic.len() + held.message.payload.len();
        let Some(receipt) = &held.receipt else {
            self.held.remove(&number);
            return None;
        };
        receipt.is_current.then_some(receipt.acknowledgement)
    }

    /// A message is given back.
    pub fn release(&mut self, number: u64, now: Instant) -> Option<Acknowledgement> {
        match self.held.get(&number) {
            Some(held) if !held.is_settled => self.enqueue(number, now),
            _ => None,
        }
    }

    /// The server was told of a message.
    pub fn acknowledged(&mut self, packet: u16) {
        let Some(number) = self.by_packet.get(&packet).copied() else {
            return;
        };
        if self.held.get(&number).is_some_and(|held| held.is_settled) {
            self.by_packet.remove(&packet);
            self.held.remove(&number);
        }
    }

    /// One more subscriber of a filter.
    pub fn subscribe(&mut self, filter: &Filter) {
        self.withdrawn.retain(|withdrawn| withdrawn != filter);
        if let Some(route) = self.route(filter) {
            route.subscribers += 1;
            return;
        }
        self.routes.push(Route {
            filter: filter.clone(),
            subscribers: 1,
            is_confirmed: false,
            waiting: BTreeSet::new(),
        });
        self.abandoned
            .retain(|topic| filter.closeness(topic).is_none());
        for (number, since) in std::mem::take(&mut self.unrouted) {
            self.queue(number, since);
        }
    }

    /// When the next message has waited long enough for a subscriber of its topic.
    pub fn claim_deadline(&self) -> Option<Instant> {
        let oldest = self.unrouted.values().min()?;
        Some(*oldest + MOST_UNCLAIMED)
    }

    /// Gives up the topics whose messages have waited for so long, and says which these are, and what the server is told of
    /// their messages.
    pub fn abandon(&mut self, now: Instant) -> (Vec<String>, Vec<Acknowledgement>) {
        let old = self.unrouted.iter();
        let old = old.filter(|(_, since)| **since + MOST_UNCLAIMED <= now);
        let topics = old.filter_map(|(number, _)| Some(&self.held.get(number)?.message.topic));
        let topics: BTreeSet<String> = topics.cloned().collect();
        let unrouted = std::mem::take(&mut self.unrouted);
        let (given_up, kept) = unrouted.into_iter().partition(|(number, _)| {
            let held = self.held.get(number);
            held.is_none_or(|held| topics.contains(&held.message.topic))
        });
        self.unrouted = kept;
        let given_up: BTreeMap<u64, Instant> = given_up;
        let acknowledgements = given_up.into_keys();
        let acknowledgements = acknowledgements
            .filter_map(|number| self.settle(number))
            .collect();
        self.abandoned.extend(topics.iter().cloned());
        let surplus = self.abandoned.len().saturating_sub(MOST_ABANDONED);
        self.abandoned.drain(..surplus);
        (topics.into_iter().collect(), acknowledgements)
    }

    /// One subscriber less. Whether it was the last of a filter that is to be forgotten, and then what the server is told
    /// of messages that nobody has taken.
    pub fn unsubscribe(&mut self, filter: &Filter, forget: bool) -> Option<Vec<Acknowledgement>> {
        let position = self
            .routes
            .iter()
            .position(|route| route.filter == *filter)?;
        let route = &mut self.routes[position];
        route.subscribers = route.subscribers.saturating_sub(1);
        if route.subscribers > 0 || !forget {
            return None;
        }
        let waiting = self.routes.swap_remove(position).waiting;
        self.withdrawn.push_back(filter.clone());
        if self.withdrawn.len() > MOST_WITHDRAWN {
            self.withdrawn.pop_front();
        }
        Some(
            waiting
                .into_iter()
                .filter_map(|number| self.settle(number))
                .collect(),
        )
    }

    /// The server has taken the subscription to a filter.
    pub fn confirm(&mut self, filter: &Filter) {
        if let Some(route) = self.route(filter) {
            route.is_confirmed = true;
        }
    }

    /// All filters that the server has taken, and has to know on a connection without the session. Others are asked for by
    /// those who wait for the answer; asked for twice, a retained message comes twice.
    pub fn filters(&self) -> impl Iterator<Item = &Filter> {
        let confirmed = self.routes.iter().filter(|route| route.is_confirmed);
        confirmed.map(|route| &route.filter)
    }

    /// All filters that the server has to forget, where it has kept the session.
    pub fn withdrawn(&self) -> impl Iterator<Item = &Filter> {
        self.withdrawn.iter()
    }

    fn route(&mut self, filter: &Filter) -> Option<&mut Route> {
        self.routes.iter_mut().find(|route| route.filter == *filter)
    }
}

#[cfg(test)]
mod tests;
