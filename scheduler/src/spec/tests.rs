//! What is accepted, what is refused, and when it is due.

use prost::Message as _;

use super::*;
use crate::testing::{app, at};

const NOW: &str = "2026-01-01T00:00:00Z";

fn job(
    schedule: Option<&str>,
    due: Option<&str>,
    ttl: Option<&str>,
    repeats: Option<u32>,
) -> wire::Job {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    wire::Job {
        schedule: owned(schedule),
        due_time: owned(due),
        ttl: owned(ttl),
        repeats,
        ..wire::Job::default()
    }
}

fn checked(job: wire::Job) -> Result<StoredJob, Error> {
    stored(job, any(&app("ns", "app")), at(NOW), 7)
}

fn plan(job: wire::Job) -> Plan {
    Plan::of(&checked(job).unwrap()).unwrap()
}

fn error(job: wire::Job) -> String {
    checked(job).unwrap_err().to_string()
}

#[test]
fn what_does_not_go_together() {
    for (job, text) in [
        (
            job(None, None, None, None),
            "job must have either a due time or a schedule",
        ),
        (
            job(None, Some("1s"), None, Some(2)),
            "job must have a schedule to repeat",
        ),
        (
            job(Some("@daily"), None, None, Some(0)),
            "defined repeats must be greater than 0",
        ),
        (
            job(None, Some("1s"), Some("2s"), None),
            "job must have a schedule to have a ttl",
        ),
        (
            job(Some("@daily"), Some("3s"), Some("-2s"), None),
            "ttl must be greater than due time",
        ),
        (job(Some("* * * * *"), None, None, None), "six fields"),
        (
            job(Some("TZ=UTC * * * * *"), None, None, None),
            "six fields",
        ),
        (
            job(Some("TZ=UTC @every 1h"), None, None, None),
            "means nothing for a delay",
        ),
        (job(Some("@sometimes"), None, None, None), "@sometimes"),
        (
            job(None, Some("tomorrow"), None, None),
            "due time format not recognized",
        ),
        (
            job(None, Some("R2/PT1S"), None, None),
            "due time format not recognized",
        ),
        (
            job(Some("@daily"), None, Some("x"), None),
            "ttl format not recognized",
        ),
    ] {
        let error = error(job);
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn what_is_accepted() {
    for schedule in [
        "* * * * * *",
        "@every 0s",
        "@daily",
        "TZ=Asia/Tokyo 0 0 9 * * *",
        "@every 1h30m",
    ] {
        assert!(
            checked(job(Some(schedule), None, None, None)).is_ok(),
            "{schedule}"
        );
    }
    for due in ["0s", "-5s", "2020-01-01T00:00:00Z", "PT1M", "P1Y"] {
        assert!(
            checked(job(None, Some(due), None, Some(1))).is_ok(),
            "{due}"
        );
    }
}

#[test]
fn a_schedule_counts_from_its_beginning_and_fires_there_only_with_a_due_time() {
    let every = plan(job(Some("@every 10s"), None, None, None));
    assert_eq!(every.next(0, None), Some(at("2026-01-01T00:00:10Z")));
    let due = plan(job(Some("@every 10s"), Some("3s"), None, None));
    assert_eq!(due.next(0, None), Some(at("2026-01-01T00:00:03Z")));
    assert_eq!(
        due.next(1, Some(at("2026-01-01T00:00:03Z"))),
        Some(at("2026-01-01T00:00:13Z"))
    );
    let once = plan(job(None, Some("3s"), None, None));
    assert_eq!(once.next(0, None), Some(at("2026-01-01T00:00:03Z")));
    assert_eq!(once.next(1, once.next(0, None)), None);
}

#[test]
fn a_schedule_ends_with_its_repeats_and_its_time_to_live() {
    let twice = plan(job(Some("@every 1s"), None, None, Some(2)));
    assert_eq!(twice.next(2, Some(at(NOW))), None);
    let lives = plan(job(Some("@every 1s"), Some("1s"), Some("2s"), None));
    assert_eq!(lives.expiration, Some(at("2026-01-01T00:00:03Z")));
    assert_eq!(
        lives.next(1, Some(at("2026-01-01T00:00:02Z"))),
        Some(at("2026-01-01T00:00:03Z"))
    );
    assert_eq!(lives.next(2, Some(at("2026-01-01T00:00:03Z"))), None);
}

#[test]
fn what_was_asked_for_comes_back() {
    let mut asked = job(Some("@every 1s"), Some("2s"), Some("1h"), Some(3));
    asked.data = Some(any(&app("a", "b")));
    asked.failure_policy = Some(common::JobFailurePolicy {
        policy: Some(common::job_failure_policy::Policy::Drop(
            common::JobFailurePolicyDrop {},
        )),
    });
    let stored = checked(asked.clone()).unwrap();
    assert_eq!(stored.partition_id, 7);
    assert_eq!(shown(stored.job.unwrap()), asked);
    let by_default = checked(job(Some("@daily"), None, None, None)).unwrap();
    let policy = by_default.job.unwrap().failure_policy.unwrap().policy;
    assert!(matches!(policy, Some(Policy::Constant(constant)) if constant.max_retries == Some(3)));
}

/// The numbers are those of upstream's stored jobs.
#[test]
fn field_numbers_of_a_stored_job() {
    let job = Job {
        schedule: Some("s".into()),
        due_time: Some("d".into()),
        ttl: Some("t".into()),
        repeats: Some(5),
        ..Job::default()
    };
    let stored = StoredJob {
        partition_id: 3,
        begin: Some(Begin::DueTime(prost_types::Timestamp {
            seconds: 1,
            nanos: 0,
        })),
        expiration: Some(prost_types::Timestamp {
            seconds: 2,
            nanos: 0,
        }),
        job: Some(job),
    };
    assert_eq!(
        stored.encode_to_vec(),
        b"\x08\x03\x1a\x02\x08\x01\x22\x02\x08\x02\x2a\x0b\x0a\x01s\x12\x01d\x1a\x01t\x20\x05"
    );
}
