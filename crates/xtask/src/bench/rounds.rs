//! Programs of the control plane under load: as many calls as there can be, and the latency at a rate that a busy cluster has;
//! in turn, so that what disturbs the machine disturbs all of them.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::calls::Target;
use super::load::{self, Load};
use super::print;
use super::process::{Process, pause};
use super::samples::{Figures, median, range, spread};

/// Flags of these benches.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Rounds {
    /// Calls per second of the phases that measure latency
    #[arg(long, default_value_t = RATE)]
    rate: u32,
    #[arg(long, default_value_t = CONNECTIONS)]
    connections: u32,
    /// Seconds of each phase
    #[arg(long, default_value_t = SECONDS)]
    seconds: u64,
    /// How often the phases are repeated
    #[arg(long, default_value_t = ROUNDS)]
    rounds: u32,
}

impl Default for Rounds {
    fn default() -> Self {
        Self {
            rate: RATE,
            connections: CONNECTIONS,
            seconds: SECONDS,
            rounds: ROUNDS,
        }
    }
}

/// A program that is measured.
pub(super) struct Contestant {
    pub label: String,
    pub target: Target,
    pub process: Process,
    /// What it needs as long as it runs.
    pub _alive: Box<dyn std::any::Any>,
}

impl Contestant {
    /// Waits until a call is answered: some say that they are ready before.
    fn answers(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = load::once(&self.target) {
            if Instant::now() > deadline {
                return Err(error.context(self.label.clone()));
            }
            pause(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// What was measured of one.
#[derive(Default)]
struct Measured {
    per_second: Vec<f64>,
    /// Cores that it used meanwhile.
    cores: Vec<f64>,
    latencies: Vec<Figures>,
}

impl Rounds {
    /// Measures all and prints a line for each.
    pub fn run(&self, title: &str, contestants: &[Contestant]) -> Result<()> {
        ensure!(
            self.rate > 0 && self.connections > 0,
            "a load needs a rate and connections"
        );
        let load = |rate| Load {
            rate,
            connections: self.connections,
            duration: Duration::from_secs(self.seconds),
        };
        contestants.iter().try_for_each(Contestant::answers)?;
        let mut results: Vec<Measured> = contestants.iter().map(|_| Measured::default()).collect();
        for _ in 0..self.rounds.max(1) {
            for (contestant, measured) in contestants.iter().zip(&mut results) {
                let (before, start) = (contestant.process.cpu()?, Instant::now());
                let samples = load(None).run(&contestant.target)?;
                let seconds = start.elapsed().as_secs_f64();
                load(None).report(&contestant.label, &samples)?;
                let used = contestant.process.cpu()? - before;
                measured.per_second.push(samples.len() as f64 / seconds);
                measured.cores.push(used.as_secs_f64() / seconds);
                let samples = load(Some(self.rate)).run(&contestant.target)?;
                load(Some(self.rate)).report(&contestant.label, &samples)?;
                measured.latencies.push(samples.figures());
            }
        }
        print(&format!(
            "\n{title}, {} connections, median of {} phases of {} s (lowest to highest)",
            self.connections, self.rounds, self.seconds
        ))?;
        for (contestant, measured) in contestants.iter().zip(&results) {
            self.line(&contestant.label, measured)?;
        }
        Ok(())
    }

    fn line(&self, label: &str, measured: &Measured) -> Result<()> {
        let each: Vec<f64> = measured.latencies.iter().map(|it| it.p99).collect();
        print(&format!(
            "  {label:<24} {} per second, cores {}; at {}/s {} (p99 {})",
            spread(&measured.per_second, 0),
            spread(&measured.cores, 2),
            self.rate,
            Figures::median(&measured.latencies),
            range(&each, 0),
        ))?;
        let per_core = median(measured.per_second.clone()) / median(measured.cores.clone());
        print(&format!("  {:<24} {per_core:.0} per second and core", ""))
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
const RATE: u32 = 200;
const CONNECTIONS: u32 = 16;
const SECONDS: u64 = 5;
const ROUNDS: u32 = 3;
