//! Actors: who hosts which, turns, calls, timers, reminders and state (contract 11.1 to 11.4).

mod active;
mod app_host;
mod calls;
mod directory;
mod engine;
mod error;
pub mod host;
mod hosting;
mod identity;
pub mod json;
mod life;
mod metrics;
mod placement;
pub mod reminders;
mod request;
mod session;
pub mod state;
mod stream_host;
mod timers;
mod turns;
mod wire;

pub use engine::{Engine, Options, RuntimeStatus, Status};
pub use error::Error;
pub use hosting::Kind;
pub use identity::ActorId;
pub use placement::Members;
pub use request::{Request, Response, Timer};
pub use stream_host::Streaming;
