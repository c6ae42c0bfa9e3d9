//! Clocks that jump, days that are longer or shorter than others, and how old the oldest job is that should be out.

use telemetry::{Meter, MetricOptions};

use super::*;

impl World {
    /// Sets the clock, forward or back.
    fn jump(&mut self, to: &str) {
        self.now = at(to);
        self.settle();
    }

    /// Lets everything that is out work, until nothing comes any more; how often each was sent.
    fn work(&mut self) -> Vec<(String, usize)> {
        let mut times = std::collections::BTreeMap::new();
        loop {
            let sent = self.sent();
            if sent.is_empty() {
                return times.into_iter().collect();
            }
            for (stream, name, id) in sent {
                *times.entry(name).or_default() += 1;
                self.result(stream, id, SUCCESS);
            }
        }
    }
}

fn times(expected: &[(&str, usize)]) -> Vec<(String, usize)> {
    let owned = expected
        .iter()
        .map(|(name, times)| ((*name).to_owned(), *times));
    owned.collect()
}

#[test]
fn a_jump_forward_fires_what_is_overdue_once_and_makes_up_missed_times() {
    let mut world = World::new();
    world.connect(1, &[], &[]);
    let app = app("ns", "app");
    world.put(&app, "once", None, Some("30m"));
    world.put(&app, "later", None, Some("90m"));
    world.put(&app, "every", Some("@every 10m"), None);
    world.jump("2026-01-01T01:00:00Z");
    assert_eq!(world.work(), times(&[("every", 6), ("once", 1)]));
    world.pass(1);
    assert_eq!(world.work(), []);
    // And what was ahead of the clock is still there, at its time.
    world.jump("2026-01-01T01:30:00Z");
    assert_eq!(world.work(), times(&[("every", 3), ("later", 1)]));
}

#[test]
fn a_jump_back_fires_nothing_twice() {
    let mut world = World::new();
    world.connect(1, &[], &[]);
    let app = app("ns", "app");
    world.put(&app, "once", None, Some("10m"));
    world.put(&app, "every", Some("@every 10m"), None);
    world.put(&app, "hourly", Some("0 0 * * * *"), None);
    world.jump("2026-01-01T01:00:00Z");
    assert_eq!(
        world.work(),
        times(&[("every", 6), ("hourly", 1), ("once", 1)])
    );
    for back in [
        "2026-01-01T00:00:00Z",
        "2025-12-31T23:00:00Z",
        "2026-01-01T01:00:00Z",
    ] {
        world.jump(back);
        assert_eq!(world.work(), [], "{back}");
    }
    world.jump("2026-01-01T01:10:00Z");
    assert_eq!(world.work(), times(&[("every", 1)]));
}

/// What is out while the clock is set back is neither sent again nor lost.
#[test]
fn a_result_behind_a_jump_counts() {
    let mut world = World::new();
    world.connect(1, &[], &[]);
    world.put(&app("ns", "app"), "every", Some("@every 10m"), None);
    world.jump("2026-01-01T00:10:00Z");
    assert_eq!(world.sent(), [to(1, "every", 1)]);
    world.jump("2026-01-01T00:00:00Z");
    assert_eq!(world.sent(), []);
    world.result(1, 1, SUCCESS);
    world.jump("2026-01-01T00:10:00Z");
    assert_eq!(world.sent(), []);
    world.jump("2026-01-01T00:20:00Z");
    assert_eq!(world.sent(), [to(1, "every", 2)]);
}

/// Every hour of the days around both changes of the clock in Berlin, where half past two is missing once and there twice.
#[test]
fn days_of_other_lengths_have_each_time_of_a_daily_job_as_often_as_the_clock_shows_it() {
    for (begin, nights) in [("2026-03-27T12:00:00Z", 3), ("2026-10-23T12:00:00Z", 5)] {
        let mut world = World::new();
        world.now = at(begin);
        world.connect(1, &[], &[]);
        let app = app("ns", "app");
        world.put(
            &app,
            "daily",
            Some("CRON_TZ=Europe/Berlin 0 30 12 * * *"),
            None,
        );
        world.put(
            &app,
            "night",
            Some("CRON_TZ=Europe/Berlin 0 30 2 * * *"),
            None,
        );
        let mut fired = std::collections::BTreeMap::new();
        for _ in 0..4 * 24 {
            world.pass(3600);
            for (name, times) in world.work() {
                *fired.entry(name).or_insert(0) += times;
            }
        }
        let fired: Vec<_> = fired.into_iter().collect();
        assert_eq!(
            fired,
            times(&[("daily", 4), ("night", nights)]),
            "from {begin}"
        );
    }
}

#[test]
fn the_age_of_what_is_not_handed_out_is_told() {
    let registry = prometheus::Registry::new();
    let meter = Meter::new(&registry, MetricOptions::default()).unwrap();
    let mut world = World::new();
    world.engine = Engine::new(Metrics::new(&meter));
    world.engine.own(&[Share { index: 0, total: 1 }]);
    let age = |world: &mut World| {
        world.engine.sweep(world.now);
        let families = registry.gather();
        let mut named = families
            .iter()
            .filter(|family| family.name().ends_with("oldest_due_seconds"));
        named
            .next()
            .map(|family| family.get_metric()[0].get_gauge().get_value())
    };
    let app = app("ns", "app");
    world.put(&app, "nobody", None, Some("0s"));
    world.pass(3);
    assert_eq!(age(&mut world), Some(0.0), "nobody is there for it");
    world.connect(1, &[], &[]);
    for number in 0..MESSAGES {
        world.put(&app, &number.to_string(), None, Some("0s"));
    }
    assert_eq!(
        age(&mut world),
        Some(0.0),
        "it waits for the first time now"
    );
    world.pass(7);
    assert_eq!(age(&mut world), Some(7.0));
    world.pass(5);
    assert_eq!(age(&mut world), Some(12.0));
    world.engine.taken(world.now, 1, 1, 100);
    world.settle();
    assert_eq!(age(&mut world), Some(0.0));
}
