//! Checks every row of the shared test vectors, and round trips over generated values.

use proptest::prelude::*;
use serde_json::Value;
use values::{GoDuration, Period, Quantity, Schedule, TimeZone, Timestamp, is_truthy};

fn vectors(text: &str) -> Value {
    serde_json::from_str(text).expect("vectors are JSON")
}

fn rows<'a>(file: &'a Value, key: &str) -> &'a Vec<Value> {
    file[key]
        .as_array()
        .filter(|rows| !rows.is_empty())
        .expect("vectors have rows")
}

#[test]
fn go_durations() {
    let file = vectors(include_str!("../vectors/durations.json"));
    for row in rows(&file, "go") {
        let parsed = row["text"].as_str().expect("text").parse::<GoDuration>();
        if row["error"] == true {
            assert!(parsed.is_err(), "{row}");
            continue;
        }
        let duration = parsed.unwrap_or_else(|error| panic!("{row}: {error}"));
        assert_eq!(
            row["nanoseconds"],
            duration.nanoseconds().to_string(),
            "{row}"
        );
        assert_eq!(row["printed"], duration.to_string(), "{row}");
    }
}

#[test]
fn periods() {
    let file = vectors(include_str!("../vectors/durations.json"));
    for row in rows(&file, "actor") {
        let parsed = row["text"].as_str().expect("text").parse::<Period>();
        if row["error"] == true {
            assert!(parsed.is_err(), "{row}");
            continue;
        }
        let period = parsed.unwrap_or_else(|error| panic!("{row}: {error}"));
        assert_eq!(row["years"], period.years, "{row}");
        assert_eq!(row["months"], period.months, "{row}");
        assert_eq!(row["days"], period.days, "{row}");
        assert_eq!(
            row["duration_ns"],
            period.time.nanoseconds().to_string(),
            "{row}"
        );
        assert_eq!(
            row["repetitions"],
            period.repetitions.unwrap_or(-1),
            "{row}"
        );
    }
}

#[test]
fn quantities() {
    let file = vectors(include_str!("../vectors/quantities.json"));
    for row in rows(&file, "cases") {
        let parsed = row["text"].as_str().expect("text").parse::<Quantity>();
        if row["error"] == true {
            assert!(parsed.is_err(), "{row}");
            continue;
        }
        let quantity = parsed.unwrap_or_else(|error| panic!("{row}: {error}"));
        assert_eq!(row["canonical"], quantity.to_string(), "{row}");
        match quantity.value() {
            Some(value) => assert_eq!(row["value"], value.to_string(), "{row}"),
            // Where the amount is too large the reference wraps round to a negative one.
            None => assert_eq!(row["value"], i64::MIN.to_string(), "{row}"),
        }
    }
}

#[test]
fn truthy_strings() {
    let file = vectors(include_str!("../vectors/truthy.json"));
    let cases = file["cases"].as_object().expect("cases");
    assert!(cases.len() > 20);
    for (text, expected) in cases {
        assert_eq!(is_truthy(text), *expected, "{text:?}");
    }
}

#[test]
fn cron_schedules() {
    let file = vectors(include_str!("../vectors/cron.json"));
    for row in rows(&file, "cases") {
        let spec = row["spec"].as_str().expect("spec");
        let parsed = spec.parse::<Schedule>();
        if row["error"] == true || row["panics"] == true {
            assert!(parsed.is_err(), "{spec}");
            continue;
        }
        let schedule = parsed.unwrap_or_else(|error| panic!("{spec}: {error}"));
        for (after, expected) in row["next_three_after"].as_object().expect("instants") {
            let mut time: Timestamp = after.parse().expect("an instant");
            for expected in expected.as_array().expect("three times") {
                time = schedule
                    .next(time, &TimeZone::UTC)
                    .unwrap_or_else(|| panic!("{spec} after {after}"));
                let expected: Timestamp = expected
                    .as_str()
                    .expect("text")
                    .parse()
                    .expect("an instant");
                assert_eq!(time, expected, "{spec} after {after}");
            }
        }
    }
}

proptest! {
    #[test]
    fn any_duration_survives_its_text(nanoseconds: i64) {
        let duration = GoDuration::from_nanos(nanoseconds);
        prop_assert_eq!(duration.to_string().parse(), Ok(duration));
    }

    #[test]
    fn any_quantity_survives_its_text(number in -1_000_000_000i64..1_000_000_000, suffix in 0usize..13) {
        let suffix = ["", "n", "u", "m", "k", "M", "G", "T", "e3", "Ki", "Mi", "Gi", "Ti"][suffix];
        let quantity: Quantity = format!("{number}{suffix}").parse().expect("a quantity");
        prop_assert_eq!(quantity.to_string().parse(), Ok(quantity));
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,40}") {
        let _ = (text.parse::<GoDuration>().is_ok(), text.parse::<Period>().is_ok(), text.parse::<Quantity>().is_ok());
        let _ = (text.parse::<Schedule>().is_ok(), values::period::rfc3339(&text));
    }

    #[test]
    fn near_misses_do_not_panic(text in "[-+@0-9PTRYMWDHSnumkKGEe.,/*?: µsZ=]{0,24}") {
        let _ = (text.parse::<GoDuration>().is_ok(), text.parse::<Period>().is_ok(), text.parse::<Quantity>().is_ok());
        if let Ok(schedule) = text.parse::<Schedule>() {
            let _ = schedule.next(Timestamp::UNIX_EPOCH, &TimeZone::UTC);
        }
    }

    #[test]
    fn the_next_time_is_later(second in 0u8..60, hour in 0u8..24, day in 1u8..=28, start in 0i64..4_000_000_000) {
        let schedule: Schedule = format!("{second} */7 {hour} {day} * *").parse().expect("a schedule");
        let start = Timestamp::from_second(start).expect("in range");
        let next = schedule.next(start, &TimeZone::UTC).expect("within five years");
        prop_assert!(next > start);
        let civil = TimeZone::UTC.to_datetime(next);
        prop_assert_eq!((civil.second(), civil.hour(), civil.day()), (second as i8, hour as i8, day as i8));
    }
}
