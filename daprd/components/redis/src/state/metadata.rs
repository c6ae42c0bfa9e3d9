//! The fields that only the state store has.

use component::fields::{Fields, MILLISECOND};
use values::GoDuration;

use crate::metadata::Declared;

/// As a rule more than the longest pause, which counts then.
const MIN_RETRY_INTERVAL: GoDuration = GoDuration::from_secs(2);

component::metadata! {
    /// What is configured for the store itself.
    pub struct Own {
        /// Shortest pause before a request is sent again.
        min_retry_interval: GoDuration => "redisMinRetryInterval", default(MIN_RETRY_INTERVAL), unit(MILLISECOND);
        /// The same in nanoseconds.
        max_retry_backoff: Option<i64> => "maxRetryBackoff", deprecated("redisMinRetryInterval");
        /// Seconds that a key lives whose request does not say.
        lifetime: Option<i64> => "ttlInSeconds";
    }
    // Q-redis-json: values are kept in hashes, also where the server knows JSON. The other two are of the broker.
    ignored {
        "queryIndexes": Text,
        "redeliverInterval": Duration,
        "processingTimeout": Duration,
    }
}

impl Own {
    /// Shortest pause before a request is sent again, by either name.
    pub fn min_retry_interval(&self) -> GoDuration {
        match self.max_retry_backoff {
            Some(nanoseconds) if self.min_retry_interval == MIN_RETRY_INTERVAL => {
                GoDuration::from_nanos(nanoseconds)
            }
            _ => self.min_retry_interval,
        }
    }
}

/// All fields of the store.
pub fn fields() -> Fields {
    Declared::fields().and(Own::fields())
}

#[cfg(test)]
mod tests {
    use component::Metadata;

    use super::*;

    #[test]
    fn the_pause_before_a_retry_has_two_names() {
        for (fields, seconds) in [
            (&[][..], 2),
            (&[("maxRetryBackoff", "3000000000")], 3),
            (
                &[
                    ("maxRetryBackoff", "3000000000"),
                    ("redisMinRetryInterval", "1000"),
                ],
                1,
            ),
        ] {
            let metadata = Metadata::from_iter(fields.iter().copied());
            let own = Own::read(&metadata).unwrap();
            assert_eq!(own.min_retry_interval(), GoDuration::from_secs(seconds));
        }
    }
}
