//! What is to be opened, replaced and closed, and when: the distance between the components that are wanted and those that
//! run. Times and results go in, steps come out; the loader carries them out.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use crds::{Component, Kind};
use tokio::time::Instant;

/// Pause before a component that could not be opened is tried again; doubled with every failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Longest pause before the next attempt.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A component that has run for so long without a panic is a sound one, whatever happened before.
const SOUND_AFTER: Duration = Duration::from_secs(60);

/// Which opening of a component something belongs to: a loop of one that has been replaced says nothing about its successor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(u64);

/// What is to be done next about one component.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Open it, then close what it replaces.
    Open {
        component: Component,
        generation: Generation,
        replaces: Option<Box<Component>>,
    },
    Close(Component),
}

/// A component that is wanted and does not run as wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Failed {
    pub component: Component,
    /// Whether the one before it goes on serving.
    pub previous_runs: bool,
}

/// All components by name.
#[derive(Debug, Default)]
pub struct Plan {
    entries: BTreeMap<String, Entry>,
    generations: u64,
}

#[derive(Debug, Default)]
struct Entry {
    wanted: Option<Component>,
    running: Option<Running>,
    /// The opening that is under way.
    opening: Option<Generation>,
    closing: bool,
    /// When to act; `None` while there is nothing to do, or nothing that could be done.
    due: Option<Instant>,
    /// Failures in a row.
    failures: u32,
    /// The wanted one could not be opened.
    failed: bool,
}

#[derive(Debug)]
struct Running {
    component: Component,
    generation: Generation,
    since: Instant,
    /// One of its loops has panicked.
    broken: bool,
}

impl Plan {
    /// A component is wanted as it is here.
    pub fn want(&mut self, component: Component, now: Instant) {
        let entry = self.entries.entry(component.name().to_owned()).or_default();
        if entry
            .wanted
            .as_ref()
            .is_some_and(|wanted| same(wanted, &component))
        {
            return;
        }
        entry.wanted = Some(component);
        entry.renew(now);
    }

    /// A component is not wanted any more.
    pub fn unwant(&mut self, name: &str, now: Instant) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.wanted = None;
            entry.renew(now);
            self.forget(name);
        }
    }

    /// The next step that is due, which from now on is under way. Secret stores come first: others refer to them.
    pub fn next(&mut self, now: Instant) -> Option<Step> {
        let ready = |entry: &&Entry| entry.is_ready(now);
        let mut all = self.entries.values().filter(ready);
        let name = all
            .clone()
            .find(|entry| entry.is_secret_store())
            .or_else(|| all.find(|entry| !self.waits(entry, now)))?
            .name()?
            .to_owned();
        self.generations += 1;
        let generation = Generation(self.generations);
        let entry = self.entries.get_mut(&name)?;
        entry.due = None;
        let running = entry.running.as_ref().map(|it| it.component.clone());
        match entry.wanted.clone() {
            Some(component) => {
                entry.opening = Some(generation);
                Some(Step::Open {
                    component,
                    generation,
                    replaces: running.map(Box::new),
                })
            }
            None => {
                entry.closing = running.is_some();
                running.map(Step::Close)
            }
        }
    }

    /// When something is due that is not yet.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let idle = self.entries.values().filter(|entry| !entry.is_busy());
        idle.filter_map(|entry| entry.due.filter(|due| *due > now))
            .min()
    }

    /// An opening has succeeded.
    pub fn opened(&mut self, component: Component, generation: Generation, now: Instant) {
        let Some(entry) = self.entries.get_mut(component.name()) else {
            return;
        };
        let broken = entry.opening.take() != Some(generation);
        let as_wanted = entry.wanted.as_ref().is_some_and(|it| same(it, &component));
        entry.running = Some(Running {
            component,
            generation,
            since: now,
            broken: false,
        });
        if !as_wanted {
            entry.due = Some(now);
        } else if broken {
            entry.break_down(now);
        } else {
            entry.failed = false;
            // What was asked for meanwhile, and taken back, or of the one before.
            entry.due = None;
        }
    }

    /// An opening has failed. Answers the pause before the next attempt; none where another would end the same way, or where
    /// something else is wanted by now. `jitter` is between 0 and 1.
    pub fn failed(
        &mut self,
        component: &Component,
        again: bool,
        now: Instant,
        jitter: f64,
    ) -> Option<Duration> {
        let entry = self.entries.get_mut(component.name())?;
        entry.opening = None;
        if !entry.wanted.as_ref().is_some_and(|it| same(it, component)) {
            entry.renew(now);
            self.forget(component.name());
            return None;
        }
        entry.failed = true;
        entry.failures = entry.failures.saturating_add(1);
        let pause = again.then(|| pause(entry.failures, jitter));
        entry.due = pause.map(|pause| now + pause);
        pause
    }

    /// A component has been closed.
    pub fn closed(&mut self, name: &str, now: Instant) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.closing = false;
            entry.running = None;
            entry.due = entry.wanted.is_some().then_some(now);
            self.forget(name);
        }
    }

    /// A loop of a component has panicked: it is opened anew, after a pause. Answers whether it still is that component.
    pub fn broke(&mut self, name: &str, generation: Generation, now: Instant, jitter: f64) -> bool {
        let Some(entry) = self.entries.get_mut(name) else {
            return false;
        };
        if entry.opening == Some(generation) {
            // Told by `opened` that it is not the one it was.
            entry.opening = Some(Generation::default());
            return true;
        }
        match &mut entry.running {
            Some(running) if running.generation == generation && !running.broken => {
                running.broken = true;
                if now.duration_since(running.since) >= SOUND_AFTER {
                    entry.failures = 0;
                }
                entry.failures = entry.failures.saturating_add(1);
                let pause = pause(entry.failures, jitter);
                entry.due.get_or_insert(now + pause);
                true
            }
            _ => false,
        }
    }

    /// Whether that opening of a component is the one that runs, and nothing is done about it.
    pub fn is_at_rest(&self, name: &str, generation: Generation) -> bool {
        self.entries.get(name).is_some_and(|entry| {
            let running = entry.running.as_ref();
            !entry.is_busy() && running.is_some_and(|running| running.generation == generation)
        })
    }

    /// What is wanted and does not run as wanted, by name.
    pub fn failures(&self) -> impl Iterator<Item = Failed> {
        let failed = self.entries.values().filter(|entry| entry.failed);
        failed.filter_map(|entry| {
            Some(Failed {
                component: entry.wanted.clone()?,
                previous_runs: entry.running.is_some(),
            })
        })
    }

    /// What runs, by name.
    #[cfg(test)]
    pub fn running(&self) -> impl Iterator<Item = &Component> {
        let running = self.entries.values().filter_map(|it| it.running.as_ref());
        running.map(|running| &running.component)
    }

    /// Whether a component refers to a secret store that is about to be opened.
    fn waits(&self, entry: &Entry, now: Instant) -> bool {
        let store = entry.wanted.as_ref().and_then(Kind::secret_store);
        let store = store.and_then(|name| self.entries.get(name));
        store.is_some_and(|store| {
            store.is_secret_store()
                && store.failures == 0
                && (store.is_busy() || store.is_ready(now))
        })
    }

    fn forget(&mut self, name: &str) {
        let done = self.entries.get(name).is_some_and(|entry| {
            entry.wanted.is_none() && entry.running.is_none() && !entry.is_busy()
        });
        if done {
            self.entries.remove(name);
        }
    }
}

impl Entry {
    /// Something else is wanted: what has failed before does not count any more.
    fn renew(&mut self, now: Instant) {
        self.failures = 0;
        self.failed = false;
        let as_wanted = match (&self.wanted, &self.running) {
            (Some(wanted), Some(running)) => same(wanted, &running.component) && !running.broken,
            (None, None) => true,
            _ => false,
        };
        self.due = (!as_wanted).then_some(now);
    }

    fn break_down(&mut self, now: Instant) {
        if let Some(running) = &mut self.running {
            running.broken = true;
        }
        self.failures = self.failures.saturating_add(1);
        self.due = Some(now + pause(self.failures, 1.0));
    }

    fn is_busy(&self) -> bool {
        self.opening.is_some() || self.closing
    }

    fn is_ready(&self, now: Instant) -> bool {
        !self.is_busy() && self.due.is_some_and(|due| due <= now)
    }

    fn is_secret_store(&self) -> bool {
        let wanted = self.wanted.as_ref();
        wanted.is_some_and(|component| component.spec.category() == "secretstores")
    }

    fn name(&self) -> Option<&str> {
        let running = self.running.as_ref().map(|it| &it.component);
        self.wanted.as_ref().or(running).map(Kind::name)
    }
}

/// Whether two resources ask for the same component.
fn same(one: &Component, other: &Component) -> bool {
    one.spec == other.spec && one.auth == other.auth
}

/// Between half and all of what doubles with every failure, so that what failed together does not come back together.
fn pause(failures: u32, jitter: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let full = FIRST_PAUSE
        .saturating_mul(1 << doublings)
        .min(LONGEST_PAUSE);
    full.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}
