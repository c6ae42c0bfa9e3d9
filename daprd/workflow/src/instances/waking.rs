//! Whether an instance is being woken from here: one wake-up that is under way is enough for all that happens until it looks.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

/// The wake-up of an instance. Clones share it.
#[derive(Clone, Default)]
pub struct Waking(Arc<AtomicU8>);

/// Somebody is at it, for as long as this is there.
pub struct Waker {
    waking: Waking,
    over: bool,
}

impl Waking {
    /// Asks for a wake-up: by whom it is to be done, where nobody is at it.
    pub fn ask(&self) -> Option<Waker> {
        let asked = |now| Some(if now == NOBODY { AT_IT } else { AGAIN });
        let before = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, asked);
        (before == Ok(NOBODY)).then(|| Waker {
            waking: self.clone(),
            over: false,
        })
    }

    /// Somebody looks at the instance, and finds all that has happened so far.
    pub fn looks(&self) {
        let _ = self
            .0
            .compare_exchange(AGAIN, AT_IT, Ordering::AcqRel, Ordering::Acquire);
    }
}

impl Waking {
    /// All that has happened so far has been looked at, and nobody could add to it meanwhile. What is done because of it may take long,
    /// for those who do not answer; whatever comes from now on is looked at at once.
    pub fn has_seen_all(&self) {
        self.0.store(NOBODY, Ordering::Release);
    }
}

impl Waker {
    /// The instance has been woken: who is to wake it again, where it was asked for since it looked.
    pub fn done(mut self) -> Option<Self> {
        let asked = |now| Some(if now == AGAIN { AT_IT } else { NOBODY });
        let state = &self.waking.0;
        let before = state.fetch_update(Ordering::AcqRel, Ordering::Acquire, asked);
        // Else somebody else may be at it by now.
        self.over = before != Ok(AGAIN);
        (!self.over).then_some(self)
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        if !self.over {
            self.waking.0.store(NOBODY, Ordering::Release);
        }
    }
}

const NOBODY: u8 = 0;
const AT_IT: u8 = 1;
/// Something has happened since somebody began.
const AGAIN: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_while_others_are_told_of_a_turn_is_looked_at_at_once() {
        let waking = Waking::default();
        let first = waking.ask().expect("nobody was at it");
        waking.looks();
        waking.has_seen_all();
        let second = waking.ask().expect("the first is busy with others");
        assert!(waking.ask().is_none(), "the second sees to that");
        let again = first.done().expect("or the first does");
        assert!(again.done().is_none());
        assert!(second.done().is_none());
        assert!(waking.ask().is_some());
    }

    #[test]
    fn one_wake_up_is_enough_for_all_that_happens_until_it_looks() {
        let waking = Waking::default();
        let waker = waking.ask().expect("nobody was at it");
        assert!(waking.ask().is_none());
        waking.looks();
        let none = waker.done();
        assert!(none.is_none(), "it has seen the second");
        let waker = waking.ask().expect("nobody is at it any more");
        waking.looks();
        assert!(waking.ask().is_none());
        let waker = waker.done().expect("it has not seen that");
        drop(waker);
        assert!(waking.ask().is_some(), "whoever is broken off is not at it");
    }
}
