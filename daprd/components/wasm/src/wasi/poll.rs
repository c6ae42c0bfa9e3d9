//! `poll_oneoff`: what a guest waits for. Only clocks can be waited for here; anything else is ready at once, with an error.

use super::{errno, number};

/// Most things waited for at a time.
pub const MOST: u32 = 64;
/// Bytes of one of them.
pub const SUBSCRIPTION: u32 = 48;
/// Bytes of an event.
pub const EVENT: u32 = 32;

const CLOCK: u8 = 0;

struct Waiting {
    user: [u8; 8],
    kind: u8,
    /// Nanoseconds from now; none where it is no clock that there is.
    after: Option<u64>,
}

/// What is waited for.
pub struct Polled(Vec<Waiting>);

impl Polled {
    /// Reads subscriptions; `now` are the two clocks.
    pub fn new(bytes: &[u8], now: impl FnOnce() -> (u64, u64)) -> Self {
        let (day, line) = now();
        let read = |bytes: &[u8]| {
            let mut user = [0; 8];
            user.copy_from_slice(&bytes[..8]);
            let kind = bytes[8];
            let timeout =
                u64::from(number(&bytes[28..32])) << 32 | u64::from(number(&bytes[24..28]));
            let absolute = bytes[40] & 1 != 0;
            let now = match number(&bytes[16..20]) {
                0 => Some(day),
                1 => Some(line),
                _ => None,
            };
            let after = now.filter(|_| kind == CLOCK).map(|now| match absolute {
                true => timeout.saturating_sub(now),
                false => timeout,
            });
            Waiting { user, kind, after }
        };
        Self(
            bytes
                .chunks_exact(SUBSCRIPTION as usize)
                .map(read)
                .collect(),
        )
    }

    /// How long until the first is ready, in nanoseconds; nothing where one is ready because it is an error.
    pub fn sleep(&self) -> Option<u64> {
        let errors = self.0.iter().any(|waiting| waiting.after.is_none());
        self.0
            .iter()
            .filter_map(|waiting| waiting.after)
            .min()
            .filter(|_| !errors)
    }

    /// The events of all that is ready then.
    pub fn events(&self) -> Vec<u8> {
        let first = self.sleep();
        let ready = self.0.iter().filter(|waiting| waiting.after == first);
        ready
            .flat_map(|waiting| {
                let mut event = [0; EVENT as usize];
                event[..8].copy_from_slice(&waiting.user);
                if waiting.after.is_none() {
                    let error = if waiting.kind == CLOCK {
                        errno::INVAL
                    } else {
                        errno::NOTSUP
                    };
                    event[8] = error as u8;
                }
                event[10] = waiting.kind;
                event
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(user: u8, kind: u8, clock: u8, timeout: u8, absolute: bool) -> [u8; 48] {
        let mut bytes = [0; 48];
        (bytes[0], bytes[8], bytes[16], bytes[24], bytes[40]) =
            (user, kind, clock, timeout, absolute.into());
        bytes
    }

    fn users(events: &[u8]) -> Vec<(u8, u8)> {
        events
            .chunks(32)
            .map(|event| (event[0], event[8]))
            .collect()
    }

    #[test]
    fn the_first_clock_is_waited_for() {
        let all = [
            subscription(1, 0, 1, 90, false),
            subscription(2, 0, 0, 50, true),
            subscription(3, 0, 1, 40, false),
        ];
        let polled = Polled::new(&all.concat(), || (10, 1000));
        assert_eq!(polled.sleep(), Some(40));
        assert_eq!(users(&polled.events()), [(2, 0), (3, 0)]);
        let passed = subscription(1, 0, 1, 90, true);
        assert_eq!(Polled::new(&passed, || (10, 1000)).sleep(), Some(0));
    }

    #[test]
    fn what_cannot_be_waited_for_is_ready_with_an_error() {
        let all = [
            subscription(1, 0, 1, 90, false),
            subscription(2, 1, 0, 0, false),
            subscription(3, 0, 7, 0, false),
        ];
        let polled = Polled::new(&all.concat(), || (0, 0));
        assert_eq!(polled.sleep(), None);
        assert_eq!(users(&polled.events()), [(2, 58), (3, 28)]);
    }
}
