//! How far the messages of one path are: what the app has answered for good, and what is left to try again.

use std::collections::{BTreeMap, HashSet};

use parking_lot::Mutex;

use super::entry::Entry;
use crate::{
    core::LOG,
    outcome::{Dropped, Failure, Verdict},
};

/// What is to become of a message once its batch is through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Success,
    /// To the dead letter topic, where there is one.
    Drop,
    /// Dropped because the app takes no such batches; never dead-lettered.
    DropSilently,
    Failed,
    /// Not delivered yet: one before it in its order has failed.
    Behind,
}

/// What became of each message, by its entry's id.
pub type Answers = BTreeMap<String, Result<Verdict, Failure>>;

/// What an app said to a batch.
pub enum Answer {
    Entries(Answers),
    /// It takes no batches at this path.
    DropAll,
}

/// The messages of one path: those still to be delivered, and those that are through.
#[derive(Default)]
pub struct Progress {
    pub left: Mutex<Vec<Entry>>,
    pub ended: Mutex<Vec<(Entry, End)>>,
}

impl Progress {
    /// Leaves out messages of these order keys.
    pub fn hold_back(&mut self, stuck: &HashSet<String>) {
        let is_stuck = |entry: &mut Entry| {
            let key = entry.delivery.order_key.as_ref();
            key.is_some_and(|key| stuck.contains(key))
        };
        let held = self.left.get_mut().extract_if(.., is_stuck);
        let held = held.map(|entry| (entry, End::Behind));
        self.ended.get_mut().extend(held);
    }
}

/// Moves what the app has answered for good.
///
/// # Errors
/// Where something is left to try again.
pub fn apply(progress: &Progress, answer: Answer) -> Result<(), Failure> {
    let mut left = progress.left.lock();
    let mut ended = progress.ended.lock();
    let entries = std::mem::take(&mut *left);
    let mut answers = match answer {
        Answer::DropAll => {
            ended.extend(entries.into_iter().map(|entry| (entry, End::DropSilently)));
            return Ok(());
        }
        Answer::Entries(answers) => answers,
    };
    let mut problem = None;
    for entry in entries {
        let end = match answers.remove(&entry.id) {
            Some(Ok(Verdict::Success)) => End::Success,
            Some(Ok(Verdict::Drop(Dropped::ByApp | Dropped::NoPath))) => End::Drop,
            Some(Ok(Verdict::Drop(Dropped::NoCallback))) => End::DropSilently,
            Some(Err(failure)) => {
                problem = Some(failure);
                left.push(entry);
                continue;
            }
            None => {
                problem = Some(Failure::new("response not received, RETRY required"));
                left.push(entry);
                continue;
            }
        };
        ended.push((entry, end));
    }
    if !answers.is_empty() {
        tracing::warn!(target: LOG, "invalid entry ids received from app in the answer to a batch");
    }
    problem.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use component::pubsub::{Ack, Delivery, Message};

    use super::*;
    use crate::json;

    fn progress(ids: &[&str]) -> Progress {
        let entry = |id: &&str| Entry {
            id: (*id).to_owned(),
            delivery: Delivery::new(Message::default(), Ack::none()),
            content_type: String::new(),
            text: json::raw("{}".into()),
            event: None,
        };
        Progress {
            left: Mutex::new(ids.iter().map(entry).collect()),
            ended: Mutex::default(),
        }
    }

    fn left(progress: &Progress) -> Vec<String> {
        progress
            .left
            .lock()
            .iter()
            .map(|entry| entry.id.clone())
            .collect()
    }

    #[test]
    fn only_what_failed_is_left() {
        let progress = progress(&["a", "b", "c", "d"]);
        let answers = Answers::from([
            ("a".into(), Ok(Verdict::Success)),
            ("b".into(), Ok(Verdict::Drop(Dropped::ByApp))),
            ("c".into(), Err(Failure::new("RETRY"))),
            ("stranger".into(), Ok(Verdict::Success)),
        ]);
        assert!(apply(&progress, Answer::Entries(answers)).is_err());
        assert_eq!(left(&progress), ["c", "d"]);
        let ends: Vec<End> = progress.ended.lock().iter().map(|(_, end)| *end).collect();
        assert_eq!(ends, [End::Success, End::Drop]);

        let rest = ["c", "d"].map(|id| (id.to_owned(), Ok(Verdict::Success)));
        assert!(apply(&progress, Answer::Entries(rest.into())).is_ok());
        assert!(left(&progress).is_empty());
    }

    #[test]
    fn an_app_without_the_path_drops_all() {
        let progress = progress(&["a", "b"]);
        assert!(apply(&progress, Answer::DropAll).is_ok());
        assert!(
            progress
                .ended
                .lock()
                .iter()
                .all(|(_, end)| *end == End::DropSilently)
        );
    }
}
