//! The line to the schedulers (contract 8.5): jobs that the app asks for, and triggers of jobs and reminders that come due.
//!
//! One scheduler is asked which others there are. Each that it names is held a number of streams, on which triggers come and
//! their results go back; calls go to all of them in turn.

mod calls;
mod delivery;
mod engine;
mod hosts;
mod metrics;
mod seam;
mod stream;
#[cfg(test)]
mod tests;

pub use engine::{Dial, Engine, Hosting, Options, Run};
pub use seam::{ActorTypes, Outcome, Reminders, Scheduling, Trigger};

/// What calls hear where no scheduler is configured.
pub const DISABLED: &str = "scheduler clients are disabled";

/// Name in the logs.
const LOG: &str = "dapr.runtime.scheduler";

/// Largest message from or to a scheduler in bytes: a list of half a million small jobs. Q-job-list
const MAX_MESSAGE: usize = 64 << 20;
