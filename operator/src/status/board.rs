//! The reports of all sidecars, by component, without I/O. A sidecar that does not report any more is forgotten.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crds::component::{Failure, Status};
use kubernetes::Key;
use tokio::time::Instant;

/// When a sidecar reports again if nothing has changed.
pub const AGAIN: Duration = Duration::from_secs(5 * 60);

/// How long a report counts: the sidecar may have missed one.
pub const LIFE: Duration = Duration::from_secs(2 * 5 * 60 + 60);

/// Sidecars that are known at a time.
pub const MOST_SIDECARS: usize = 50_000;

/// Components of one sidecar.
pub const MOST_COMPONENTS: usize = 500;

/// The longest reason that is kept, in bytes.
pub const LONGEST_REASON: usize = 256;

/// Sidecars and apps that a status names; all are counted.
pub const MOST_NAMED: usize = 10;

/// A sidecar: its app and its pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sidecar {
    pub namespace: String,
    pub app_id: String,
    pub pod: String,
}

/// There are too many sidecars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Why a component is not open in a sidecar; `None` if it is.
pub type Reason = Option<String>;

#[derive(Debug, Default)]
pub struct Board {
    sidecars: HashMap<Arc<Sidecar>, Known>,
    components: HashMap<Key, BTreeMap<Arc<Sidecar>, Reason>>,
    /// Components whose status may be another one now.
    changed: BTreeSet<Key>,
}

#[derive(Debug)]
struct Known {
    at: Instant,
    names: BTreeSet<String>,
}

impl Board {
    /// Takes all that a sidecar says, in place of what it said before.
    pub fn report(
        &mut self,
        sidecar: Sidecar,
        components: BTreeMap<String, Reason>,
        now: Instant,
    ) -> Result<(), Full> {
        if self.sidecars.len() >= MOST_SIDECARS && !self.sidecars.contains_key(&sidecar) {
            return Err(Full);
        }
        let sidecar = Arc::new(sidecar);
        let names = components.keys().cloned().collect();
        let known = Known { at: now, names };
        let before = self.sidecars.insert(Arc::clone(&sidecar), known);
        for name in before.iter().flat_map(|before| &before.names) {
            if !components.contains_key(name) {
                self.take_out(&sidecar, name);
            }
        }
        for (name, reason) in components {
            let key = Key::new(&sidecar.namespace, &name);
            let said = self.components.entry(key.clone()).or_default();
            if said.get(&sidecar) != Some(&reason) {
                said.insert(Arc::clone(&sidecar), reason);
                self.changed.insert(key);
            }
        }
        Ok(())
    }

    /// Forgets those that have not reported for long.
    pub fn expire(&mut self, now: Instant) {
        let mut gone = Vec::new();
        self.sidecars.retain(|sidecar, known| {
            let stays = now.saturating_duration_since(known.at) < LIFE;
            if !stays {
                gone.push((Arc::clone(sidecar), std::mem::take(&mut known.names)));
            }
            stays
        });
        for (sidecar, names) in gone {
            for name in names {
                self.take_out(&sidecar, &name);
            }
        }
    }

    fn take_out(&mut self, sidecar: &Arc<Sidecar>, name: &str) {
        let key = Key::new(&sidecar.namespace, name);
        if let Some(said) = self.components.get_mut(&key) {
            said.remove(sidecar);
            if said.is_empty() {
                self.components.remove(&key);
            }
            self.changed.insert(key);
        }
    }

    /// Components whose status may be another one since the last time, at most so many.
    pub fn take_changed(&mut self, most: usize) -> Vec<Key> {
        std::iter::from_fn(|| self.changed.pop_first())
            .take(most)
            .collect()
    }

    /// What has to be looked at once more.
    pub fn again(&mut self, key: Key) {
        self.changed.insert(key);
    }

    /// What is known of a component.
    pub fn status(&self, key: &Key) -> Status {
        let mut status = Status::default();
        let mut apps = BTreeSet::new();
        for (sidecar, reason) in self.components.get(key).into_iter().flatten() {
            let Some(reason) = reason else {
                status.loaded += 1;
                apps.insert(&sidecar.app_id);
                continue;
            };
            status.failed += 1;
            if status.failures.len() < MOST_NAMED {
                status.failures.push(Failure {
                    app_id: sidecar.app_id.clone(),
                    pod: sidecar.pod.clone(),
                    reason: reason.clone(),
                });
            }
        }
        status.apps = apps.into_iter().take(MOST_NAMED).cloned().collect();
        status.ready = format!("{}/{}", status.loaded, status.loaded + status.failed);
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sidecar(app_id: &str, pod: &str) -> Sidecar {
        Sidecar {
            namespace: "n".to_owned(),
            app_id: app_id.to_owned(),
            pod: pod.to_owned(),
        }
    }

    fn said(components: &[(&str, Option<&str>)]) -> BTreeMap<String, Reason> {
        let owned = components
            .iter()
            .map(|(name, reason)| ((*name).to_owned(), reason.map(str::to_owned)));
        owned.collect()
    }

    fn ready(board: &Board, name: &str) -> String {
        board.status(&Key::new("n", name)).ready
    }

    #[test]
    fn reports_are_counted_and_take_the_place_of_those_before() {
        let (mut board, now) = (Board::default(), Instant::now());
        let mut report = |app, pod, components: &[_]| {
            board
                .report(sidecar(app, pod), said(components), now)
                .unwrap();
            let changed = board.take_changed(10);
            let changed: Vec<_> = changed.into_iter().map(|key| key.name).collect();
            (changed.join(" "), ready(&board, "a"), ready(&board, "b"))
        };
        let is = |changed: &str, a: &str, b: &str| (changed.to_owned(), a.to_owned(), b.to_owned());
        let (open, failed) = (None, Some("refused"));
        assert_eq!(
            report("x", "1", &[("a", open), ("b", failed)]),
            is("a b", "1/1", "0/1")
        );
        assert_eq!(
            report("x", "2", &[("a", failed), ("b", failed)]),
            is("a b", "1/2", "0/2")
        );
        assert_eq!(
            report("x", "2", &[("a", failed), ("b", failed)]),
            is("", "1/2", "0/2")
        );
        assert_eq!(report("x", "2", &[("a", open)]), is("a b", "2/2", "0/1"));
        let status = board.status(&Key::new("n", "b"));
        assert_eq!((status.loaded, status.failed, status.apps.len()), (0, 1, 0));
        assert_eq!(
            (&*status.failures[0].pod, &*status.failures[0].reason),
            ("1", "refused")
        );
        assert_eq!(board.status(&Key::new("n", "a")).apps, ["x"]);
    }

    #[test]
    fn those_that_fall_silent_are_forgotten() {
        let (mut board, now) = (Board::default(), Instant::now());
        for pod in ["1", "2"] {
            board
                .report(sidecar("x", pod), said(&[("a", None)]), now)
                .unwrap();
        }
        board
            .report(sidecar("x", "2"), said(&[("a", None)]), now + AGAIN * 2)
            .unwrap();
        board.take_changed(10);
        board.expire(now + LIFE);
        assert_eq!(ready(&board, "a"), "1/1");
        assert_eq!(board.take_changed(10), [Key::new("n", "a")]);
        board.expire(now + LIFE * 3);
        assert!(board.sidecars.is_empty() && board.components.is_empty());
    }

    #[test]
    fn few_are_named_and_all_are_counted() {
        let (mut board, now) = (Board::default(), Instant::now());
        for count in 0..100 {
            let reason = (count % 2 == 0).then_some("no");
            let one = sidecar(&format!("app-{count}"), "p");
            board.report(one, said(&[("a", reason)]), now).unwrap();
        }
        let status = board.status(&Key::new("n", "a"));
        assert_eq!((status.loaded, status.failed), (50, 50));
        assert_eq!(
            (status.apps.len(), status.failures.len()),
            (MOST_NAMED, MOST_NAMED)
        );
        assert_eq!(status.ready, "50/100");
    }

    #[test]
    fn sidecars_are_limited() {
        let (mut board, now) = (Board::default(), Instant::now());
        for count in 0..MOST_SIDECARS {
            board
                .report(sidecar("x", &count.to_string()), said(&[]), now)
                .unwrap();
        }
        assert_eq!(
            board.report(sidecar("x", "more"), said(&[]), now),
            Err(Full)
        );
        assert_eq!(board.report(sidecar("x", "7"), said(&[]), now), Ok(()));
    }
}
