//! How much fuel a call may still burn: it is handed out in slices, so that a guest which never ends is stopped, and never holds
//! a thread for long. What the host does for a guest and the slice is not enough for comes out of the rest.

use crate::settings::SLICE;

/// The fuel of one call.
#[derive(Debug)]
pub struct Meter {
    left: u64,
}

impl Meter {
    /// With so much.
    pub fn new(fuel: u64) -> Self {
        Self { left: fuel }
    }

    /// The next slice, of at least `required`, which is what the next instruction takes; none where that is not left.
    pub fn slice(&mut self, required: u64) -> Option<u64> {
        let slice = required.max(SLICE.min(self.left));
        self.left = self.left.checked_sub(slice)?;
        (slice > 0).then_some(slice)
    }

    /// Takes what no slice is handed out for; nothing where that is not left.
    pub fn take(&mut self, fuel: u64) -> Option<()> {
        self.left = self.left.checked_sub(fuel)?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_no_more_than_there_was() {
        let mut meter = Meter::new(SLICE * 2 + 5);
        assert_eq!(meter.slice(0), Some(SLICE));
        assert_eq!(meter.slice(SLICE + 1), Some(SLICE + 1));
        assert_eq!(meter.slice(1), Some(4));
        assert_eq!(meter.slice(1), None);
        assert_eq!(Meter::new(10).slice(11), None, "an instruction too large");
        assert_eq!(Meter::new(0).slice(0), None);
        let mut meter = Meter::new(10);
        assert_eq!((meter.take(4), meter.take(7)), (Some(()), None));
        assert_eq!(meter.slice(0), Some(6));
    }
}
