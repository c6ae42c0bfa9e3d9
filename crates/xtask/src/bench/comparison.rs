//! One measure on several sidecars: phases in turn, so that what disturbs the machine disturbs all of them, and a line for
//! each with the spread of its phases, and its ratio to the first.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::binaries::{self, Binary};
use super::calls::Target;
use super::load::Load;
use super::print;
use super::samples::{Figures, Samples, median, range, spread};
use super::site::Site;

/// Flags of benches that compare sidecars.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Phases {
    /// Sidecars to measure, as path or label:daprd=path; repeatable, measured in turn [default: our daprd]
    #[arg(long)]
    daprd: Vec<String>,
    /// Calls per second
    #[arg(long, default_value_t = RATE)]
    pub rate: u32,
    #[arg(long, default_value_t = CONNECTIONS)]
    pub connections: u32,
    /// Bytes of a value, an event, or a request and its response
    #[arg(long, default_value_t = PAYLOAD)]
    pub payload: usize,
    /// Seconds of each phase [default: 10 for invoke, else 2]
    #[arg(long)]
    seconds: Option<u64>,
    /// How often the phases are repeated
    #[arg(long, default_value_t = ROUNDS)]
    pub rounds: u32,
}

impl Default for Phases {
    fn default() -> Self {
        Phases {
            daprd: Vec::new(),
            rate: RATE,
            connections: CONNECTIONS,
            payload: PAYLOAD,
            seconds: None,
            rounds: ROUNDS,
        }
    }
}

impl Phases {
    /// The sidecars that are compared.
    pub fn daprds(&self) -> Result<Vec<Binary>> {
        ensure!(
            self.rate > 0 && self.connections > 0,
            "a load needs a rate and connections"
        );
        binaries::daprds(&self.daprd)
    }

    /// The load at the rate of the flags, for so many seconds unless a flag says another number.
    pub fn load(&self, seconds: u64) -> Load {
        Load {
            rate: Some(self.rate),
            connections: self.connections,
            duration: Duration::from_secs(self.seconds.unwrap_or(seconds)),
        }
    }

    /// As text, for the head of a result.
    pub fn describe(&self, load: Load) -> String {
        format!(
            "{} bytes over {} connections, median of {} phases of {} s, latency from the intended send time",
            self.payload,
            load.connections,
            self.rounds,
            load.duration.as_secs()
        )
    }
}

/// What is measured.
pub(super) struct Measure {
    pub title: String,
    pub load: Load,
    pub rounds: u32,
    /// Events or items in a call, where they are counted.
    pub batch: u32,
    /// Latencies are those of arrivals at the app, not of calls.
    pub arrivals: bool,
}

/// What the same work takes without a sidecar.
pub(super) struct Bare {
    pub name: &'static str,
    pub target: Target,
}

impl Bare {
    /// What a store or a broker itself takes.
    pub fn redis(target: Target) -> Self {
        Bare {
            name: "Redis itself",
            target,
        }
    }

    /// Where the sidecar does the work in its memory: a server that answers what it is sent.
    pub fn echo(target: Target) -> Self {
        Bare {
            name: "an echo",
            target,
        }
    }
}

/// A phase of one contestant.
#[derive(Clone, Copy)]
struct Phase {
    latency: Figures,
    /// Of what a call holds.
    per_second: f64,
    cores: f64,
}

impl Measure {
    /// Measures all sites, and the same work without a sidecar if there is a target for it; prints.
    pub fn run(
        &self,
        sites: &[Site],
        target: impl Fn(&Site) -> Result<Target>,
        bare: Option<Bare>,
    ) -> Result<()> {
        print(&format!("\n{}", self.title))?;
        let targets = sites.iter().map(target).collect::<Result<Vec<_>>>()?;
        let mut bare_phases = Vec::new();
        let mut phases: Vec<Vec<Phase>> = sites.iter().map(|_| Vec::new()).collect();
        for _ in 0..self.rounds.max(1) {
            if let Some(bare) = &bare {
                let (samples, elapsed) = self.load_on(&bare.target, bare.name)?;
                bare_phases.push(self.phase(&samples, elapsed, 0.0));
            }
            for ((site, target), phases) in sites.iter().zip(&targets).zip(&mut phases) {
                phases.push(self.once(site, target)?);
            }
        }
        let bare = bare.map(|bare| (bare.name, Summary::of(&bare_phases)));
        if let Some((name, summary)) = &bare {
            self.line(name, summary)?;
        }
        let summaries: Vec<_> = phases.iter().map(|phases| Summary::of(phases)).collect();
        for (site, summary) in sites.iter().zip(&summaries) {
            self.line(&site.label, summary)?;
        }
        let Some(first) = summaries.first() else {
            return Ok(());
        };
        for (site, other) in sites.iter().zip(&summaries).skip(1) {
            let ratios = self.ratios(first, other, bare.as_ref());
            print(&format!(
                "    {} / {}: {ratios}",
                sites[0].label, site.label
            ))?;
        }
        Ok(())
    }

    fn once(&self, site: &Site, target: &Target) -> Result<Phase> {
        let before = site.sidecar.process.cpu()?;
        let start = Instant::now();
        let (calls, elapsed) = self.load_on(target, &site.label)?;
        let samples = if self.arrivals {
            let arrived = site.arrivals.take(calls.len(), PATIENCE);
            self.load
                .report(&format!("{}, events", site.label), &arrived)?;
            arrived
        } else {
            calls
        };
        let used = site.sidecar.process.cpu()? - before;
        let cores = used.as_secs_f64() / start.elapsed().as_secs_f64();
        Ok(self.phase(&samples, elapsed, cores))
    }

    fn load_on(&self, target: &Target, name: &str) -> Result<(Samples, Duration)> {
        let start = Instant::now();
        let samples = self.load.run(target)?;
        self.load.report(&format!("{name}, calls"), &samples)?;
        Ok((samples, start.elapsed()))
    }

    fn phase(&self, samples: &Samples, elapsed: Duration, cores: f64) -> Phase {
        let calls = samples.len() as f64;
        Phase {
            latency: samples.figures(),
            per_second: calls * f64::from(self.batch) / elapsed.as_secs_f64(),
            cores,
        }
    }

    fn line(&self, name: &str, summary: &Summary) -> Result<()> {
        let result = match self.load.rate {
            Some(_) => format!("{} {}", summary.latency, summary.means),
            None => format!("{} per second", summary.rates),
        };
        print(&format!("  {name:<24} {result}  cores {}", summary.cores))
    }

    fn ratios(&self, first: &Summary, other: &Summary, bare: Option<&(&str, Summary)>) -> String {
        let cores = first.core / other.core;
        if self.load.rate.is_none() {
            return format!(
                "per second {:.2}, cores {cores:.2}",
                first.rate / other.rate
            );
        }
        let (ours, theirs) = (first.latency, other.latency);
        let mut text = format!(
            "mean {:.2}, p50 {:.2}, p90 {:.2}, p99 {:.2}, cores {cores:.2}",
            ours.mean / theirs.mean,
            ours.p50 / theirs.p50,
            ours.p90 / theirs.p90,
            ours.p99 / theirs.p99,
        );
        if let Some((name, bare)) = bare {
            let (ours, theirs) = (ours.over(bare.latency), theirs.over(bare.latency));
            let (mean, p50) = (ours.mean / theirs.mean, ours.p50 / theirs.p50);
            text.push_str(&format!("; beyond {name}: mean {mean:.2}, p50 {p50:.2}"));
        }
        text
    }
}

/// The phases of one contestant in one.
struct Summary {
    latency: Figures,
    means: String,
    rate: f64,
    rates: String,
    core: f64,
    cores: String,
}

impl Summary {
    fn of(phases: &[Phase]) -> Self {
        let all = |pick: fn(&Phase) -> f64| phases.iter().map(pick).collect::<Vec<f64>>();
        let figures: Vec<_> = phases.iter().map(|phase| phase.latency).collect();
        Summary {
            latency: Figures::median(&figures),
            means: range(&all(|phase| phase.latency.mean), 0),
            rate: median(all(|phase| phase.per_second)),
            rates: spread(&all(|phase| phase.per_second), 0),
            core: median(all(|phase| phase.cores)),
            cores: spread(&all(|phase| phase.cores), 3),
        }
    }
}

/// How long events are waited for when all were published.
const PATIENCE: Duration = Duration::from_secs(5);

const RATE: u32 = 1000;
const CONNECTIONS: u32 = 16;
const PAYLOAD: usize = 1024;
/// Seconds of a phase of most benches.
pub(super) const SECONDS: u64 = 2;
const ROUNDS: u32 = 3;
