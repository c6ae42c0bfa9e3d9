//! Where time comes from. Engines take a `Clock` so that a test decides what time it is.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// A source of time: the calendar for what is stored or shown, the instant for what is measured.
pub trait Clock: Send + Sync + 'static {
    /// The current time of day.
    fn now(&self) -> Timestamp;

    /// A point on a line that never goes back; only differences mean something.
    fn instant(&self) -> Instant;
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }

    fn instant(&self) -> Instant {
        (**self).instant()
    }
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }
}

/// A clock that stands still until it is told to move; clones share the hands.
#[derive(Clone, Debug)]
pub struct FixedClock {
    hands: Arc<Mutex<(Timestamp, Instant)>>,
}

impl FixedClock {
    /// A clock that shows `now`.
    pub fn at(now: Timestamp) -> Self {
        Self {
            hands: Arc::new(Mutex::new((now, Instant::now()))),
        }
    }

    /// Moves both hands forward; the calendar stops at its last representable time.
    pub fn advance(&self, by: Duration) {
        let mut hands = self.hands.lock().unwrap_or_else(PoisonError::into_inner);
        hands.0 = hands.0.checked_add(by).unwrap_or(Timestamp::MAX);
        hands.1 += by;
    }

    /// Moves the calendar only, forwards or backwards, as an administrator who sets the clock does.
    pub fn set(&self, now: Timestamp) {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner).0 = now;
    }
}

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    fn instant(&self) -> Instant {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_clock_moves_only_when_told() {
        let clock = FixedClock::at(Timestamp::UNIX_EPOCH);
        let (start, other) = (clock.instant(), clock.clone());
        other.advance(Duration::from_secs(5));
        assert_eq!(clock.now().as_second(), 5);
        assert_eq!(clock.instant() - start, Duration::from_secs(5));
        clock.set(Timestamp::UNIX_EPOCH);
        assert_eq!(clock.now(), Timestamp::UNIX_EPOCH);
        assert_eq!(clock.instant() - start, Duration::from_secs(5));
    }
}
