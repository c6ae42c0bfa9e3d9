//! Due times as numbers.

use jiff::Timestamp;

/// Due times are compared often: nanoseconds since 1970, until 2262 and as if it were then.
pub(super) fn nanoseconds(at: Timestamp) -> i64 {
    let most = if at.as_second() < 0 {
        i64::MIN
    } else {
        i64::MAX
    };
    i64::try_from(at.as_nanosecond()).unwrap_or(most)
}

pub(super) fn timestamp(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(nanoseconds.into()).expect("64 bits are within the calendar")
}
