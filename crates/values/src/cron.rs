//! Cron schedules as Dapr accepts them: five fields, six with seconds in front, descriptors such as `@daily`,
//! `@every 90s`, and a `TZ=` or `CRON_TZ=` prefix (contract 8.4 and the cron binding).
//!
//! When both day fields are restricted either may match; when one of them is a star both must.

use std::str::FromStr;

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};

use crate::{GoDuration, MAX_TEXT};

mod fields;

/// When something recurs.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// A fixed delay after the time before; zero and negative delays are accepted here, callers decide.
    Every(GoDuration),
    /// Calendar fields, to the second.
    Calendar(Calendar),
}

/// Bit sets of the six calendar fields, and the zone they are read in.
#[derive(Clone, Debug, PartialEq)]
pub struct Calendar {
    second: Field,
    minute: Field,
    hour: Field,
    day: Field,
    month: Field,
    weekday: Field,
    /// `None`: the zone of the caller.
    zone: Option<TimeZone>,
}

/// The values a field admits, as bits, and whether it was a star (which changes how the day fields combine).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    bits: u64,
    star: bool,
}

/// Why a text is no schedule.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// Nothing to parse.
    #[error("empty schedule")]
    Empty,
    /// Longer than any schedule.
    #[error("schedule longer than {MAX_TEXT} bytes")]
    TooLong,
    /// Neither five nor six fields.
    #[error("expected 5 to 6 fields, found {count} in schedule {text:?}")]
    FieldCount {
        /// How many were found.
        count: usize,
        /// The fields as written.
        text: String,
    },
    /// A zone prefix with no schedule behind it.
    #[error("time zone without a schedule in {0:?}")]
    ZoneOnly(String),
    /// A zone the zone database does not know.
    #[error("unknown time zone {0:?}")]
    Zone(String),
    /// An `@` word that is no descriptor.
    #[error("unrecognized descriptor {0:?}")]
    Descriptor(String),
    /// A field that does not parse or leaves its bounds.
    #[error("{reason} in {field} field {text:?}")]
    Field {
        /// second, minute, hour, day of month, month or day of week.
        field: &'static str,
        /// The part as written.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// `@every` with a text that is no duration.
    #[error("invalid delay")]
    Delay(#[from] crate::duration::Error),
}

impl FromStr for Schedule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(Error::Empty);
        }
        if text.len() > MAX_TEXT {
            return Err(Error::TooLong);
        }
        let mut spec = text;
        let mut zone = None;
        if let Some(rest) = text
            .strip_prefix("TZ=")
            .or_else(|| text.strip_prefix("CRON_TZ="))
        {
            // Q-cron-zone-only: upstream crashes on a zone without a schedule; here it is an error.
            let (name, rest) = rest
                .split_once(' ')
                .ok_or_else(|| Error::ZoneOnly(text.to_owned()))?;
            zone = Some(zone_named(name)?);
            spec = rest.trim();
        }
        if let Some(delay) = spec.strip_prefix("@every ") {
            return Ok(Self::Every(delay.parse()?));
        }
        let fields = match spec {
            "@yearly" | "@annually" => "0 0 0 1 1 *",
            "@monthly" => "0 0 0 1 * *",
            "@weekly" => "0 0 0 * * 0",
            "@daily" | "@midnight" => "0 0 0 * * *",
            "@hourly" => "0 0 * * * *",
            _ if spec.starts_with('@') => return Err(Error::Descriptor(spec.to_owned())),
            _ => spec,
        };
        Calendar::parse(fields, zone).map(Self::Calendar)
    }
}

/// The zone of a prefix. No name is UTC, `Local` is the zone of the machine.
fn zone_named(name: &str) -> Result<TimeZone, Error> {
    match name {
        "" | "UTC" => Ok(TimeZone::UTC),
        "Local" => Ok(TimeZone::system()),
        _ => TimeZone::get(name).map_err(|_| Error::Zone(name.to_owned())),
    }
}

impl Schedule {
    /// The first time after `after`; a schedule without a zone of its own is read in `local`.
    /// `None` when nothing matches in the next five years (31 February), or beyond the calendar.
    pub fn next(&self, after: Timestamp, local: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Every(delay) => after.checked_add(SignedDuration::from(*delay)).ok(),
            Self::Calendar(calendar) => {
                calendar.next(after, calendar.zone.as_ref().unwrap_or(local))
            }
        }
    }
}

impl Calendar {
    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let fields = [
            self.second,
            self.minute,
            self.hour,
            self.day,
            self.month,
            self.weekday,
        ];
        if fields.iter().any(|field| field.bits == 0) {
            // A field of commas only admits nothing; looking for it second by second would take minutes.
            return None;
        }
        let start = Timestamp::from_second(
            after
                .as_second()
                .checked_add(i64::from(after.subsec_nanosecond() >= 0))?,
        );
        let mut cursor = Cursor {
            time: start.ok()?,
            zone,
            moved: false,
        };
        let last_year = cursor.civil().year().saturating_add(MAX_YEARS);
        while cursor.civil().year() <= last_year {
            // A field that wraps changes the ones before it, so the search starts over with the month.
            let settled = self.settle_month(&mut cursor)?
                && self.settle_day(&mut cursor)?
                && self.settle_hour(&mut cursor)?
                && self.settle_clock(&mut cursor)?;
            if settled {
                return Some(cursor.time);
            }
        }
        None
    }

    /// Moves on to a matching month; false when that wrapped into the next year.
    fn settle_month(&self, cursor: &mut Cursor<'_>) -> Option<bool> {
        while !self.month.has(cursor.civil().month()) {
            let first = cursor.civil().date().first_of_month();
            let next = first.checked_add(jiff::Span::new().months(1)).ok()?;
            cursor.moved = true;
            cursor.time = resolve(next.at(0, 0, 0, 0), cursor.zone)?;
            // Where clocks skip the first midnight of a month it resolves into the month before; the reference
            // then loses a month (quirk Q-cron-skipped-midnight), we go on to the first existing hour.
            if cursor.civil().month() != next.month() {
                cursor.add(SignedDuration::from_hours(1))?;
            }
            if cursor.civil().month() == 1 {
                return Some(false);
            }
        }
        Some(true)
    }

    /// Moves on to a matching day; false when that wrapped into the next month.
    fn settle_day(&self, cursor: &mut Cursor<'_>) -> Option<bool> {
        while !self.day_matches(cursor.civil().date()) {
            if !cursor.moved {
                cursor.moved = true;
                cursor.time = resolve(cursor.civil().date().at(0, 0, 0, 0), cursor.zone)?;
            }
            let civil = cursor.civil();
            cursor.time = resolve(
                civil.date().tomorrow().ok()?.to_datetime(civil.time()),
                cursor.zone,
            )?;
            // Midnight may not exist where clocks change then: go to the nearest one.
            let hour = i64::from(cursor.civil().hour());
            if hour != 0 {
                let hours = if hour > 12 { 24 - hour } else { -hour };
                cursor.add(SignedDuration::from_hours(hours))?;
            }
            if cursor.civil().day() == 1 {
                return Some(false);
            }
        }
        Some(true)
    }

    /// Moves on to a matching hour, by hours that really pass; false when that wrapped into the next day.
    fn settle_hour(&self, cursor: &mut Cursor<'_>) -> Option<bool> {
        while !self.hour.has(cursor.civil().hour()) {
            if !cursor.moved {
                cursor.moved = true;
                let civil = cursor.civil();
                cursor.time = resolve(civil.date().at(civil.hour(), 0, 0, 0), cursor.zone)?;
            }
            cursor.add(SignedDuration::from_hours(1))?;
            if cursor.civil().hour() == 0 {
                return Some(false);
            }
        }
        Some(true)
    }

    /// Moves on to a matching minute and second; false when one of them wrapped.
    fn settle_clock(&self, cursor: &mut Cursor<'_>) -> Option<bool> {
        while !self.minute.has(cursor.civil().minute()) {
            if !cursor.moved {
                cursor.moved = true;
                let seconds = cursor.time.as_second();
                cursor.time = Timestamp::from_second(seconds - seconds.rem_euclid(60)).ok()?;
            }
            cursor.add(SignedDuration::from_mins(1))?;
            if cursor.civil().minute() == 0 {
                return Some(false);
            }
        }
        while !self.second.has(cursor.civil().second()) {
            cursor.moved = true;
            cursor.add(SignedDuration::from_secs(1))?;
            if cursor.civil().second() == 0 {
                return Some(false);
            }
        }
        Some(true)
    }

    fn day_matches(&self, date: civil::Date) -> bool {
        let day = self.day.has(date.day());
        let weekday = self.weekday.has(date.weekday().to_sunday_zero_offset());
        if self.day.star || self.weekday.star {
            day && weekday
        } else {
            day || weekday
        }
    }
}

impl Field {
    fn has(self, value: i8) -> bool {
        self.bits & (1 << value) != 0
    }
}

/// Where the search stands. `moved` says that the smaller fields already start from zero.
struct Cursor<'a> {
    time: Timestamp,
    zone: &'a TimeZone,
    moved: bool,
}

impl Cursor<'_> {
    fn civil(&self) -> civil::DateTime {
        self.zone.to_datetime(self.time)
    }

    fn add(&mut self, by: SignedDuration) -> Option<()> {
        self.time = self.time.checked_add(by).ok()?;
        Some(())
    }
}

/// The moment a wall clock shows `civil`. Compat: Q-cron-gap: in the hour that clocks skip or repeat, the offset is
/// the one in force at the moment guessed from the offset at the same reading in UTC.
fn resolve(civil: civil::DateTime, zone: &TimeZone) -> Option<Timestamp> {
    let reading = TimeZone::UTC.to_timestamp(civil).ok()?;
    let before = |offset: jiff::tz::Offset| {
        reading
            .checked_sub(SignedDuration::from_secs(i64::from(offset.seconds())))
            .ok()
    };
    let guess = before(zone.to_offset(reading))?;
    before(zone.to_offset(guess))
}

/// How many years ahead a match is looked for.
const MAX_YEARS: i16 = 5;

#[cfg(test)]
mod tests;
