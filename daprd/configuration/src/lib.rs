//! The configuration building block: values that apps read, and subscriptions that tell them of changes, on a stream or by a
//! call of an HTTP app. A subscription outlives the component it was made with: where that is replaced, it goes on with the
//! new one. It knows nothing of the public API.

mod engine;
mod error;
mod follow;
mod push;

pub use engine::{Engine, Options};
pub use error::Error;
pub use follow::Followed;
pub use push::item_json;
