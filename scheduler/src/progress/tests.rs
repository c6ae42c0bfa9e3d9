//! Deliveries that work and fail, one after the other.

use super::*;
use crate::spec::{self, any};
use crate::testing::{app, at};
use proto::common::v1 as common;
use proto::scheduler::v1 as wire;

const NOW: &str = "2026-01-01T00:00:00Z";

fn seconds(seconds: u32) -> Timestamp {
    at(&format!("2026-01-01T00:00:{seconds:02}Z"))
}

fn plan(job: wire::Job) -> Plan {
    let stored = spec::stored(job, any(&app("ns", "app")), at(NOW), 1).unwrap();
    Plan::of(&stored).unwrap()
}

fn every(delay: &str, repeats: Option<u32>, retries: Option<Option<u32>>) -> Plan {
    let constant = |max_retries| common::JobFailurePolicyConstant {
        interval: Some(prost_types::Duration {
            seconds: 2,
            nanos: 0,
        }),
        max_retries,
    };
    let policy = retries.map(|retries| common::JobFailurePolicy {
        policy: Some(common::job_failure_policy::Policy::Constant(constant(
            retries,
        ))),
    });
    plan(wire::Job {
        schedule: Some(format!("@every {delay}")),
        repeats,
        failure_policy: policy,
        ..wire::Job::default()
    })
}

fn due(step: Step) -> (Progress, Timestamp) {
    match step {
        Step::Due(progress, due) => (progress, due),
        Step::Done => panic!("the job is done"),
    }
}

#[test]
fn missed_times_are_made_up_one_by_one() {
    let plan = every("10s", Some(3), None);
    let (progress, first) = due(Progress::default().due(&plan));
    assert_eq!(first, seconds(10));
    let (progress, second) = due(progress.succeeded(&plan));
    assert_eq!((progress.count, second), (1, seconds(20)));
    let (progress, third) = due(progress.succeeded(&plan));
    assert_eq!((progress.count, third), (2, seconds(30)));
    assert_eq!(progress.succeeded(&plan), Step::Done);
}

#[test]
fn retries_do_not_move_the_schedule() {
    let plan = every("10s", None, Some(Some(2)));
    let (progress, first) = due(Progress::default().due(&plan));
    let (progress, again) = due(progress.failed(&plan, first));
    assert_eq!((progress.attempts, again), (1, seconds(12)));
    let (progress, again) = due(progress.failed(&plan, again));
    assert_eq!((progress.attempts, again), (2, seconds(14)));
    let (progress, next) = due(progress.failed(&plan, again));
    assert_eq!((progress.count, progress.attempts), (1, 0));
    assert_eq!(next, seconds(20));
}

#[test]
fn no_limit_of_retries_is_endless() {
    let plan = every("10s", Some(1), Some(None));
    let (mut progress, mut at) = due(Progress::default().due(&plan));
    for _ in 0..20 {
        (progress, at) = due(progress.failed(&plan, at));
    }
    assert_eq!((progress.count, progress.attempts), (0, 20));
}

#[test]
fn dropped_is_given_up_at_once() {
    let plan = plan(wire::Job {
        schedule: Some("@every 10s".to_owned()),
        repeats: Some(2),
        failure_policy: Some(common::JobFailurePolicy {
            policy: Some(common::job_failure_policy::Policy::Drop(
                common::JobFailurePolicyDrop {},
            )),
        }),
        ..wire::Job::default()
    });
    let (progress, first) = due(Progress::default().due(&plan));
    let (progress, second) = due(progress.failed(&plan, first));
    assert_eq!((progress.count, second), (1, seconds(20)));
    assert_eq!(progress.failed(&plan, second), Step::Done);
}

#[test]
fn a_counter_counts_for_its_job_only() {
    let progress = Progress {
        count: 3,
        attempts: 1,
        last: Some(seconds(5)),
    };
    let counter = progress.counter(7);
    assert_eq!(Progress::of(&counter, 7), progress);
    assert_eq!(Progress::of(&counter, 8), Progress::default());
}
