//! A world whose time and store do what the test says.

use jiff::SignedDuration;
use proto::scheduler::v1::{
    self as wire, ConcurrencyLimit, ConcurrencyLimitActor, JobMetadata, concurrency_limit::Target,
};

use super::*;
use crate::gates::MAX_WAITING;
use crate::names;
use crate::ownership::Share;
use crate::routes::MESSAGES;
use crate::spec::{self, any};
use crate::testing::{app, at, reminder};

mod clock;
mod reading;

const NOW: &str = "2026-01-01T00:00:00Z";
const SUCCESS: WatchJobsRequestResultStatus = WatchJobsRequestResultStatus::Success;
const FAILED: WatchJobsRequestResultStatus = WatchJobsRequestResultStatus::Failed;

/// An engine with a clock, and a store that does at once what it is told.
struct World {
    engine: Engine,
    now: Timestamp,
    revision: u64,
    sent: Vec<(StreamId, String, u64)>,
}

impl World {
    fn new() -> Self {
        let mut engine = Engine::new(Metrics::detached());
        engine.own(&[Share { index: 0, total: 1 }]);
        Self {
            engine,
            now: at(NOW),
            revision: 0,
            sent: Vec::new(),
        }
    }

    fn put(
        &mut self,
        metadata: &JobMetadata,
        name: &str,
        schedule: Option<&str>,
        due: Option<&str>,
    ) {
        let job = wire::Job {
            schedule: schedule.map(str::to_owned),
            due_time: due.map(str::to_owned),
            ..wire::Job::default()
        };
        self.revision += 1;
        let stored = spec::stored(job, any(metadata), self.now, self.revision).unwrap();
        let name = names::job(metadata, name).unwrap();
        self.engine
            .put(&name, self.revision, &stored.encode_to_vec(), None);
        self.settle();
    }

    fn remove(&mut self, name: &str) {
        self.revision += 1;
        self.engine.remove(name, self.revision);
    }

    fn connect(&mut self, stream: StreamId, types: &[&str], limits: &[(&str, Option<&str>, i32)]) {
        let limit = |(kind, name, most): &(&str, Option<&str>, i32)| ConcurrencyLimit {
            max_concurrent: *most,
            name: name.map(str::to_owned),
            target: Some(Target::Actor(ConcurrencyLimitActor {
                r#type: (*kind).to_owned(),
            })),
        };
        let initial = WatchJobsRequestInitial {
            app_id: "app".to_owned(),
            namespace: "ns".to_owned(),
            actor_types: types.iter().map(|kind| (*kind).to_owned()).collect(),
            accept_job_types: Vec::new(),
            concurrency_limits: limits.iter().map(limit).collect(),
        };
        self.engine.connect(self.now, stream, &initial);
        self.settle();
    }

    fn disconnect(&mut self, stream: StreamId) {
        self.engine.disconnect(self.now, stream);
        self.settle();
    }

    fn result(&mut self, stream: StreamId, id: u64, status: WatchJobsRequestResultStatus) {
        self.engine.result(self.now, stream, id, status);
        self.settle();
    }

    fn refused(&mut self, stream: StreamId, id: u64) {
        self.engine.refused(self.now, stream, id);
        self.settle();
    }

    fn pass(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            let next = self.engine.advance(self.now);
            let mut idle = next.is_none_or(|next| next > self.now);
            while let Some(effect) = self.engine.effect() {
                idle = false;
                match effect {
                    Effect::Send(stream, job) => self.sent.push((stream, job.name, job.id)),
                    Effect::Save(save) if save.counter.is_some() => {
                        self.engine.saved(save.slot, save.revision);
                    }
                    Effect::Save(save) => self.remove(&save.name),
                }
            }
            if idle {
                return;
            }
        }
    }

    /// What was sent since the last look.
    fn sent(&mut self) -> Vec<(StreamId, String, u64)> {
        std::mem::take(&mut self.sent)
    }
}

fn to(stream: StreamId, name: &str, id: u64) -> (StreamId, String, u64) {
    (stream, name.to_owned(), id)
}

#[test]
fn a_job_fires_once_at_its_time_and_is_gone() {
    let mut world = World::new();
    world.connect(1, &[], &[]);
    world.put(&app("ns", "app"), "j", None, Some("10s"));
    world.pass(9);
    assert_eq!(world.sent(), []);
    world.pass(1);
    assert_eq!(world.sent(), [to(1, "j", 1)]);
    world.pass(100);
    assert_eq!(world.sent(), [], "it is out");
    world.result(1, 1, SUCCESS);
    assert_eq!(world.engine.len(), 0);
    world.result(1, 1, SUCCESS);
    world.result(9, 1, SUCCESS);
    assert_eq!(world.sent(), []);
}

#[test]
fn a_failed_job_comes_again_as_its_policy_says() {
    let mut world = World::new();
    world.connect(1, &[], &[]);
    world.put(&app("ns", "app"), "j", None, Some("0s"));
    for id in 1..=4 {
        assert_eq!(world.sent(), [to(1, "j", id)]);
        world.result(1, id, FAILED);
        world.pass(1);
    }
    assert_eq!(world.sent(), []);
    assert_eq!(world.engine.len(), 0);
}

#[test]
fn what_nobody_takes_waits_for_a_stream() {
    let mut world = World::new();
    world.put(&reminder("ns", "app", "t", "1"), "r", None, Some("0s"));
    world.put(&app("ns", "app"), "late", None, Some("2s"));
    world.put(&app("ns", "app"), "early", None, Some("1s"));
    world.put(&app("ns", "app"), "deleted", None, Some("1s"));
    world.put(&app("other", "app"), "foreign", None, Some("0s"));
    world.pass(5);
    world.remove("app||ns||app||deleted");
    assert_eq!(world.sent(), []);
    world.connect(1, &["t"], &[]);
    assert_eq!(
        world.sent(),
        [to(1, "early", 1), to(1, "late", 2), to(1, "r", 3)]
    );
}

#[test]
fn what_was_on_its_way_to_a_stream_that_ends_goes_to_another() {
    let mut world = World::new();
    world.connect(1, &[], &[]);
    world.connect(2, &[], &[]);
    for name in ["a", "b", "c"] {
        world.put(&app("ns", "app"), name, None, Some("0s"));
    }
    assert_eq!(world.sent(), [to(1, "a", 1), to(2, "b", 1), to(1, "c", 2)]);
    world.disconnect(1);
    assert_eq!(world.sent(), [to(2, "a", 2), to(2, "c", 3)]);
    world.disconnect(2);
    world.disconnect(2);
    assert_eq!(world.sent(), []);
    world.connect(3, &[], &[]);
    assert_eq!(world.sent().len(), 3);
}

#[test]
fn a_stream_that_is_left_gets_nothing_more_and_gives_back_what_it_has() {
    let mut world = World::new();
    world.connect(1, &[], &[]);
    world.connect(2, &[], &[]);
    for name in ["a", "b", "c"] {
        world.put(&app("ns", "app"), name, None, Some("0s"));
    }
    assert_eq!(world.sent(), [to(1, "a", 1), to(2, "b", 1), to(1, "c", 2)]);
    world.refused(1, 0);
    assert_eq!(world.sent(), []);
    world.refused(1, 2);
    assert_eq!(world.sent(), [to(2, "c", 2)]);
    for (id, name) in (3..).zip(["d", "e"]) {
        world.put(&app("ns", "app"), name, None, Some("0s"));
        assert_eq!(world.sent(), [to(2, name, id)]);
    }
    // What it has handed on has its result.
    world.result(1, 1, SUCCESS);
    assert_eq!(world.engine.len(), 4);
    world.refused(2, 2);
    world.disconnect(2);
    world.disconnect(1);
    assert_eq!(world.sent(), []);
    world.connect(3, &[], &[]);
    assert_eq!(world.sent().len(), 4);
}

/// More than the queue of a gate holds: they wait, and no delivery has failed.
#[test]
fn what_finds_the_queue_of_a_gate_full_looks_again() {
    let mut world = World::new();
    world.connect(1, &["t"], &[("t", None, 1)]);
    let all = MAX_WAITING + 3;
    for number in 0..all {
        let metadata = reminder("ns", "app", "t", "1");
        world.put(&metadata, &number.to_string(), None, Some("0s"));
    }
    assert_eq!(world.sent(), [to(1, "0", 1)]);
    for id in 1..=u64::try_from(all).unwrap() {
        world.engine.taken(world.now, 1, 1, 1 << 10);
        world.result(1, id, SUCCESS);
        if id.is_multiple_of(MAX_WAITING as u64 / 2) {
            world.pass(5);
        }
    }
    assert_eq!((world.sent().len(), world.engine.len()), (all - 1, 0));
}

#[test]
fn a_job_that_is_replaced_while_it_is_out_begins_anew() {
    let mut world = World::new();
    world.connect(1, &[], &[]);
    world.put(&app("ns", "app"), "j", None, Some("0s"));
    world.put(&app("ns", "app"), "j", None, Some("5s"));
    assert_eq!(world.sent(), [to(1, "j", 1)]);
    world.result(1, 1, SUCCESS);
    assert_eq!(world.engine.len(), 1, "the result was the old one's");
    world.pass(5);
    assert_eq!(world.sent(), [to(1, "j", 2)]);
}

#[test]
fn missed_times_fire_one_behind_the_other() {
    let mut world = World::new();
    world.put(&app("ns", "app"), "j", Some("@every 10s"), None);
    world.pass(35);
    world.connect(1, &[], &[]);
    for id in 1..=3 {
        assert_eq!(world.sent(), [to(1, "j", id)]);
        world.result(1, id, SUCCESS);
    }
    assert_eq!(world.sent(), []);
    world.pass(5);
    assert_eq!(world.sent(), [to(1, "j", 4)]);
}

#[test]
fn a_stream_that_does_not_read_gets_no_more_than_it_has_room_for() {
    let mut world = World::new();
    world.connect(1, &[], &[]);
    for n in 0..MESSAGES + 10 {
        world.put(&app("ns", "app"), &n.to_string(), None, Some("0s"));
    }
    assert_eq!(world.sent().len(), MESSAGES);
    world.engine.taken(world.now, 1, 4, 100);
    world.settle();
    assert_eq!(world.sent().len(), 4);
    world.connect(2, &[], &[]);
    assert_eq!(world.sent().len(), 6);
}

/// As upstream has it: behind a result gates are opened one after the other, and who needs both finds the second still shut.
#[test]
fn reminders_wait_for_room_and_keep_their_place() {
    let mut world = World::new();
    world.connect(1, &["t"], &[("t", None, 2), ("t", Some("hot"), 1)]);
    let hot = JobMetadata {
        concurrency_key: Some("hot".to_owned()),
        ..reminder("ns", "app", "t", "1")
    };
    let cold = reminder("ns", "app", "t", "1");
    for (metadata, name) in [
        (&hot, "h1"),
        (&cold, "c1"),
        (&hot, "h2"),
        (&cold, "c2"),
        (&hot, "h3"),
    ] {
        world.put(metadata, name, None, Some("0s"));
    }
    assert_eq!(world.sent(), [to(1, "h1", 1), to(1, "c1", 2)]);
    world.result(1, 2, SUCCESS);
    assert_eq!(world.sent(), [to(1, "c2", 3)]);
    world.result(1, 1, SUCCESS);
    assert_eq!(world.sent(), []);
    world.result(1, 3, SUCCESS);
    assert_eq!(world.sent(), [to(1, "h2", 4)]);
    world.result(1, 4, SUCCESS);
    assert_eq!(world.sent(), []);
    world.engine.sweep(world.now);
    world.settle();
    assert_eq!(world.sent(), [to(1, "h3", 5)], "nobody is forgotten");
    world.disconnect(1);
    world.connect(2, &["t"], &[]);
    assert_eq!(world.sent(), [to(2, "h3", 1)]);
}

#[test]
fn bytes_that_are_no_job_or_another_one_do_not_fire() {
    let mut world = World::new();
    world.connect(1, &[], &[]);
    world.engine.put("app||ns||app||x", 1, b"\xff\xff", None);
    world.engine.put("app||ns||app||y", 2, b"", None);
    let stored = spec::stored(
        wire::Job {
            due_time: Some("0s".to_owned()),
            ..wire::Job::default()
        },
        any(&app("ns", "app")),
        world.now,
        1,
    );
    let value = stored.unwrap().encode_to_vec();
    world.engine.put("app||ns||other||z", 3, &value, None);
    world.settle();
    assert_eq!((world.sent(), world.engine.len()), (vec![], 0));
}

/// Jobs have the numbers of their writes as partition ids.
#[test]
fn jobs_of_others_are_given_away_once_they_are_back() {
    let mut world = World::new();
    world.connect(1, &[], &[]);
    for (name, due) in [("a", "0s"), ("b", "0s"), ("c", "10s"), ("d", "10s")] {
        world.put(&app("ns", "app"), name, None, Some(due));
    }
    assert_eq!(world.sent(), [to(1, "a", 1), to(1, "b", 2)]);
    world.engine.own(&[Share { index: 1, total: 2 }]);
    assert_eq!((world.engine.len(), world.engine.leaving()), (3, 1));
    world.result(1, 2, SUCCESS);
    assert_eq!((world.engine.len(), world.engine.leaving()), (2, 0));
    world.put(&app("ns", "app"), "e", None, Some("0s"));
    world.put(&app("ns", "app"), "f", None, Some("0s"));
    // The deletion of the second was a write, too.
    assert_eq!(world.sent(), [to(1, "f", 3)], "the sixth is another one's");
    world.pass(10);
    assert_eq!(world.sent(), [to(1, "c", 4)]);
    // The lease is lost: nothing that is out comes again.
    world.engine.own(&[]);
    world.disconnect(1);
    world.connect(2, &[], &[]);
    world.pass(100);
    assert_eq!((world.sent(), world.engine.len()), (Vec::new(), 0));
}
