//! What goes wrong, and when.

use std::time::Duration;

use crate::request::Target;

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// It is answered this much later.
    Latency(Duration),
    /// It is taken and never answered; nothing is done about it.
    Hang,
    /// It is carried out and never answered.
    Mute,
    /// Its answer begins and never goes on.
    Stall,
    /// Its connection breaks.
    Break,
    /// It is refused with this status code.
    Status(u16),
}

/// Which requests a fault is for.
#[derive(Clone, Debug, Default)]
pub struct On {
    verb: Option<String>,
    plural: Option<String>,
    everywhere: bool,
    times: Option<usize>,
}

impl On {
    /// All requests.
    pub fn all() -> Self {
        Self::default()
    }

    /// Those of a verb: get, list, watch, create, update, patch, delete.
    pub fn verb(verb: &str) -> Self {
        Self {
            verb: Some(verb.to_owned()),
            ..Self::default()
        }
    }

    /// Those about a kind, by its plural.
    #[must_use]
    pub fn of(mut self, plural: &str) -> Self {
        self.plural = Some(plural.to_owned());
        self
    }

    /// Those that are about no single namespace, which rights in namespaces do not allow.
    #[must_use]
    pub const fn everywhere(mut self) -> Self {
        self.everywhere = true;
        self
    }

    /// Only so many of them.
    #[must_use]
    pub const fn times(mut self, times: usize) -> Self {
        self.times = Some(times);
        self
    }

    fn matches(&self, verb: &str, target: &Target) -> bool {
        self.verb.as_deref().is_none_or(|wanted| wanted == verb)
            && self
                .plural
                .as_deref()
                .is_none_or(|plural| plural == target.plural)
            && !(self.everywhere && target.namespace.is_some())
    }
}

/// All faults there are.
#[derive(Debug, Default)]
pub struct Faults(Vec<(On, Fault)>);

impl Faults {
    pub fn add(&mut self, on: On, fault: Fault) {
        self.0.push((on, fault));
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// What goes wrong with a request, which counts.
    pub fn of(&mut self, verb: &str, target: &Target) -> Vec<Fault> {
        let mut found = Vec::new();
        self.0.retain_mut(|(on, fault)| {
            if !on.matches(verb, target) {
                return true;
            }
            found.push(*fault);
            match &mut on.times {
                Some(times) => {
                    *times = times.saturating_sub(1);
                    *times > 0
                }
                None => true,
            }
        });
        found
    }
}
