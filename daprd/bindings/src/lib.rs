//! The bindings building block: output bindings that the app calls, and input bindings whose events the app is called with.
//! What it answers may call outputs and save state. It knows nothing of the public API.

mod answer;
mod engine;
mod error;
mod event;
mod metrics;
mod output;
mod reader;
mod readers;

pub use engine::{Engine, Options};
pub use error::Error;
