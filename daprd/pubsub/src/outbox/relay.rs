//! The way of an event from the internal topic to the topic of subscribers: not before its transaction is committed, at
//! least once, and out of the way in the end.

use std::time::Duration;

use component::{
    pubsub::{Backoff, Delivery, Outcome, Redelivery},
    state::{Consistency, DeleteRequest, GetRequest, Operation},
};
use tokio::time::Instant;
use values::Pauses;

use super::{Config, configured};
use crate::{
    Error,
    cloud_event::{CloudEvent, field},
    core::LOG,
    delivery::{Retry, Subscriber, settle},
    outbox::{event::MARKER_PREFIX, turns::Turn},
};

/// An event of the internal topic.
struct Pending {
    event: CloudEvent,
    /// Its id, which is the key of its marker.
    marker: String,
}

impl Pending {
    fn read(data: &[u8]) -> Result<Self, String> {
        let event = CloudEvent::parse(data, &std::collections::BTreeMap::new())?;
        let marker = event.text(field::ID).unwrap_or_default().into_owned();
        // Nothing but a marker is ever read or removed in the store.
        if !marker.starts_with(MARKER_PREFIX) {
            return Err(format!("its id {marker:?} is no marker"));
        }
        Ok(Self { event, marker })
    }
}

/// What came of an attempt.
enum Attempt {
    /// It is published; the marker is in this store.
    Published {
        store: String,
    },
    /// Its transaction was not committed in time, and nobody waits for it.
    Discarded,
    /// Its transaction was not committed in time, and may still be.
    Uncommitted,
    /// The subscription ends.
    Ending,
    Failed(String),
}

/// Where a marker is.
enum Marker {
    In(String, Config),
    /// In no store; whether its event may be given up.
    Nowhere {
        discards: bool,
    },
    /// A store did not say.
    Unknown(String),
}

impl Subscriber {
    /// Takes an event of the internal topic to its end; without one it goes back to the broker. One that is committed is
    /// tried for as long as it takes: by the broker, where it delivers again what is not settled, else here.
    pub async fn relay(&self, delivery: Delivery, redelivery: Redelivery, mut turn: Turn) {
        let Delivery {
            message,
            mut attempt,
            ack,
            ..
        } = delivery;
        let topic = &self.subscription.topic;
        let pending = match Pending::read(&message.data) {
            Ok(pending) => pending,
            Err(problem) => {
                tracing::error!(target: LOG, "a message of the outbox topic {topic} is dropped: {problem}");
                settle(ack, Outcome::Drop, topic).await;
                return;
            }
        };
        let redelivery = match redelivery {
            Redelivery::Broker(_) => redelivery,
            Redelivery::Never | Redelivery::Reject | Redelivery::InPlace(_) => {
                Redelivery::InPlace(IN_PLACE)
            }
        };
        let deadline = Instant::now() + COMMIT_LIMIT;
        loop {
            let problem = match self.pass_on(&pending, &mut turn, deadline).await {
                // The marker goes last: without it an event that comes again would wait for a commit for ever.
                // Q-outbox-marker
                Attempt::Published { store } => {
                    let is_settled = settle(ack, Outcome::Ok, topic).await;
                    drop(turn);
                    if is_settled {
                        self.unmark(&store, pending.marker).await;
                    }
                    return;
                }
                Attempt::Discarded => {
                    settle(ack, Outcome::Drop, topic).await;
                    return;
                }
                Attempt::Ending => return turn.give_back(),
                Attempt::Uncommitted => {
                    // Q-outbox-late
                    if matches!(redelivery, Redelivery::InPlace(_)) {
                        turn.stays();
                    }
                    "its transaction is not committed".to_owned()
                }
                Attempt::Failed(problem) => problem,
            };
            tracing::error!(
                target: LOG,
                "event {} of the outbox topic {topic} is not published: {problem}. It is tried again",
                pending.marker
            );
            let retry = tokio::select! {
                biased;
                () = turn.given_up() => {
                    tracing::error!(
                        target: LOG,
                        "event {} of the outbox topic {topic} is given up: its transaction is not committed, and others wait",
                        pending.marker
                    );
                    Retry::Settle(Outcome::Drop)
                }
                retry = self.retry(topic, redelivery, attempt) => retry,
            };
            match retry {
                Retry::Again => attempt = attempt.saturating_add(1),
                Retry::GiveBack => return turn.give_back(),
                Retry::Settle(outcome) => {
                    settle(ack, outcome, topic).await;
                    return;
                }
            }
        }
    }

    /// Waits for the commit, and publishes.
    async fn pass_on(&self, pending: &Pending, turn: &mut Turn, deadline: Instant) -> Attempt {
        let marker = &pending.marker;
        let mut pauses = Pauses::doubling(FIRST_PAUSE, LONGEST_PAUSE);
        let mut was_under_way = false;
        loop {
            let look = turn.look();
            // As long as this sidecar carries out the transaction, the store need not be asked, nor the event given up.
            if self.core.under_way.contains(marker) {
                was_under_way = true;
                turn.is_missing(look);
            } else {
                let found = self.find(marker).await;
                let is_late = Instant::now() >= deadline;
                match found {
                    Marker::In(store, config) => {
                        return self.publish_in_turn(pending, turn, store, &config).await;
                    }
                    Marker::Nowhere { discards: true } if is_late => {
                        tracing::error!(
                            target: LOG,
                            "event {marker} of the outbox is discarded: its transaction is not committed"
                        );
                        return Attempt::Discarded;
                    }
                    Marker::Nowhere { .. } if is_late => {
                        turn.step_aside();
                        return Attempt::Uncommitted;
                    }
                    // Q-outbox-discard
                    Marker::Unknown(problem) if is_late => {
                        turn.step_aside();
                        return Attempt::Failed(problem);
                    }
                    // Its transaction has failed: if its marker comes all the same, it does beside the others.
                    Marker::Nowhere { .. } if was_under_way => turn.step_aside(),
                    Marker::Nowhere { .. } => turn.is_missing(look),
                    Marker::Unknown(_) => {}
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let waits = tokio::select! {
                waits = self.pause(pauses.pause().min(left).max(FIRST_PAUSE)) => waits,
                () = turn.hurried() => true,
            };
            if !waits {
                return Attempt::Ending;
            }
        }
    }

    /// Publishes what is committed, behind those that were before it.
    async fn publish_in_turn(
        &self,
        pending: &Pending,
        turn: &Turn,
        store: String,
        config: &Config,
    ) -> Attempt {
        let comes = tokio::select! {
            biased;
            comes = turn.comes() => comes,
            () = self.ending() => false,
        };
        if !comes {
            return Attempt::Ending;
        }
        match self.publish_pending(pending, config).await {
            Ok(()) => Attempt::Published { store },
            Err(error) => Attempt::Failed(error.to_string()),
        }
    }

    /// Looks for a marker in the stores that publish to this topic.
    async fn find(&self, marker: &str) -> Marker {
        let options = &self.core.options;
        let subscription = &self.subscription;
        let (mut asked, mut discards, mut problem) = (false, true, None);
        for (store, config) in configured(&options.state) {
            let is_fed = config.internal_topic(options) == subscription.topic;
            if !is_fed || config.via != subscription.pubsub {
                continue;
            }
            asked = true;
            let request = GetRequest {
                key: marker.to_owned(),
                consistency: Consistency::Strong,
                ..GetRequest::default()
            };
            match options.state.raw(&store).get(&request).await {
                Ok(Some(_)) => return Marker::In(store, config),
                Ok(None) => discards &= config.discards,
                Err(error) => problem = Some(error.to_string()),
            }
        }
        match problem {
            Some(problem) => Marker::Unknown(problem),
            None if asked => Marker::Nowhere { discards },
            None => Marker::Unknown("its store is not loaded".to_owned()),
        }
    }

    async fn publish_pending(&self, pending: &Pending, config: &Config) -> Result<(), Error> {
        let mut event = pending.event.clone();
        event.address(&config.pubsub, &config.topic);
        let event = event.to_json().into();
        self.core
            .publish_event(&config.pubsub, &config.topic, event)
            .await
    }

    /// Removes the marker of an event that is out. One that cannot be removed does no harm.
    async fn unmark(&self, store: &str, marker: String) {
        let raw = self.core.options.state.raw(store);
        let remove = [Operation::Delete(DeleteRequest {
            key: marker,
            ..DeleteRequest::default()
        })];
        let mut pause = FIRST_PAUSE;
        for left in (0..UNMARK_ATTEMPTS).rev() {
            let Err(error) = raw.transact(&remove, &Default::default()).await else {
                return;
            };
            if left == 0 || !self.pause(pause).await {
                tracing::warn!(target: LOG, "a marker of the outbox stays in state store {store}: {error}");
                return;
            }
            pause = (pause * 4).min(LONGEST_PAUSE);
        }
    }
}

/// How long an event waits for its transaction before the store's configuration says what becomes of it.
const COMMIT_LIMIT: Duration = Duration::from_secs(11);

/// Pauses between looks at the store.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Attempts to remove a marker.
const UNMARK_ATTEMPTS: u32 = 5;

/// Between attempts to publish what is committed, where the broker does not deliver it again or must not: it forgets a
/// message, or drops it, once it is told of it.
const IN_PLACE: Backoff = Backoff {
    first: Duration::from_millis(500),
    longest: Duration::from_secs(30),
    attempts: None,
};
