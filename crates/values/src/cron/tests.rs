//! Schedules and their next times.

use super::*;

fn next(spec: &str, after: &str) -> Option<String> {
    let schedule: Schedule = spec.parse().expect("a schedule");
    let after = after.parse().expect("a timestamp");
    schedule
        .next(after, &TimeZone::UTC)
        .map(|time| time.to_string())
}

#[test]
fn a_day_that_never_comes_has_no_next() {
    assert_eq!(next("0 0 0 31 2 *", "2026-01-01T00:00:00Z"), None);
    assert_eq!(next(", * * * * *", "2026-01-01T00:00:00Z"), None);
}

#[test]
fn either_day_field_matches_unless_one_is_a_star() {
    assert_eq!(
        next("0 0 13 * 5", "2026-02-07T00:00:00Z").as_deref(),
        Some("2026-02-13T00:00:00Z")
    );
    assert_eq!(
        next("0 0 14 * 5", "2026-02-13T00:00:00Z").as_deref(),
        Some("2026-02-14T00:00:00Z")
    );
    assert_eq!(
        next("0 0 */1 * 5", "2026-02-07T00:00:00Z").as_deref(),
        Some("2026-02-13T00:00:00Z")
    );
}

/// Libraries differ: see findings/cron-weekday-numbers.sh.
#[test]
fn weekdays_count_from_sunday_as_zero() {
    for (day, date) in [("0", "07"), ("1", "08"), ("MON", "08"), ("2", "09")] {
        let next = next(&format!("0 0 9 * * {day}"), "2024-01-02T12:00:00Z");
        assert_eq!(next, Some(format!("2024-01-{date}T09:00:00Z")), "{day}");
    }
}

#[test]
fn the_callers_zone_counts_without_a_prefix() {
    let schedule: Schedule = "0 4 * * *".parse().expect("a schedule");
    let tokyo = TimeZone::get("Asia/Tokyo").expect("bundled zone");
    let after = "2026-01-01T00:00:00Z".parse().expect("a timestamp");
    assert_eq!(
        schedule
            .next(after, &tokyo)
            .map(|t| t.to_string())
            .as_deref(),
        Some("2026-01-01T19:00:00Z")
    );
}

#[test]
fn a_skipped_midnight_on_the_first_of_a_month_ends() {
    // Asuncion skipped the first hour of 1 October 2017.
    let time = next("TZ=America/Asuncion 0 12 * 11 *", "2017-09-30T12:00:00Z");
    assert_eq!(time.as_deref(), Some("2017-11-01T15:00:00Z"));
}

#[test]
fn the_end_of_the_calendar_is_no_panic() {
    assert_eq!(
        "* * * * *"
            .parse::<Schedule>()
            .expect("a schedule")
            .next(Timestamp::MAX, &TimeZone::UTC),
        None
    );
}

/// As the reference has it: a wall clock that is shown twice counts twice, and one that is skipped not at all. Q-cron-gap
#[test]
fn nights_on_which_clocks_change_have_an_hour_more_or_less() {
    let cases: [(&str, &str, [&str; 3]); 5] = [
        (
            "CRON_TZ=Europe/Berlin 30 2 * * *",
            "2026-10-24T12:00:00Z",
            [
                "2026-10-25T00:30:00Z",
                "2026-10-25T01:30:00Z",
                "2026-10-26T01:30:00Z",
            ],
        ),
        (
            "CRON_TZ=America/New_York 0 30 1 1 11 *",
            "2026-10-01T12:00:00Z",
            [
                "2026-11-01T05:30:00Z",
                "2026-11-01T06:30:00Z",
                "2027-11-01T05:30:00Z",
            ],
        ),
        (
            "CRON_TZ=Australia/Lord_Howe 45 1 * * *",
            "2026-04-04T00:00:00Z",
            [
                "2026-04-04T14:45:00Z",
                "2026-04-04T15:15:00Z",
                "2026-04-05T15:15:00Z",
            ],
        ),
        (
            "CRON_TZ=America/Santiago 30 23 * * *",
            "2026-04-04T12:00:00Z",
            [
                "2026-04-05T02:30:00Z",
                "2026-04-05T03:30:00Z",
                "2026-04-06T03:30:00Z",
            ],
        ),
        (
            "CRON_TZ=Europe/Berlin 30 2 * * *",
            "2026-03-28T00:00:00Z",
            [
                "2026-03-28T01:30:00Z",
                "2026-03-30T00:30:00Z",
                "2026-03-31T00:30:00Z",
            ],
        ),
    ];
    for (spec, mut after, times) in cases {
        for time in times {
            assert_eq!(
                next(spec, after).as_deref(),
                Some(time),
                "{spec} after {after}"
            );
            after = time;
        }
    }
}
