//! Times as events have them, and as schedulers do.

use prost_types::Timestamp;
pub use proto::time::to_wire;

/// A time of an event; one that is out of all range is the nearest in it.
pub fn from_wire(time: Timestamp) -> jiff::Timestamp {
    proto::time::from_wire(&time).unwrap_or(match time.seconds < 0 {
        true => jiff::Timestamp::MIN,
        false => jiff::Timestamp::MAX,
    })
}
