//! Actors: who hosts which, turns, calls, timers, reminders and state (contract 11.1 to 11.4).

mod engine;
mod error;
mod identity;
pub mod reminders;
mod request;
pub mod state;

pub use engine::{Engine, Options, RuntimeStatus, Status};
pub use error::Error;
pub use identity::ActorId;
pub use request::{Request, Response, Timer};
