//! Durations spelled as Go programs spell them (`1h30m`, `500ms`): what every Dapr setting and resource uses.
//!
//! Signed, in nanoseconds, about 292 years either way. Text goes in and out exactly as Go's `time` package does it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::MAX_TEXT;

/// A signed span of time with Go's text form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(i64);

/// Why a text is no duration.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// Not of the form `[-+](number unit)+`, with units ns, us, ms, s, m, h.
    #[error("invalid duration {0:?}")]
    Invalid(String),
    /// A number without a unit, such as `5`.
    #[error("missing unit in duration {0:?}")]
    MissingUnit(String),
    /// A unit Go does not know, such as `d`.
    #[error("unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit {
        /// The unit as written.
        unit: String,
        /// The whole text.
        text: String,
    },
}

impl GoDuration {
    /// No time at all; printed as `0s`.
    pub const ZERO: Self = Self(0);

    /// A duration of that many nanoseconds.
    pub const fn from_nanos(nanoseconds: i64) -> Self {
        Self(nanoseconds)
    }

    /// A duration of that many seconds, stopping at the largest one.
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(SECOND as i64))
    }

    /// Length in nanoseconds.
    pub const fn nanoseconds(self) -> i64 {
        self.0
    }

    /// True below zero.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// As an unsigned duration; `None` below zero.
    pub fn to_std(self) -> Option<Duration> {
        u64::try_from(self.0).ok().map(Duration::from_nanos)
    }

    /// As an unsigned duration, with everything below zero as zero.
    pub fn saturating_std(self) -> Duration {
        self.to_std().unwrap_or_default()
    }

    /// The sum, or `None` beyond the range.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }
}

impl From<Duration> for GoDuration {
    /// Stops at the largest duration (about 292 years).
    fn from(duration: Duration) -> Self {
        Self(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
    }
}

impl From<GoDuration> for jiff::SignedDuration {
    fn from(duration: GoDuration) -> Self {
        Self::from_nanos(duration.0)
    }
}

impl FromStr for GoDuration {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::Invalid(text.chars().take(MAX_SHOWN).collect());
        if text.len() > MAX_TEXT {
            return Err(invalid());
        }
        let (negative, body) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        if body == "0" {
            return Ok(Self::ZERO);
        }
        if body.is_empty() {
            return Err(invalid());
        }
        let mut total: u64 = 0;
        let mut rest = body;
        while !rest.is_empty() {
            let (part, after) = parse_part(rest, text)?;
            total = total
                .checked_add(part)
                .filter(|total| *total <= MIN_MAGNITUDE)
                .ok_or_else(invalid)?;
            rest = after;
        }
        match (negative, i64::try_from(total)) {
            (true, Ok(value)) => Ok(Self(-value)),
            (true, Err(_)) => Ok(Self(i64::MIN)),
            (false, Ok(value)) => Ok(Self(value)),
            (false, Err(_)) => Err(invalid()),
        }
    }
}

/// One `number unit` at the front of `rest`: its nanoseconds, and what follows it.
fn parse_part<'a>(rest: &'a str, text: &str) -> Result<(u64, &'a str), Error> {
    let invalid = || Error::Invalid(text.to_owned());
    let whole_end = digits_end(rest, 0);
    let (fraction_end, number_end) = match rest.as_bytes().get(whole_end) {
        Some(b'.') => {
            let end = digits_end(rest, whole_end + 1);
            (end, end)
        }
        _ => (whole_end, whole_end),
    };
    let fraction = rest.get(whole_end + 1..fraction_end).unwrap_or("");
    if whole_end == 0 && fraction.is_empty() {
        return Err(invalid());
    }
    let unit_end = rest[number_end..]
        .find(|c: char| c == '.' || c.is_ascii_digit())
        .map_or(rest.len(), |offset| number_end + offset);
    let unit_text = &rest[number_end..unit_end];
    if unit_text.is_empty() {
        return Err(Error::MissingUnit(text.to_owned()));
    }
    let unit = unit_length(unit_text).ok_or_else(|| Error::UnknownUnit {
        unit: unit_text.to_owned(),
        text: text.to_owned(),
    })?;
    let whole: u64 = if whole_end == 0 {
        0
    } else {
        rest[..whole_end].parse().map_err(|_| invalid())?
    };
    let length = whole
        .checked_mul(unit)
        .filter(|length| *length <= MIN_MAGNITUDE)
        .ok_or_else(invalid)?;
    let length = length + fraction_length(fraction, unit);
    Ok((length, &rest[unit_end..]))
}

/// The part of `unit` behind the decimal point; digits below what 63 bits hold are ignored, as Go ignores them.
fn fraction_length(digits: &str, unit: u64) -> u64 {
    let (mut value, mut scale) = (0u64, 1.0f64);
    for digit in digits.bytes() {
        let next = value
            .checked_mul(10)
            .and_then(|v| v.checked_add(u64::from(digit - b'0')));
        match next.filter(|next| *next < MIN_MAGNITUDE) {
            Some(next) => (value, scale) = (next, scale * 10.0),
            None => break,
        }
    }
    // The floating point step is part of the text form: it decides the last nanosecond of long fractions.
    (value as f64 * (unit as f64 / scale)) as u64
}

fn digits_end(text: &str, from: usize) -> usize {
    text.as_bytes()[from..]
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .map_or(text.len(), |n| from + n)
}

fn unit_length(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => SECOND,
        "m" => 60 * SECOND,
        "h" => 3600 * SECOND,
        _ => return None,
    })
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.unsigned_abs();
        if magnitude == 0 {
            return f.write_str("0s");
        }
        if self.0 < 0 {
            f.write_str("-")?;
        }
        match magnitude {
            1..1_000 => write!(f, "{magnitude}ns"),
            1_000..1_000_000 => write!(f, "{}\u{b5}s", Decimal(magnitude, 1_000)),
            1_000_000..SECOND => write!(f, "{}ms", Decimal(magnitude, 1_000_000)),
            _ => {
                let (hours, minutes) =
                    (magnitude / (3600 * SECOND), magnitude / (60 * SECOND) % 60);
                if hours > 0 {
                    write!(f, "{hours}h")?;
                }
                if hours > 0 || minutes > 0 {
                    write!(f, "{minutes}m")?;
                }
                write!(f, "{}s", Decimal(magnitude % (60 * SECOND), SECOND))
            }
        }
    }
}

/// A value divided by a power of ten, printed without trailing zeros.
struct Decimal(u64, u64);

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0 / self.1)?;
        let fraction = self.0 % self.1;
        if fraction == 0 {
            return Ok(());
        }
        let width = self.1.ilog10() as usize;
        let digits = format!("{fraction:0width$}");
        write!(f, ".{}", digits.trim_end_matches('0'))
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;
/// Magnitude of the most negative duration.
const MIN_MAGNITUDE: u64 = 1 << 63;
/// How many characters of an overlong text an error repeats.
const MAX_SHOWN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_negative_duration_has_a_text() {
        assert_eq!(
            "-9223372036854775808ns".parse(),
            Ok(GoDuration::from_nanos(i64::MIN))
        );
        assert_eq!(
            GoDuration::from_nanos(i64::MIN).to_string(),
            "-2562047h47m16.854775808s"
        );
    }

    #[test]
    fn errors_name_the_unit() {
        let error = "1d".parse::<GoDuration>().expect_err("no days");
        assert_eq!(error.to_string(), r#"unknown unit "d" in duration "1d""#);
    }

    #[test]
    fn conversion_to_std_refuses_negatives() {
        assert_eq!(GoDuration::from_secs(-1).to_std(), None);
        assert_eq!(
            GoDuration::from_secs(2).to_std(),
            Some(Duration::from_secs(2))
        );
        assert_eq!(GoDuration::from(Duration::MAX).nanoseconds(), i64::MAX);
    }
}
