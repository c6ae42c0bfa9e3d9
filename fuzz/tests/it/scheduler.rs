//! Jobs: as sidecars ask for them, and as the store may have them.

use jiff::Timestamp;

/// Most times that a job fires here.
const TIMES: usize = 8;

fn now() -> Timestamp {
    Timestamp::from_second(1_767_225_600).expect("in range")
}

fn check(fired: &[Timestamp]) {
    assert!(fired.len() <= TIMES + 1, "{} times", fired.len());
    assert!(fired.is_sorted(), "{fired:?}");
    assert!(fired.iter().all(|at| *at >= now()), "{fired:?}");
}

#[test]
fn scheduled_jobs() {
    fuzz::run("scheduled_jobs", |input| {
        match scheduler::trial::request(input, now(), TIMES) {
            Ok(fired) => check(&fired),
            Err(message) => assert!(!message.is_empty() && message.len() < 1000, "{message}"),
        }
    });
}

#[test]
fn stored_jobs() {
    fuzz::run("stored_jobs", |input| {
        check(&scheduler::trial::stored(input, now(), TIMES));
    });
}
