//! Which subscriptions there are. A subscription of the app itself takes the place of a resource's for the same topic;
//! streams stand beside both.

use std::{collections::BTreeMap, sync::Arc};

use indexmap::IndexMap;

use crate::{
    stream::Sink,
    subscription::{Listed, Subscription},
};

#[derive(Default)]
pub struct Book {
    /// By resource name, in the order in which they came.
    declarative: IndexMap<String, Arc<Subscription>>,
    programmatic: Vec<Arc<Subscription>>,
    streams: BTreeMap<u64, (Arc<Subscription>, Arc<Sink>)>,
    next_stream: u64,
}

impl Book {
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

    pub fn add_stream(&mut self, subscription: Arc<Subscription>, sink: Arc<Sink>) -> u64 {
        let id = self.next_stream;
        self.next_stream += 1;
        self.streams.insert(id, (subscription, sink));
        id
    }

    pub fn remove_stream(&mut self, id: u64) {
        self.streams.remove(&id);
    }

    /// The streams of one component, or of all.
    pub fn streams(&self, pubsub: Option<&str>) -> Vec<(u64, Arc<Subscription>, Arc<Sink>)> {
        self.streams
            .iter()
            .filter(|(_, (subscription, _))| pubsub.is_none_or(|name| subscription.pubsub == name))
            .map(|(id, (subscription, sink))| (*id, Arc::clone(subscription), Arc::clone(sink)))
            .collect()
    }

    /// The subscriptions that deliver to the app from one component, one per topic.
    pub fn of_app(&self, pubsub: &str) -> Vec<Arc<Subscription>> {
        let all = self.effective().into_iter();
        all.filter(|subscription| subscription.pubsub == pubsub)
            .collect()
    }

    pub fn listed(&self) -> Vec<Listed> {
        let app = self.effective().into_iter();
        let streams = self
            .streams
            .values()
            .map(|(subscription, _)| Arc::clone(subscription));
        app.chain(streams)
            .map(|subscription| subscription.listed())
            .collect()
    }

    /// The first resource of a topic counts, and the last subscription of the app itself.
    fn effective(&self) -> Vec<Arc<Subscription>> {
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

    fn topics(book: &Book) -> Vec<(String, SubscriptionKind)> {
        let listed = book.listed().into_iter();
        listed.map(|one| (one.topic, one.kind)).collect()
    }

    #[test]
    fn the_apps_own_take_the_place_of_resources() {
        use SubscriptionKind::{Declarative, Programmatic, Streaming};
        let mut book = Book::default();
        book.declare("one".into(), subscription("bus", "a", Declarative));
        book.declare("two".into(), subscription("bus", "b", Declarative));
        book.declare("shadowed".into(), subscription("bus", "b", Declarative));
        book.set_programmatic(vec![
            subscription("bus", "b", Programmatic),
            subscription("other", "c", Programmatic),
        ]);
        let (sink, _events) = Sink::new();
        let stream = Arc::new(subscription("bus", "a", Streaming));
        let id = book.add_stream(stream, sink);
        let all = [
            ("a".to_owned(), Declarative),
            ("b".to_owned(), Programmatic),
            ("c".to_owned(), Programmatic),
            ("a".to_owned(), Streaming),
        ];
        assert_eq!(topics(&book), all);
        assert_eq!(book.of_app("bus").len(), 2);
        book.remove_stream(id);
        book.withdraw("one");
        assert_eq!(topics(&book), all[1..3]);
    }
}
