//! Building blocks that only wrap a component call: each owns its loaded components, and adds what upstream's runtime
//! adds to them (key prefixes, scopes, encryption, policies, metrics). They know nothing of the public API.

mod call;
pub mod loading;
pub mod secrets;
mod slots;
pub mod state;

pub use loading::{Declared, Listed, LoadError, Owner};
