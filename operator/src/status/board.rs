//! The reports of all sidecars, by component, without I/O. A sidecar that does not report any more is forgotten.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crds::component::{Failure, Status};
use kubernetes::Key;
use tokio::time::Instant;

/// When a sidecar reports again if nothing has changed.
pub const AGAIN: Duration = Duration::from_secs(5 * 60);

/// How long a report counts: the sidecar may have missed one.
pub const LIFE: Duration = Duration::from_secs(2 * 5 * 60 + 60);

/// Rows of one app, each a sidecar or a component of one: who has an app's certificate may name as many pods as he likes.
pub const MOST_ROWS_OF_APP: usize = 20_000;

/// Rows in all.
pub const MOST_ROWS: usize = 500_000;

/// The largest report, in bytes: all components of a sidecar, each with a name and a reason.
pub const LARGEST_REPORT: usize = 512 << 10;

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

/// There are too many rows, of the app or in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Why a component is not open in a sidecar; `None` if it is.
pub type Reason = Option<String>;

#[derive(Debug, Default)]
pub struct Board {
    sidecars: HashMap<Arc<Sidecar>, Known>,
    components: HashMap<Key, BTreeMap<Arc<Sidecar>, Reason>>,
    /// Rows by namespace and app.
    rows: HashMap<(String, String), usize>,
    all_rows: usize,
    /// Components whose status may be another one now.
    changed: Changed,
}

/// What is to be looked at, first come first served: what is put back waits behind all others.
#[derive(Debug, Default)]
struct Changed {
    order: VecDeque<Key>,
    there: HashSet<Key>,
}

impl Changed {
    fn insert(&mut self, key: Key) {
        if self.there.insert(key.clone()) {
            self.order.push_back(key);
        }
    }

    fn pop(&mut self) -> Option<Key> {
        let key = self.order.pop_front()?;
        self.there.remove(&key);
        Some(key)
    }
}

#[derive(Debug)]
struct Known {
    at: Instant,
    names: BTreeSet<String>,
}

impl Known {
    fn rows(&self) -> usize {
        self.names.len() + 1
    }
}

impl Board {
    /// Takes all that a sidecar says, in place of what it said before.
    pub fn report(
        &mut self,
        sidecar: Sidecar,
        components: BTreeMap<String, Reason>,
        now: Instant,
    ) -> Result<(), Full> {
        let names = components.keys().cloned().collect();
        let known = Known { at: now, names };
        let freed = self.sidecars.get(&sidecar).map_or(0, Known::rows);
        self.count(&sidecar, freed, known.rows())?;
        let sidecar = Arc::new(sidecar);
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

    /// Counts rows that go and come, if there is room for them.
    fn count(&mut self, sidecar: &Sidecar, freed: usize, taken: usize) -> Result<(), Full> {
        let app = (sidecar.namespace.clone(), sidecar.app_id.clone());
        let of_app = self.rows.get(&app).copied().unwrap_or_default();
        let (of_app, all) = (of_app - freed + taken, self.all_rows - freed + taken);
        if taken > freed && (of_app > MOST_ROWS_OF_APP || all > MOST_ROWS) {
            return Err(Full);
        }
        self.all_rows = all;
        match of_app {
            0 => self.rows.remove(&app),
            _ => self.rows.insert(app, of_app),
        };
        Ok(())
    }

    /// Forgets those that have not reported for long.
    pub fn expire(&mut self, now: Instant) {
        let mut gone = Vec::new();
        self.sidecars.retain(|sidecar, known| {
            let stays = now.saturating_duration_since(known.at) < LIFE;
            if !stays {
                let rows = known.rows();
                gone.push((Arc::clone(sidecar), std::mem::take(&mut known.names), rows));
            }
            stays
        });
        for (sidecar, names, rows) in gone {
            // Less is never too much.
            let _ = self.count(&sidecar, rows, 0);
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
        std::iter::from_fn(|| self.changed.pop())
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
            let changed: BTreeSet<_> = changed.into_iter().map(|key| key.name).collect();
            let changed: Vec<_> = changed.into_iter().collect();
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
        assert!(board.rows.is_empty() && board.all_rows == 0);
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
    fn an_app_has_room_of_its_own_and_no_more() {
        let (mut board, now) = (Board::default(), Instant::now());
        for count in 0..MOST_ROWS_OF_APP / 2 {
            let one = sidecar("x", &count.to_string());
            board.report(one, said(&[("a", None)]), now).unwrap();
        }
        let mut report = |app, pod, components: &[_]| {
            let report = board.report(sidecar(app, pod), said(components), now);
            report.is_ok()
        };
        assert!(!report("x", "more", &[]));
        assert!(!report("x", "7", &[("a", None), ("b", None)]));
        assert!(report("x", "7", &[("b", None)]) && report("x", "7", &[]));
        assert!(report("x", "more", &[]), "there is room again");
        assert!(report("y", "more", &[("a", None)]));
    }

    #[test]
    fn what_is_put_back_waits_behind_the_others() {
        let (mut board, now) = (Board::default(), Instant::now());
        let components = said(&[("a", None), ("b", None)]);
        board.report(sidecar("x", "1"), components, now).unwrap();
        let first = board.take_changed(1).remove(0);
        board.again(first.clone());
        board.again(first.clone());
        assert_eq!(board.take_changed(5), [Key::new("n", "b"), first]);
    }
}
