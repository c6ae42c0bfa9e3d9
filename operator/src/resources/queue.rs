//! What one sidecar has yet to be told, without I/O. A slow sidecar holds nobody up and loses nothing: beyond
//! [`BUFFER`] events, what happens to one resource is folded into the event that is already waiting.
//! Q-operator-slow-sidecar

use std::collections::VecDeque;
use std::sync::Arc;

use kubernetes::Change;

use super::Entry;

/// Events that wait one by one (contract 5.3).
pub const BUFFER: usize = 10;

/// Waiting events, each of another resource, at which a sidecar is given up; it reconnects and lists anew.
pub const MOST_WAITING: usize = 10_000;

/// What happened to a resource, from the point of view of one app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    Created,
    Updated,
    Deleted,
}

/// One event for one app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub kind: EventType,
    pub entry: Arc<Entry>,
}

impl Event {
    /// What a change means to an app: a resource that leaves its scope is deleted, one that enters it is created.
    pub fn of(change: &Change<Entry>, app_id: &str) -> Option<Self> {
        let in_scope = |entry: &&Arc<Entry>| entry.in_scope(app_id);
        let old = change.old.as_ref().filter(in_scope);
        let new = change.new.as_ref().filter(in_scope);
        let (kind, entry) = match (old, new) {
            (None, None) => return None,
            (Some(old), None) => (EventType::Deleted, old),
            (None, Some(new)) => (EventType::Created, new),
            (Some(_), Some(new)) => (EventType::Updated, new),
        };
        Some(Self {
            kind,
            entry: Arc::clone(entry),
        })
    }
}

impl Event {
    /// Makes one event of this and a later one of the same resource.
    pub fn fold(&mut self, later: Self) {
        self.kind = match (self.kind, later.kind) {
            (_, EventType::Deleted) => EventType::Deleted,
            (EventType::Created, _) => EventType::Created,
            // Deleted and made again before anyone looked: another version of the same thing.
            (EventType::Deleted | EventType::Updated, _) => EventType::Updated,
        };
        self.entry = later.entry;
    }
}

/// The sidecar takes its events too slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflow;

/// The waiting events of one sidecar, in order.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: VecDeque<Event>,
}

impl Queue {
    /// Adds an event at the end.
    pub fn push(&mut self, event: Event) -> Result<(), Overflow> {
        if self.waiting.len() >= BUFFER {
            // All are of one kind and one namespace, so the name tells resources apart.
            let same = |waiting: &&mut Event| waiting.entry.name == event.entry.name;
            if let Some(waiting) = self.waiting.iter_mut().rev().find(same) {
                waiting.fold(event);
                return Ok(());
            }
            if self.waiting.len() >= MOST_WAITING {
                return Err(Overflow);
            }
        }
        self.waiting.push_back(event);
        Ok(())
    }

    /// Takes the oldest event.
    pub fn pop(&mut self) -> Option<Event> {
        self.waiting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::tests::entry;
    use super::*;

    fn scoped(scopes: &[&str]) -> Arc<Entry> {
        let mut entry = entry("a", "1");
        entry.scopes = scopes.iter().map(|&scope| scope.to_owned()).collect();
        Arc::new(entry)
    }

    #[test]
    fn scopes_turn_updates_into_what_the_app_sees() {
        let (mine, all, other) = (scoped(&["me", "x"]), scoped(&[]), scoped(&["x"]));
        let cases = [
            (Some(&mine), Some(&all), Some((EventType::Updated, &all))),
            (Some(&mine), Some(&other), Some((EventType::Deleted, &mine))),
            (Some(&all), Some(&other), Some((EventType::Deleted, &all))),
            (Some(&other), Some(&mine), Some((EventType::Created, &mine))),
            (Some(&other), Some(&other), None),
            (None, Some(&mine), Some((EventType::Created, &mine))),
            (None, Some(&other), None),
            (Some(&mine), None, Some((EventType::Deleted, &mine))),
            (Some(&other), None, None),
        ];
        for (old, new, expected) in cases {
            let change = Change {
                key: kubernetes::Key::default(),
                old: old.cloned(),
                new: new.cloned(),
            };
            let expected = expected.map(|(kind, entry)| Event {
                kind,
                entry: Arc::clone(entry),
            });
            assert_eq!(Event::of(&change, "me"), expected);
        }
    }

    fn event(kind: EventType, name: &str, json: &'static str) -> Event {
        Event {
            kind,
            entry: Arc::new(entry(name, json)),
        }
    }

    #[test]
    fn a_few_events_wait_one_by_one() {
        let mut queue = Queue::default();
        queue.push(event(EventType::Created, "a", "1")).unwrap();
        queue.push(event(EventType::Updated, "a", "2")).unwrap();
        queue.push(event(EventType::Deleted, "a", "2")).unwrap();
        let kinds: Vec<_> = std::iter::from_fn(|| queue.pop())
            .map(|event| event.kind)
            .collect();
        assert_eq!(
            kinds,
            [EventType::Created, EventType::Updated, EventType::Deleted]
        );
    }

    #[test]
    fn many_events_are_folded_by_resource() {
        use EventType::{Created, Deleted, Updated};
        let mut queue = Queue::default();
        for index in 0..BUFFER - 3 {
            queue
                .push(event(Created, &format!("other-{index}"), "1"))
                .unwrap();
        }
        queue.push(event(Created, "new", "1")).unwrap();
        queue.push(event(Updated, "old", "1")).unwrap();
        queue.push(event(Deleted, "gone", "1")).unwrap();
        queue.push(event(Updated, "new", "2")).unwrap();
        queue.push(event(Deleted, "old", "2")).unwrap();
        queue.push(event(Created, "gone", "2")).unwrap();
        let events: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(events.len(), BUFFER);
        assert_eq!(
            events[BUFFER - 3..],
            [
                event(Created, "new", "2"),
                event(Deleted, "old", "2"),
                event(Updated, "gone", "2")
            ]
        );
    }

    #[test]
    fn a_queue_is_bounded() {
        let mut queue = Queue::default();
        for index in 0..MOST_WAITING {
            queue
                .push(event(EventType::Created, &index.to_string(), "1"))
                .unwrap();
        }
        assert_eq!(
            queue.push(event(EventType::Created, "more", "1")),
            Err(Overflow)
        );
        assert_eq!(queue.push(event(EventType::Updated, "7", "2")), Ok(()));
    }
}
