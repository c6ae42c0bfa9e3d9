//! Building blocks that only wrap a component call: each owns its loaded components, and adds what upstream's runtime
//! adds to them (key prefixes, scopes, encryption, policies, metrics). They know nothing of the public API.

mod calls;
pub mod intake;
pub mod loading;
pub mod lock;
pub mod registry;
pub mod secrets;
pub mod state;
pub mod tasks;

pub use intake::Intake;
pub use loading::{Declared, Listed, LoadError, Owner};
pub use registry::{Kind, Loaded, Missing, Registry};
pub use tasks::Tasks;
