//! The fields of a cron schedule: lists of values, names, ranges and steps, turned into bit sets.

use jiff::tz::TimeZone;

use super::{Calendar, Error, Field};

/// What one field admits.
struct Bounds {
    name: &'static str,
    min: u32,
    max: u32,
    /// Names of the values, from `min` on.
    names: &'static [&'static str],
}

impl Calendar {
    pub(super) fn parse(text: &str, zone: Option<TimeZone>) -> Result<Self, Error> {
        let mut fields: Vec<&str> = text.split_whitespace().collect();
        match fields.len() {
            5 => fields.insert(0, "0"),
            6 => {}
            count => {
                return Err(Error::FieldCount {
                    count,
                    text: text.to_owned(),
                });
            }
        }
        let field = |index: usize| parse_field(fields[index], &BOUNDS[index]);
        Ok(Self {
            second: field(0)?,
            minute: field(1)?,
            hour: field(2)?,
            day: field(3)?,
            month: field(4)?,
            weekday: field(5)?,
            zone,
        })
    }
}

fn parse_field(text: &str, bounds: &Bounds) -> Result<Field, Error> {
    let mut field = Field {
        bits: 0,
        star: false,
    };
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let range = parse_range(part, bounds).map_err(|reason| Error::Field {
            field: bounds.name,
            text: part.to_owned(),
            reason,
        })?;
        field.bits |= range.bits;
        field.star |= range.star;
    }
    Ok(field)
}

/// `*`, `?`, `n`, `n-m`, each with an optional `/step`. `n/step` runs to the end of the field.
fn parse_range(text: &str, bounds: &Bounds) -> Result<Field, &'static str> {
    let (range, step) = match text.split_once('/') {
        Some((_, step)) if step.contains('/') => return Err("too many slashes"),
        Some((range, step)) => (range, Some(number(step)?)),
        None => (text, None),
    };
    let mut ends = range.split('-');
    let first = ends.next().unwrap_or_default();
    let second = ends.next();
    let wild = first == "*" || first == "?";
    let (start, mut end) = match (wild, second) {
        // Compat: Q-cron-star-range: whatever stands behind a star and a hyphen is passed over.
        (true, _) => (bounds.min, bounds.max),
        (false, None) => (bounds.value(first)?, bounds.value(first)?),
        (false, Some(_)) if ends.next().is_some() => return Err("too many hyphens"),
        (false, Some(last)) => (bounds.value(first)?, bounds.value(last)?),
    };
    if step.is_some() && second.is_none() {
        end = bounds.max;
    }
    match (start, end, step) {
        _ if start < bounds.min => return Err("value below minimum"),
        _ if end > bounds.max => return Err("value above maximum"),
        _ if start > end => return Err("range runs backwards"),
        (_, _, Some(0)) => return Err("step is zero"),
        _ => {}
    }
    let stride = step.unwrap_or(1);
    let bits = (start..=end)
        .step_by(stride as usize)
        .fold(0, |bits, value| bits | 1 << value);
    // A star with a step is a restriction like any other.
    Ok(Field {
        bits,
        star: wild && stride == 1,
    })
}

impl Bounds {
    fn value(&self, text: &str) -> Result<u32, &'static str> {
        match self
            .names
            .iter()
            .position(|name| name.eq_ignore_ascii_case(text))
        {
            Some(index) => Ok(self.min + index as u32),
            None => number(text),
        }
    }
}

fn number(text: &str) -> Result<u32, &'static str> {
    match text.parse::<i64>() {
        Ok(value) if value < 0 => Err("negative number"),
        // Large numbers leave every bound; as a step they select the first value only.
        Ok(value) => Ok(u32::try_from(value).unwrap_or(u32::MAX)),
        Err(_) => Err("not a number"),
    }
}

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const BOUNDS: [Bounds; 6] = [
    Bounds {
        name: "second",
        min: 0,
        max: 59,
        names: &[],
    },
    Bounds {
        name: "minute",
        min: 0,
        max: 59,
        names: &[],
    },
    Bounds {
        name: "hour",
        min: 0,
        max: 23,
        names: &[],
    },
    Bounds {
        name: "day of month",
        min: 1,
        max: 31,
        names: &[],
    },
    Bounds {
        name: "month",
        min: 1,
        max: 12,
        names: &MONTHS,
    },
    Bounds {
        name: "day of week",
        min: 0,
        max: 6,
        names: &WEEKDAYS,
    },
];
