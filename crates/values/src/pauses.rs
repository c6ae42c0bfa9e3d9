//! Pauses between attempts at something that is tried for as long as it takes.

use std::time::Duration;

/// A pause, then ones that are twice as long each time, up to a longest.
#[derive(Clone, Copy, Debug)]
pub struct Pauses {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Pauses {
    /// Begins with `first`, even where that is more than `longest`.
    pub const fn doubling(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            next: first,
        }
    }

    /// How long to wait before the next attempt.
    pub fn pause(&mut self) -> Duration {
        let longer = self.next.saturating_mul(2).min(self.longest);
        std::mem::replace(&mut self.next, longer)
    }

    /// What was tried has worked: the next pause is the first again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// A pause that is up to half shorter or longer, by a `chance` from 0 to 1, so that not all who wait come back at once.
pub fn around(pause: Duration, chance: f64) -> Duration {
    pause.mul_f64(0.5 + chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_double_up_to_the_longest_and_begin_again() {
        let second = Duration::from_secs(1);
        let mut pauses = Pauses::doubling(second, 3 * second);
        let four = std::array::from_fn(|_| pauses.pause());
        assert_eq!(four, [second, 2 * second, 3 * second, 3 * second]);
        pauses.reset();
        assert_eq!(pauses.pause(), second);
        let mut long = Pauses::doubling(Duration::MAX, Duration::MAX);
        assert_eq!([long.pause(), long.pause()], [Duration::MAX; 2]);
    }

    #[test]
    fn around_a_pause_is_half_of_it_on_either_side() {
        let second = Duration::from_secs(1);
        assert_eq!(around(second, 0.0), second / 2);
        assert_eq!(around(second, 1.0), second * 3 / 2);
        assert_eq!(around(second, 7.0), second * 3 / 2);
    }
}
