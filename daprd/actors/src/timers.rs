//! Timers, which are kept in memory by the sidecar that they were registered with (contract 11.3). What fires when is decided
//! without a clock; a timer fires again only once the app has had it, so that it never overtakes itself.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
};

use values::{Period, Timestamp, period};

use crate::{ActorId, Error, Timer, host::Firing, json::packed};

/// All timers of a sidecar.
#[derive(Default)]
pub struct Timers {
    timers: HashMap<Key, Entry>,
    /// The names of each actor's.
    names: HashMap<ActorId, HashSet<String>>,
    due: BinaryHeap<Reverse<(Timestamp, u64, Key)>>,
    /// Each registration has a number: what is in `due` of another is stale.
    next: u64,
}

type Key = (ActorId, String);

struct Entry {
    number: u64,
    firing: Firing,
    due: Timestamp,
    period: Option<Period>,
    /// How often it still fires; `None` without an end.
    left: Option<u32>,
    end: Option<Timestamp>,
}

/// A timer whose time has come.
pub struct Due {
    pub number: u64,
    pub firing: Firing,
}

impl Timers {
    /// Keeps a timer in place of one of the same name. True where it is one more.
    ///
    /// # Errors
    /// [`Error::Timer`] for one that makes no sense.
    pub fn add(&mut self, timer: Timer, now: Timestamp) -> Result<bool, Error> {
        let Timer {
            actor,
            name,
            due_time,
            period,
            ttl,
            callback,
            data,
        } = timer;
        let wrong = |what: &str, error: period::Error| {
            Error::Timer(format!("error parsing timer {what}: {error}"))
        };
        if !data.is_empty() && serde_json::from_slice::<serde::de::IgnoredAny>(&data).is_err() {
            return Err(Error::Timer("timer data is no JSON".to_owned()));
        }
        let parsed = match period.as_str() {
            "" => None,
            text => Some(
                text.parse::<Period>()
                    .map_err(|error| Error::Timer(format!("invalid timer period: {error}")))?,
            ),
        };
        let left = match parsed.map(|period| period.repetitions) {
            Some(Some(0)) => {
                return Err(Error::Timer(
                    "invalid timer period: has zero repetitions".to_owned(),
                ));
            }
            Some(Some(count)) => Some(u32::try_from(count).unwrap_or(u32::MAX)),
            Some(None) => None,
            None => Some(1),
        };
        let due = match due_time.as_str() {
            "" => now,
            text => period::moment(text, now).map_err(|error| wrong("due time", error))?,
        };
        let end = match ttl.as_str() {
            "" => None,
            text => {
                let end = period::moment(text, due).map_err(|error| wrong("TTL", error))?;
                if end <= now {
                    return Err(Error::Timer(format!(
                        "timer {actor}||{name} has already expired: {end}"
                    )));
                }
                Some(end)
            }
        };
        let key = (actor.clone(), name.clone());
        if !self.timers.contains_key(&key) && self.timers.len() >= MOST_TIMERS {
            return Err(Error::Timer(format!(
                "there are {MOST_TIMERS} timers already"
            )));
        }
        let number = self.next;
        self.next += 1;
        let firing = Firing {
            actor,
            name,
            due_time,
            period,
            callback,
            data: (!data.is_empty()).then(|| packed(data)),
            is_timer: true,
        };
        self.due.push(Reverse((due, number, key.clone())));
        let entry = Entry {
            number,
            firing,
            due,
            period: parsed.filter(|period| !period.is_zero()),
            left,
            end,
        };
        let names = self.names.entry(key.0.clone()).or_default();
        names.insert(key.1.clone());
        Ok(self.timers.insert(key, entry).is_none())
    }

    /// Takes a timer away. True where there was one.
    pub fn remove(&mut self, actor: &ActorId, name: &str) -> bool {
        let key = (actor.clone(), name.to_owned());
        if let Some(names) = self.names.get_mut(actor) {
            names.remove(name);
            if names.is_empty() {
                self.names.remove(actor);
            }
        }
        self.timers.remove(&key).is_some()
    }

    /// Takes all timers of an actor away, and says how many there were.
    pub fn remove_all(&mut self, actor: &ActorId) -> usize {
        let names = self.names.remove(actor).unwrap_or_default();
        let count = names.len();
        for name in names {
            self.timers.remove(&(actor.clone(), name));
        }
        count
    }

    /// When the next one is due.
    pub fn next(&mut self) -> Option<Timestamp> {
        while let Some(Reverse((due, number, key))) = self.due.peek() {
            if self.timers.get(key).is_some_and(|it| it.number == *number) {
                return Some(*due);
            }
            self.due.pop();
        }
        None
    }

    /// Those that are due; each says with [`Timers::fired`] that it was handed over.
    pub fn due(&mut self, now: Timestamp) -> Vec<Due> {
        let mut found = Vec::new();
        while self.next().is_some_and(|due| due <= now) {
            let Some(Reverse((_, number, key))) = self.due.pop() else {
                break;
            };
            if let Some(entry) = self.timers.get(&key) {
                found.push(Due {
                    number,
                    firing: entry.firing.clone(),
                });
            }
        }
        found
    }

    /// Whether a timer that was due is still wanted.
    pub fn is_wanted(&self, due: &Due) -> bool {
        let key = (due.firing.actor.clone(), due.firing.name.clone());
        self.timers
            .get(&key)
            .is_some_and(|entry| entry.number == due.number)
    }

    /// The app has had a timer, and wants no more of it or does. True where it was its last time.
    pub fn fired(&mut self, due: &Due, canceled: bool) -> bool {
        let key = (due.firing.actor.clone(), due.firing.name.clone());
        let Some(entry) = self.timers.get_mut(&key) else {
            return false;
        };
        if entry.number != due.number {
            return false;
        }
        entry.left = entry.left.map(|left| left.saturating_sub(1));
        let following = entry.period.and_then(|period| period.after(entry.due));
        let next = following.filter(|next| {
            !canceled && entry.left != Some(0) && entry.end.is_none_or(|end| *next < end)
        });
        match next {
            Some(next) => {
                entry.due = next;
                self.due.push(Reverse((next, due.number, key)));
                false
            }
            None => self.remove(&key.0, &key.1),
        }
    }
}

/// The most timers that a sidecar keeps.
pub const MOST_TIMERS: usize = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn timer(name: &str, due: &str, period: &str, ttl: &str) -> Timer {
        Timer {
            actor: ActorId {
                kind: "k".to_owned(),
                id: "1".to_owned(),
            },
            name: name.to_owned(),
            due_time: due.to_owned(),
            period: period.to_owned(),
            ttl: ttl.to_owned(),
            callback: String::new(),
            data: bytes::Bytes::new(),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    /// When a timer fires within a minute.
    fn fires(due: &str, period: &str, ttl: &str) -> Vec<i64> {
        let mut timers = Timers::default();
        assert!(timers.add(timer("n", due, period, ttl), at(0)).unwrap());
        let mut fired = Vec::new();
        while let Some(next) = timers.next().filter(|next| *next < at(60)) {
            for due in timers.due(next) {
                fired.push(next.as_second());
                timers.fired(&due, false);
            }
        }
        fired
    }

    #[test]
    fn timers_fire_as_often_as_they_say() {
        assert_eq!(fires("1s", "", ""), [1]);
        assert_eq!(fires("", "20s", ""), [0, 20, 40]);
        assert_eq!(fires("PT5S", "R2/PT10S", ""), [5, 15]);
        assert_eq!(fires("0s", "10s", "25s"), [0, 10, 20]);
        assert_eq!(fires("1970-01-01T00:00:07Z", "", ""), [7]);
    }

    #[test]
    fn a_timer_is_replaced_and_removed() {
        let mut timers = Timers::default();
        assert!(timers.add(timer("n", "1s", "1s", ""), at(0)).unwrap());
        let due = timers.due(at(1)).pop().unwrap();
        assert!(timers.is_wanted(&due));
        assert!(!timers.add(timer("n", "9s", "", ""), at(0)).unwrap());
        assert!(!timers.is_wanted(&due));
        assert!(!timers.fired(&due, false));
        assert_eq!(timers.next(), Some(at(9)));
        assert!(timers.remove(&due.firing.actor, "n"));
        assert!(!timers.remove(&due.firing.actor, "n"));
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_timer_that_is_canceled_is_gone() {
        let mut timers = Timers::default();
        timers.add(timer("n", "1s", "1s", ""), at(0)).unwrap();
        let due = timers.due(at(1)).pop().unwrap();
        assert!(timers.fired(&due, true));
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (due, period, ttl) in [
            ("soon", "", ""),
            ("", "often", ""),
            ("", "R0/PT1S", ""),
            ("", "", "-5s"),
            ("R5/PT1S", "", ""),
        ] {
            let refused = Timers::default().add(timer("n", due, period, ttl), at(10));
            assert!(
                matches!(refused, Err(Error::Timer(_))),
                "{due} {period} {ttl}"
            );
        }
    }
}
