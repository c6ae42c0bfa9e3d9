//! What a guest knows of time and chance: the real ones, or, in a strict sandbox, clocks that count how often they are read and
//! numbers that are the same each time (Q-wasm-strict).

use std::{sync::Arc, time::Instant};

use values::Clock;

/// By how much a clock of a strict sandbox goes on when it is read, in nanoseconds.
const STEP: u64 = 1_000_000;

/// Of one instance.
pub enum Senses {
    Real {
        clock: Arc<dyn Clock>,
        began: Instant,
    },
    Strict {
        day: u64,
        line: u64,
        seed: u64,
    },
}

impl Senses {
    /// Those of the machine.
    pub fn real(clock: Arc<dyn Clock>) -> Self {
        let began = clock.instant();
        Self::Real { clock, began }
    }

    /// Those of a strict sandbox, which begin at a second of the real day.
    pub fn strict(clock: &dyn Clock) -> Self {
        let second = u64::try_from(clock.now().as_second()).unwrap_or_default();
        Self::Strict {
            day: second.saturating_mul(1_000_000_000),
            line: 0,
            seed: 0,
        }
    }

    /// Nanoseconds since 1970.
    pub fn day(&mut self) -> u64 {
        match self {
            Self::Real { clock, .. } => {
                u64::try_from(clock.now().as_nanosecond()).unwrap_or_default()
            }
            Self::Strict { day, .. } => {
                *day = day.saturating_add(STEP);
                *day
            }
        }
    }

    /// Nanoseconds since something.
    pub fn line(&mut self) -> u64 {
        match self {
            Self::Real { clock, began } => {
                let passed = clock.instant().saturating_duration_since(*began);
                u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX)
            }
            Self::Strict { line, .. } => {
                *line = line.saturating_add(STEP);
                *line
            }
        }
    }

    /// Random bytes; false where the machine has none.
    pub fn fill(&mut self, bytes: &mut [u8]) -> bool {
        match self {
            Self::Real { .. } => getrandom::fill(bytes).is_ok(),
            Self::Strict { seed, .. } => {
                for piece in bytes.chunks_mut(8) {
                    piece.copy_from_slice(&next(seed).to_le_bytes()[..piece.len()]);
                }
                true
            }
        }
    }

    /// Whether it sleeps when it wants to.
    pub fn sleeps(&self) -> bool {
        matches!(self, Self::Real { .. })
    }
}

/// SplitMix64.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strict_sandbox_is_the_same_each_time() {
        let sense = |mut senses: Senses| {
            let mut bytes = [0; 11];
            assert!(senses.fill(&mut bytes));
            (senses.line(), senses.line(), bytes)
        };
        let strict = || Senses::strict(&values::SystemClock);
        let one = sense(strict());
        assert_eq!(one, sense(strict()));
        assert_eq!((one.0, one.1), (STEP, 2 * STEP));
        let mut senses = strict();
        assert_eq!(senses.day() + STEP, senses.day());
        let real = || Senses::real(Arc::new(values::SystemClock));
        assert_ne!(sense(real()).2, sense(real()).2);
    }
}
