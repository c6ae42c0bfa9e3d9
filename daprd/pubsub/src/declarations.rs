//! Which subscriptions there are. A subscription of the app itself takes the place of a resource's for the same topic;
//! streams stand beside both.

use std::{collections::BTreeMap, sync::Arc};

use indexmap::IndexMap;

use crate::{
    stream::Session,
    subscription::{Listed, Subscription},
};

#[derive(Default)]
pub struct Declarations {
    /// By resource name, in the order in which they came.
    declarative: IndexMap<String, Arc<Subscription>>,
    programmatic: Vec<Arc<Subscription>>,
    streams: BTreeMap<u64, (Arc<Subscription>, Arc<Session>)>,
    next_stream: u64,
}

impl Declarations {
    pub fn declare(&mut self, name: String, subscription: Subscription) {
        self.declarative.shift_remove(&name);
        self.declarative.insert(name, Arc::new(subscription));
    }

    pub fn withdraw(&mut self, name: &str) {
        self.declarative.shift_remove(name);
    }

    pub fn set_programmatic(&mut self, subscriptions: Vec<Subscription>) {
        self.programmatic = subscriptions.into_iter().map(Arc::new).collect();
    }

    pub fn add_stream(&mut self, subscription: Arc<Subscription>, session: Arc<Session>) -> u64 {
        let id = self.next_stream;
        self.next_stream += 1;
        self.streams.insert(id, (subscription, session));
        id
    }

    pub fn has_stream(&self, id: u64) -> bool {
        self.streams.contains_key(&id)
    }

    pub fn remove_stream(&mut self, id: u64) {
        self.streams.remove(&id);
    }

    /// The streams of one component, or of all.
    pub fn streams(&self, pubsub: Option<&str>) -> Vec<(u64, Arc<Subscription>, Arc<Session>)> {
        self.streams
            .iter()
            .filter(|(_, (subscription, _))| pubsub.is_none_or(|name| subscription.pubsub == name))
            .map(|(id, (subscription, session))| {
                (*id, Arc::clone(subscription), Arc::clone(session))
            })
            .collect()
    }

    /// Whether the app is to get the messages of a topic.
    pub fn has(&self, pubsub: &str, topic: &str) -> bool {
        let mut all = self.declarative.values().chain(&self.programmatic);
        all.any(|one| key(one) == (pubsub, topic))
    }

    pub fn listed(&self) -> Vec<Listed> {
        let app = self.of_app().into_iter();
        let streams = self
            .streams
            .values()
            .map(|(subscription, _)| Arc::clone(subscription));
        app.chain(streams)
            .map(|subscription| subscription.listed())
            .collect()
    }

    /// The subscriptions that deliver to the app, one per topic: the first resource of it, and before that the last of the
    /// app itself.
    pub fn of_app(&self) -> Vec<Arc<Subscription>> {
        let mut by_topic: IndexMap<(&str, &str), &Arc<Subscription>> = IndexMap::new();
        for subscription in self.declarative.values() {
            by_topic.entry(key(subscription)).or_insert(subscription);
        }
        for subscription in &self.programmatic {
            by_topic.insert(key(subscription), subscription);
        }
        by_topic.into_values().cloned().collect()
    }
}

fn key(subscription: &Subscription) -> (&str, &str) {
    (&subscription.pubsub, &subscription.topic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{StreamRequest, SubscriptionKind};

    fn subscription(pubsub: &str, topic: &str, kind: SubscriptionKind) -> Subscription {
        let request = StreamRequest {
            pubsub: pubsub.into(),
            topic: topic.into(),
            ..StreamRequest::default()
        };
        Subscription {
            kind,
            ..Subscription::streaming(request)
        }
    }

    fn topics(declarations: &Declarations) -> Vec<(String, SubscriptionKind)> {
        let listed = declarations.listed().into_iter();
        listed.map(|one| (one.topic, one.kind)).collect()
    }

    #[test]
    fn the_apps_own_take_the_place_of_resources() {
        use SubscriptionKind::{Declarative, Programmatic, Streaming};
        let mut declarations = Declarations::default();
        declarations.declare("one".into(), subscription("bus", "a", Declarative));
        declarations.declare("two".into(), subscription("bus", "b", Declarative));
        declarations.declare("shadowed".into(), subscription("bus", "b", Declarative));
        declarations.set_programmatic(vec![
            subscription("bus", "b", Programmatic),
            subscription("other", "c", Programmatic),
        ]);
        let (session, _events) = Session::new();
        let stream = Arc::new(subscription("bus", "a", Streaming));
        let id = declarations.add_stream(stream, session);
        let all = [
            ("a".to_owned(), Declarative),
            ("b".to_owned(), Programmatic),
            ("c".to_owned(), Programmatic),
            ("a".to_owned(), Streaming),
        ];
        assert_eq!(topics(&declarations), all);
        assert_eq!(declarations.of_app().len(), 3);
        declarations.remove_stream(id);
        declarations.withdraw("one");
        assert_eq!(topics(&declarations), all[1..3]);
    }
}
