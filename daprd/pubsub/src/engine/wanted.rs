//! Which subscriptions should be open: those of the app, the internal topics of outboxes, and streams.

use std::{collections::BTreeSet, sync::Arc};

use super::Inner;
use crate::{
    consumers::{Key, Wanted},
    core::LOG,
    delivery::Target,
    outbox,
    subscription::Subscription,
};

impl Inner {
    /// Those that should be open now; of the app's none where it is not `active`.
    pub(super) fn wanted(&self, active: bool) -> Vec<Wanted> {
        let declarations = self.declarations.lock();
        let mut wanted = Vec::new();
        if active {
            let mut unserved = BTreeSet::new();
            for subscription in declarations.of_app() {
                let (pubsub, topic) = (subscription.pubsub.clone(), subscription.topic.clone());
                let Ok(broker) = self.core.brokers.find(&pubsub) else {
                    unserved.insert((pubsub, topic));
                    continue;
                };
                let key = Key::App { pubsub, topic };
                wanted.push(Wanted {
                    key,
                    broker,
                    subscription,
                    target: Target::App,
                });
            }
            self.warn_unserved(unserved);
        }
        wanted.extend(self.relays());
        for (id, subscription, session) in declarations.streams(None) {
            if let Ok(broker) = self.core.brokers.find(&subscription.pubsub) {
                wanted.push(Wanted {
                    key: Key::Stream(id),
                    broker,
                    subscription,
                    target: Target::Stream(session),
                });
            }
        }
        wanted
    }

    /// The internal topics of outboxes, whatever the app's health is: what was committed is published. One whose component is
    /// missing is spoken of by the transactions that need it.
    fn relays(&self) -> impl Iterator<Item = Wanted> {
        let topics = outbox::internal_topics(&self.core.options).into_iter();
        topics.filter_map(|(pubsub, topic)| {
            let broker = self.core.brokers.find(&pubsub).ok()?;
            let subscription = Subscription::internal(pubsub.clone(), topic.clone());
            Some(Wanted {
                key: Key::Outbox { pubsub, topic },
                broker,
                subscription: Arc::new(subscription),
                target: Target::Outbox,
            })
        })
    }

    /// Says of each subscription that has no component, once, that it has none.
    fn warn_unserved(&self, unserved: BTreeSet<(String, String)>) {
        let mut known = self.unserved.lock();
        for (pubsub, topic) in unserved.difference(&known) {
            tracing::warn!(
                target: LOG,
                "the subscription to topic {topic} names pubsub {pubsub}, which is not loaded; it is opened once there is a component of that name"
            );
        }
        *known = unserved;
    }
}
