//! Load on a target, over several connections.
//!
//! In an open loop every call has its time in a schedule that does not wait for answers, and its latency counts from
//! that time. A slow answer therefore delays what comes after it on its connection, and the delay is seen. In a closed
//! loop a call follows the answer to the one before it: what counts there is how many there are.
//!
//! Each connection has an operating system thread: timers of an async runtime tick in milliseconds, far too coarse for
//! calls of a hundred microseconds.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use tokio::runtime::Runtime;

use super::calls::{Connection, Target};
use super::print;
use super::process::pause;
use super::samples::Samples;

/// How much to send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Calls per second over all connections; without one, as many as are answered.
    pub rate: Option<u32>,
    pub connections: u32,
    pub duration: Duration,
}

/// When the calls of a connection are due, from the beginning.
#[derive(Clone, Copy)]
enum Schedule {
    Open {
        offset: Duration,
        interval: Duration,
        calls: u32,
    },
    Closed(Duration),
}

impl Load {
    /// Runs it to its end.
    pub fn run(self, target: &Target) -> Result<Samples> {
        let start = Barrier::new(self.connections as usize);
        let results = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..self.connections)
                .map(|index| {
                    let start = &start;
                    scope.spawn(move || worker(target, self.schedule(index), start))
                })
                .collect();
            workers
                .into_iter()
                .map(|worker| worker.join().map_err(|_| anyhow!("a worker panicked"))?)
                .collect::<Result<Vec<_>>>()
        })?;
        let failures = results.iter().map(|(_, failures)| failures).sum();
        Ok(Samples::new(
            results.into_iter().flat_map(|(latencies, _)| latencies),
            failures,
        ))
    }

    fn schedule(self, index: u32) -> Schedule {
        let Some(rate) = self.rate else {
            return Schedule::Closed(self.duration);
        };
        let interval = Duration::from_secs(u64::from(self.connections)) / rate.max(1);
        let calls = self.duration.as_nanos() / interval.as_nanos().max(1);
        Schedule::Open {
            // Spread evenly, so that the calls of all connections together are evenly spaced too.
            offset: interval * index / self.connections,
            interval,
            calls: u32::try_from(calls).unwrap_or(u32::MAX),
        }
    }

    /// Says when a phase was not what it claims to be.
    pub fn report(self, name: &str, samples: &Samples) -> Result<()> {
        if samples.failures > 0 {
            print(&format!(
                "    {name}: {} failed and are in no figure",
                samples.failures
            ))?;
        }
        let asked: usize = (0..self.connections)
            .map(|index| match self.schedule(index) {
                Schedule::Open { calls, .. } => calls as usize,
                Schedule::Closed(_) => 0,
            })
            .sum();
        if samples.len() < asked - asked / 100 {
            print(&format!(
                "    {name}: only {} of {asked} were made",
                samples.len()
            ))?;
        }
        Ok(())
    }
}

impl Schedule {
    /// When a call is due; after the last one never.
    fn due(self, begin: Instant, call: u32) -> Option<Instant> {
        match self {
            Schedule::Open {
                offset,
                interval,
                calls,
            } => (call < calls).then(|| begin + offset + interval * call),
            Schedule::Closed(duration) => {
                Some(Instant::now()).filter(|now| *now < begin + duration)
            }
        }
    }
}

/// Makes one call.
pub(super) fn once(target: &Target) -> Result<()> {
    Connection::open(&runtime()?, target).map(|_| ())
}

/// Timers of threads that are started from here on fire when they are due, not some 50 us later. A kernel that does not
/// allow it only makes all sides slower alike.
pub(super) fn precise_timers() {
    let _ = std::fs::write("/proc/self/timerslack_ns", "1");
}

fn worker(target: &Target, schedule: Schedule, start: &Barrier) -> Result<(Vec<Duration>, u64)> {
    let runtime = runtime()?;
    // Everyone reaches the barrier, or the others would wait for ever.
    let connection = Connection::open(&runtime, target);
    start.wait();
    let mut connection = connection?;
    let begin = Instant::now();
    let mut latencies = Vec::new();
    let mut failures = 0;
    for call in 0.. {
        let Some(due) = schedule.due(begin, call) else {
            break;
        };
        pause(due.saturating_duration_since(Instant::now()));
        match runtime.block_on(connection.call(Some(due))) {
            Ok(()) => latencies.push(due.elapsed()),
            Err(_) => {
                failures += 1;
                connection = Connection::open(&runtime, target)?;
            }
        }
    }
    Ok((latencies, failures))
}

fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_evenly_spaced() {
        let load = Load {
            rate: Some(1000),
            connections: 4,
            duration: Duration::from_millis(8),
        };
        let begin = Instant::now();
        let mut due: Vec<_> = (0..4)
            .flat_map(|index| (0..4).map_while(move |call| load.schedule(index).due(begin, call)))
            .map(|time| time - begin)
            .collect();
        due.sort();
        let expected: Vec<_> = (0..8).map(Duration::from_millis).collect();
        assert_eq!(due, expected);
    }
}
