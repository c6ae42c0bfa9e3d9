//! Moments as messages have them.

use prost_types::Timestamp;

/// A moment for a message, to the nanosecond.
#[must_use]
pub fn to_wire(at: jiff::Timestamp) -> Timestamp {
    Timestamp {
        seconds: at.as_second(),
        nanos: at.subsec_nanosecond(),
    }
}

/// The moment of a message; none where it is out of range.
#[must_use]
pub fn from_wire(at: &Timestamp) -> Option<jiff::Timestamp> {
    jiff::Timestamp::new(at.seconds, at.nanos).ok()
}
