//! `bindings.cron`: an event whenever a schedule says so.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use component::{
    Component, Error, InputBinding, Open, Result, Scope,
    bindings::{Event, Events, events},
};
use jiff::{Timestamp, tz::TimeZone};
use values::{Clock, Schedule};

/// Ticks that wait for the app. Further ones are late, and those that were due meanwhile are left out.
const QUEUED: usize = 1;

/// Longest sleep, after which the clock is looked at again: somebody may have set it.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// Shortest time between two ticks.
const SHORTEST: Duration = Duration::from_millis(1);

component::metadata! {
    /// What the binding is opened with.
    pub struct Settings {
        /// Five fields, six with seconds in front, `@every 15s`, `@daily` and such; `TZ=` in front names a time zone.
        schedule: String => "schedule";
    }
}

/// A schedule.
pub struct Cron {
    schedule: Schedule,
    scope: Scope,
    clock: Arc<dyn Clock>,
}

impl Cron {
    /// Reads the schedule.
    ///
    /// # Errors
    /// Where it is none.
    pub fn open(open: Open) -> Result<Self> {
        let Settings { schedule } = Settings::read(&open.metadata)?;
        let parsed = schedule.parse();
        let parsed = parsed.map_err(|error: values::cron::Error| {
            let problem = format!("invalid schedule format '{schedule}'");
            Error::invalid_metadata("schedule", problem).with_source(error)
        })?;
        Ok(Self {
            schedule: parsed,
            scope: open.scope,
            clock: open.lent.clock,
        })
    }
}

#[async_trait]
impl Component for Cron {
    async fn close(&self) {
        self.scope.end();
    }
}

#[async_trait]
impl InputBinding for Cron {
    async fn read(&self) -> Result<Events> {
        let (sender, events) = events(QUEUED);
        let (schedule, clock) = (self.schedule.clone(), Arc::clone(&self.clock));
        self.scope.spawn(async move {
            let tick = async {
                while let Some(next) = schedule.next(clock.now(), &TimeZone::system()) {
                    let at_least = clock.instant() + SHORTEST;
                    sleep_until(&*clock, next, at_least).await;
                    if !sender.send(event(clock.now())).await {
                        return;
                    }
                }
                tracing::warn!(target: "dapr.contrib", "a cron schedule has no further time");
                std::future::pending().await
            };
            tokio::select! {
                () = sender.closed() => {}
                () = tick => {}
            }
        });
        Ok(events)
    }
}

async fn sleep_until(clock: &dyn Clock, time: Timestamp, at_least: std::time::Instant) {
    loop {
        let left = time.duration_since(clock.now());
        let left = Duration::try_from(left).unwrap_or_default();
        let left = left.max(at_least.saturating_duration_since(clock.instant()));
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LONGEST_SLEEP)).await;
    }
}

fn event(now: Timestamp) -> Event {
    let time = now.strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC").to_string();
    let metadata = [("timeZone", "Local".to_owned()), ("readTimeUTC", time)];
    let metadata = metadata.map(|(name, value)| (name.to_owned(), value));
    Event::unsettled("", metadata.into())
}

#[cfg(test)]
mod tests {
    use component::{Instance, Lent, Metadata};
    use component_conformance::Tasks;
    use values::FixedClock;

    use super::*;

    fn open(schedule: &str, clock: &FixedClock) -> Result<Cron> {
        let lent = Lent {
            clock: Arc::new(clock.clone()),
            ..Lent::default()
        };
        Cron::open(Open::new(
            "cron",
            Metadata::from_iter([("schedule", schedule)]),
            Arc::new(Instance::default()),
            Arc::new(Tasks::default()),
            lent,
        ))
    }

    #[tokio::test(start_paused = true)]
    async fn ticks_come_when_the_schedule_says() {
        let clock = FixedClock::at("2026-03-01T10:00:00Z".parse().unwrap());
        let cron = open("TZ=UTC 30 10 * * *", &clock).unwrap();
        let mut ticks = cron.read().await.unwrap();
        let early = tokio::time::timeout(Duration::from_secs(90), ticks.next()).await;
        assert!(early.is_err(), "a tick came before its time");
        clock.advance(Duration::from_secs(30 * 60));
        let tick = ticks.next().await.unwrap();
        assert!(tick.data.is_empty());
        let time = &tick.metadata["readTimeUTC"];
        assert_eq!(time, "2026-03-01 10:30:00 +0000 UTC");
        assert_eq!(tick.metadata["timeZone"], "Local");
    }

    #[tokio::test(start_paused = true)]
    async fn ticks_end_with_the_binding_and_with_whoever_takes_them() {
        let clock = FixedClock::at(Timestamp::UNIX_EPOCH);
        let cron = open("@every 1s", &clock).unwrap();
        drop(cron.read().await.unwrap());
        let mut ticks = cron.read().await.unwrap();
        let early = tokio::time::timeout(Duration::from_secs(90), ticks.next()).await;
        assert!(early.is_err(), "a tick came before its time");
        clock.advance(Duration::from_secs(1));
        assert!(ticks.next().await.is_some());
        cron.close().await;
        assert!(ticks.next().await.is_none());
    }

    #[test]
    fn what_is_no_schedule_is_named() {
        let clock = FixedClock::at(Timestamp::UNIX_EPOCH);
        let error = open("every day", &clock).err().unwrap();
        let text = component::error::chain(&error);
        assert!(
            text.contains("schedule") && text.contains("every day"),
            "{text}"
        );
        assert!(open("", &clock).is_err());
    }
}
