//! Workflows: durable execution on actors (contract 11.5 to 11.7). A pure core decides what a turn does, a thin shell of internal
//! actors reads, asks a worker, commits once and sends on.

mod access;
mod calls;
mod core;
mod engine;
mod error;
mod hosts;
mod instances;
mod listing;
mod metrics;
mod names;
mod record;
mod reminding;
mod seam;
pub mod signing;
#[cfg(test)]
mod simulation;
mod stamp;
pub mod time;
mod tracing;
mod watching;
pub mod workers;

pub use engine::{Engine, Options, Purged, Retention};
pub use error::Error;
pub use names::Names;
pub use seam::Actors;
pub use workers::Workers;
