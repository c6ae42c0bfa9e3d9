//! Actors: who hosts which, turns, calls, timers, reminders and state (contract 11.1 to 11.4).

mod active;
mod app_host;
mod calls;
mod directory;
mod engine;
mod error;
mod following;
pub mod host;
mod hosting;
mod identity;
pub mod json;
mod leave;
mod life;
mod metrics;
mod placement;
mod pulse;
pub mod reminders;
mod request;
mod session;
mod silence;
pub mod state;
mod stream_host;
#[cfg(test)]
mod tests;
mod timers;
mod turns;
mod wire;

pub use engine::{Engine, Options, RuntimeStatus, Status};
pub use error::Error;
pub use following::Replies;
pub use hosting::Kind;
pub use identity::{ActorId, check_name};
pub use placement::Members;
pub use request::{Request, Response, Timer};
pub use stream_host::Streaming;
pub use wire::{CALLER, REMOTE};
