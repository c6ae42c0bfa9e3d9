//! What a call of another app is judged by, of the instance that it calls: little of it, so that the history is read and verified once
//! for as long as nobody writes it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::Mutex;
use proto::durabletask::HistoryEvent;

use crate::{
    core::{
        event,
        resolution::{self, Resolution},
    },
    record::Record,
};

/// What is known of an instance whose history was verified.
#[derive(Debug, Default, PartialEq)]
pub struct Known {
    pub name: String,
    /// What it has asked other apps for.
    asked: HashMap<String, HashSet<Resolution>>,
}

/// The row of lengths with its tag, which changes with each writing.
pub type Version = (Bytes, String);

/// What was found out last, and as of when.
#[derive(Default)]
pub struct Judged(Mutex<Option<(Version, Arc<Known>)>>);

impl Known {
    /// What of an instance counts.
    pub fn of(record: &Record) -> Self {
        let mut asked: HashMap<String, HashSet<_>> = HashMap::new();
        for event in &record.history {
            let target = event::target(event.router.as_ref());
            if let Some((awaited, target)) = resolution::awaited(event).zip(target) {
                asked.entry(target.to_owned()).or_default().insert(awaited);
            }
        }
        Self {
            name: record.name(),
            asked,
        }
    }

    /// Whether an app was asked for what it says the end of.
    pub fn was_asked(&self, event: &HistoryEvent, caller: &str) -> bool {
        let asked = self.asked.get(caller);
        asked
            .zip(resolution::of(event))
            .is_some_and(|(asked, of)| asked.contains(&of))
    }
}

impl Judged {
    /// What is known, where nobody has written since.
    pub fn get(&self, version: &Version) -> Option<Arc<Known>> {
        let known = self.0.lock();
        let known = known.as_ref().filter(|(as_of, _)| as_of == version)?;
        Some(Arc::clone(&known.1))
    }

    pub fn set(&self, version: Version, known: Arc<Known>) {
        *self.0.lock() = Some((version, known));
    }
}
