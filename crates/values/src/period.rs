//! Due times, periods and times to live of timers, reminders and jobs: Go durations, or ISO 8601 durations with a
//! repetition count in front (`R5/PT10S`), or for due times a moment (contract 8.4, 11.2).

use std::str::FromStr;

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};

use crate::{GoDuration, MAX_TEXT};

/// A calendar period with an optional repetition count.
///
/// Years, months and days stand apart from hours because their length depends on where they start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Period {
    /// Calendar years.
    pub years: i32,
    /// Calendar months.
    pub months: i32,
    /// Calendar days; a week is seven of them.
    pub days: i32,
    /// Hours, minutes and seconds, or the whole of a Go duration.
    pub time: GoDuration,
    /// How often; `None` is endless.
    pub repetitions: Option<i32>,
}

/// Why a text is no period or moment.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// Neither ISO 8601 nor a Go duration.
    #[error("unsupported duration format {0:?}")]
    Period(String),
    /// None of ISO 8601 duration, Go duration, RFC 3339 time.
    #[error("unsupported time or duration format {0:?}")]
    Time(String),
    /// A due time or time to live with a repetition count.
    #[error("repetitions are not allowed in {0:?}")]
    Repetitions(String),
    /// Beyond the calendar (years -9999 to 9999).
    #[error("time out of range: {0:?}")]
    Range(String),
}

impl Period {
    /// The moment one period after `start`; `None` beyond the calendar. Months overflow into the next one
    /// (31 January plus a month is 3 March, or 2 in a leap year), and the calendar is UTC's.
    pub fn after(&self, start: Timestamp) -> Option<Timestamp> {
        let moment = start.to_zoned(TimeZone::UTC).datetime();
        let months = i64::from(moment.year()) * 12 + i64::from(moment.month()) - 1
            + i64::from(self.years) * 12
            + i64::from(self.months);
        let year = i16::try_from(months.div_euclid(12)).ok()?;
        let first = civil::Date::new(year, months.rem_euclid(12) as i8 + 1, 1).ok()?;
        let days = i64::from(moment.day()) - 1 + i64::from(self.days);
        let date = first
            .checked_add(SignedDuration::from_hours(days.checked_mul(24)?))
            .ok()?;
        let moment = date
            .to_datetime(moment.time())
            .to_zoned(TimeZone::UTC)
            .ok()?
            .timestamp();
        moment.checked_add(SignedDuration::from(self.time)).ok()
    }

    /// True when the period spans no time at all.
    pub fn is_zero(&self) -> bool {
        self.years == 0 && self.months == 0 && self.days == 0 && self.time == GoDuration::ZERO
    }
}

impl FromStr for Period {
    type Err = Error;

    /// ISO 8601 first, then a Go duration.
    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(period) = parse_iso(text) {
            return Ok(period);
        }
        match text.parse() {
            Ok(time) => Ok(Self {
                time,
                ..Self::default()
            }),
            Err(_) => Err(Error::Period(shown(text))),
        }
    }
}

/// A due time or time to live: a period counted from `start` (without repetitions), or a moment in RFC 3339.
pub fn moment(text: &str, start: Timestamp) -> Result<Timestamp, Error> {
    if let Ok(period) = text.parse::<Period>() {
        if period.repetitions.is_some() {
            return Err(Error::Repetitions(shown(text)));
        }
        return period.after(start).ok_or_else(|| Error::Range(shown(text)));
    }
    rfc3339(text).ok_or_else(|| Error::Time(shown(text)))
}

/// A moment in the strict RFC 3339 form: `T` and `Z` in capitals, seconds present, offset with a colon.
pub fn rfc3339(text: &str) -> Option<Timestamp> {
    const SHAPE: &[u8] = b"dddd-dd-ddTdd:dd:dd";
    let bytes = text.as_bytes();
    let fits = |shape: &[u8], part: &[u8]| {
        shape.len() == part.len()
            && shape.iter().zip(part).all(|(s, b)| {
                if *s == b'd' {
                    b.is_ascii_digit()
                } else {
                    s == b
                }
            })
    };
    if text.len() > MAX_TEXT || bytes.len() <= SHAPE.len() || !fits(SHAPE, &bytes[..SHAPE.len()]) {
        return None;
    }
    let mut zone = &bytes[SHAPE.len()..];
    if let Some(fraction) = zone.strip_prefix(b".") {
        let digits = fraction
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if digits == 0 {
            return None;
        }
        zone = &fraction[digits..];
    }
    if !(zone == b"Z" || fits(b"+dd:dd", zone) || fits(b"-dd:dd", zone)) {
        return None;
    }
    text.parse().ok().or_else(|| beyond(text))
}

/// The last moment there is, for one that is later: `9999-12-31`, say, which stands for never.
fn beyond(text: &str) -> Option<Timestamp> {
    let date = text.split_once('T')?.0;
    let date: civil::Date = date.parse().ok()?;
    let time: Option<civil::Time> = text.get(TIME)?.parse().ok();
    (time.is_some() && date >= LAST).then_some(Timestamp::MAX)
}

/// Where the time of day stands.
const TIME: std::ops::Range<usize> = 11..19;

/// The first day that is not a moment in every zone.
const LAST: civil::Date = civil::date(9999, 12, 30);

/// The ISO 8601 subset. Compat: Q-iso-duration: letters that name no unit, and digits behind the last unit, are
/// passed over; units may come in any order; fractions and small letters are refused.
fn parse_iso(text: &str) -> Option<Period> {
    if text.len() < 2 || text.len() > MAX_TEXT {
        return None;
    }
    let mut period = Period::default();
    let mut body = text;
    if let Some(counted) = text.strip_prefix('R') {
        let (count, rest) = counted.split_once('/').unwrap_or((counted, ""));
        let count: i32 = count.parse().ok()?;
        // Minus one is how endless is written as a number.
        period.repetitions = (count != -1).then_some(count);
        if rest.is_empty() {
            return Some(period);
        }
        body = rest;
    }
    let body = body.strip_prefix('P')?;
    let (mut start, mut in_time) = (0, false);
    for (at, byte) in body.bytes().enumerate() {
        match byte {
            b'T' if start == at => in_time = true,
            b'T' => return None,
            b'Y' | b'M' | b'W' | b'D' | b'H' | b'S' => {
                let count: i32 = body.get(start..at)?.parse().ok()?;
                period.add(byte, in_time, count)?;
            }
            _ => continue,
        }
        start = at + 1;
    }
    Some(period)
}

impl Period {
    fn add(&mut self, unit: u8, in_time: bool, count: i32) -> Option<()> {
        let seconds = match (unit, in_time) {
            (b'Y', false) => {
                self.years = count;
                0
            }
            (b'M', false) => {
                self.months = count;
                0
            }
            (b'W', false) => {
                self.days = self.days.checked_add(count.checked_mul(7)?)?;
                0
            }
            (b'D', false) => {
                self.days = self.days.checked_add(count)?;
                0
            }
            (b'H', true) => 3600,
            (b'M', true) => 60,
            (b'S', true) => 1,
            _ => return None,
        };
        let nanoseconds = i64::from(count)
            .checked_mul(seconds)?
            .checked_mul(1_000_000_000)?;
        self.time = self.time.checked_add(GoDuration::from_nanos(nanoseconds))?;
        Some(())
    }
}

fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a timestamp")
    }

    #[test]
    fn months_overflow_into_the_next_one() {
        let period: Period = "P1M".parse().expect("a period");
        assert_eq!(
            period.after(at("2026-01-31T08:00:00Z")),
            Some(at("2026-03-03T08:00:00Z"))
        );
        let back: Period = "P-1D".parse().expect("a period");
        assert_eq!(
            back.after(at("2026-01-01T00:00:00Z")),
            Some(at("2025-12-31T00:00:00Z"))
        );
    }

    #[test]
    fn due_times_are_moments_or_spans() {
        let start = at("2026-01-01T00:00:00Z");
        assert_eq!(moment("1h", start), Ok(at("2026-01-01T01:00:00Z")));
        assert_eq!(
            moment("2026-05-01T12:00:00.5+02:00", start),
            Ok(at("2026-05-01T10:00:00.5Z"))
        );
        assert!(matches!(
            moment("R5/PT1S", start),
            Err(Error::Repetitions(_))
        ));
        for never in ["9999-12-31T23:59:59Z", "9999-12-31T00:00:00.5-01:00"] {
            assert_eq!(moment(never, start), Ok(Timestamp::MAX), "{never}");
        }
        for none in ["9999-12-32T00:00:00Z", "9999-12-31T24:00:00Z"] {
            assert!(matches!(moment(none, start), Err(Error::Time(_))), "{none}");
        }
        assert!(matches!(moment("P99999Y", start), Err(Error::Range(_))));
        for bad in [
            "2026-05-01 12:00:00Z",
            "2026-05-01t12:00:00z",
            "2026-05-01T12:00Z",
            "2026-05-01T12:00:00",
            "soon",
            "",
        ] {
            assert!(matches!(moment(bad, start), Err(Error::Time(_))), "{bad}");
        }
    }

    #[test]
    fn numbers_too_large_are_refused() {
        assert!("P99999999999D".parse::<Period>().is_err());
        assert!("PT2147483647H".parse::<Period>().is_err());
    }
}
