//! Measures: the footprint of idle programs, alone and installed, what two sidecars add to a call, and one to state and events.
//! Nothing here asserts a time; machines differ and are noisy, so runs are interleaved and printed with their spread.

use std::io::Write as _;

use anyhow::Result;

mod actors;
mod arrivals;
mod binaries;
mod calls;
mod cluster;
mod comparison;
mod echo;
mod idle;
mod injector;
mod installed;
mod invoke;
mod load;
mod memory;
mod mesh;
mod operator;
mod process;
mod pubsub;
mod redis;
mod rounds;
mod samples;
mod scheduler;
mod sentry;
mod site;
mod state;
mod tls;
mod workflow;

/// Flags of the chore.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    bench: Option<Bench>,
}

#[derive(clap::Subcommand)]
enum Bench {
    /// Memory of idle programs, and their time from exec to ready.
    Idle(idle::Arguments),
    /// Latency that two sidecars with mTLS add to a call, and their CPU.
    Invoke(invoke::Arguments),
    /// Latency that two sidecars with mTLS add to a call of an actor, and of a call that activates one.
    Actors(actors::Arguments),
    /// Workflows per second, and how long one takes alone.
    Workflow(workflow::Arguments),
    /// Latency of state stores through a sidecar, and its CPU.
    State(state::Arguments),
    /// Latency of events through a sidecar, how many there can be, and its CPU.
    Pubsub(pubsub::Arguments),
    /// Jobs registered and fired by the scheduler, and their memory.
    Scheduler(scheduler::Arguments),
    /// Memory of a sidecar alone, with components, and after a load of everything.
    Memory(memory::Arguments),
    /// Certificates that sentry signs, and how long one takes.
    Sentry(sentry::Arguments),
    /// Reviews that the injector answers, and how long one takes.
    Injector(injector::Arguments),
    /// Memory of the operator of a large cluster, and how it serves a thousand sidecars.
    Operator(operator::Arguments),
    /// Memory of the programs that run in pods on this machine.
    Installed,
}

/// Runs one bench, or with their defaults those that need nothing but our programs.
pub fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.bench {
        Some(Bench::Idle(arguments)) => idle::run(arguments),
        Some(Bench::Invoke(arguments)) => invoke::run(arguments),
        Some(Bench::Actors(arguments)) => actors::run(arguments),
        Some(Bench::Workflow(arguments)) => workflow::run(arguments),
        Some(Bench::State(arguments)) => state::run(arguments),
        Some(Bench::Pubsub(arguments)) => pubsub::run(arguments),
        Some(Bench::Scheduler(arguments)) => scheduler::run(arguments),
        Some(Bench::Memory(arguments)) => memory::run(arguments),
        Some(Bench::Sentry(arguments)) => sentry::run(arguments),
        Some(Bench::Injector(arguments)) => injector::run(arguments),
        Some(Bench::Operator(arguments)) => operator::run(arguments),
        Some(Bench::Installed) => installed::run(),
        None => {
            idle::run(&idle::Arguments::default())?;
            invoke::run(&invoke::Arguments::default())?;
            state::run(&state::Arguments::default())?;
            pubsub::run(&pubsub::Arguments::default())?;
            memory::run(&memory::Arguments::default())?;
            sentry::run(&sentry::Arguments::default())?;
            injector::run(&injector::Arguments::default())?;
            operator::run(&operator::Arguments::default())
        }
    }
}

/// One line of the result, flushed at once: a bench takes its time, and someone is watching.
fn print(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}
