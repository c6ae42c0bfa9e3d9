//! In which order the paths of a batch are called: messages of one order key that go to different paths do so one after
//! another, all others at the first opportunity.

use std::collections::{BTreeMap, HashMap};

use super::{entry::Entry, progress::Progress};

/// Calls that may be made in any order.
type ByPath = BTreeMap<String, Progress>;

/// Calls in the order in which they are made.
#[derive(Default)]
pub struct Rounds {
    rounds: Vec<ByPath>,
    /// Round and path of the last message of each order key.
    last: HashMap<String, (usize, String)>,
}

impl Rounds {
    /// The next message of the batch.
    pub fn add(&mut self, path: String, entry: Entry) {
        let mut round = 0;
        if let Some(key) = &entry.delivery.order_key {
            round = match self.last.get(key) {
                Some((last, before)) => last + usize::from(*before != path),
                None => 0,
            };
            self.last.insert(key.clone(), (round, path.clone()));
        }
        if round == self.rounds.len() {
            self.rounds.push(ByPath::new());
        }
        let progress = self.rounds[round].entry(path).or_default();
        progress.left.get_mut().push(entry);
    }

    /// The rounds.
    pub fn in_order(self) -> impl Iterator<Item = ByPath> {
        self.rounds.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use component::pubsub::{Ack, Delivery, Message};

    use super::*;
    use crate::json;

    fn entry(id: &str, key: Option<&str>) -> Entry {
        let mut delivery = Delivery::new(Message::default(), Ack::none());
        delivery.order_key = key.map(str::to_owned);
        Entry {
            id: id.to_owned(),
            delivery,
            content_type: String::new(),
            text: json::raw("{}".into()),
            event: None,
        }
    }

    #[test]
    fn a_key_goes_from_path_to_path_in_its_order() {
        let mut rounds = Rounds::default();
        for (id, key, path) in [
            ("1", Some("k"), "/b"),
            ("2", Some("k"), "/b"),
            ("3", Some("k"), "/a"),
            ("4", Some("k"), "/b"),
            ("5", Some("other"), "/a"),
            ("6", None, "/b"),
        ] {
            rounds.add(path.to_owned(), entry(id, key));
        }
        let rounds: Vec<Vec<_>> = rounds
            .in_order()
            .map(|by_path| {
                let calls = by_path.into_iter().map(|(path, progress)| {
                    let left = progress.left.into_inner();
                    let ids: Vec<_> = left.into_iter().map(|entry| entry.id).collect();
                    format!("{path} {}", ids.concat())
                });
                calls.collect()
            })
            .collect();
        let first = vec!["/a 5".to_owned(), "/b 126".to_owned()];
        assert_eq!(rounds, [first, vec!["/a 3".into()], vec!["/b 4".into()]]);
    }
}
