//! Times as events have them, and as schedulers do.

use prost_types::Timestamp;

/// A time as events have it.
pub fn to_wire(time: jiff::Timestamp) -> Timestamp {
    Timestamp {
        seconds: time.as_second(),
        nanos: time.subsec_nanosecond(),
    }
}

/// A time of an event; one that is out of all range is the nearest in it.
pub fn from_wire(time: Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::new(time.seconds, time.nanos).unwrap_or(match time.seconds < 0 {
        true => jiff::Timestamp::MIN,
        false => jiff::Timestamp::MAX,
    })
}
