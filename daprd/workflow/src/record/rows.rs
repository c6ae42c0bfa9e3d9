//! Rows of an instance: their keys, and how they are written.

use actors::{
    ActorId,
    state::{self, Step},
};
use bytes::Bytes;
use component::ErrorKind;
use prost::Message;

use crate::Error;

pub fn upsert(key: String, message: &impl Message) -> Step {
    write(key, message.encode_to_vec().into())
}

pub fn write(key: String, value: Bytes) -> Step {
    Step::Upsert {
        key,
        value,
        etag: None,
        metadata: Default::default(),
    }
}

pub fn delete(key: String) -> Step {
    Step::Delete { key, etag: None }
}

pub fn entry(prefix: &str, at: usize) -> String {
    format!("{prefix}-{at:06}")
}

pub fn unreadable(actor: &ActorId, key: &str) -> Error {
    Error::Unreadable(format!("row {key} of workflow '{}'", actor.id))
}

pub fn conflict(error: state::Error) -> Error {
    let kind = match &error {
        state::Error::Store(blocks::state::Error::Component(error)) => Some(error.kind()),
        _ => None,
    };
    match kind {
        Some(ErrorKind::EtagMismatch | ErrorKind::EtagInvalid) => Error::Conflict(error),
        _ => Error::State(error),
    }
}

/// Keys below the actor.
pub const METADATA: &str = "metadata";
pub const INBOX: &str = "inbox";
pub const HISTORY: &str = "history";
pub const CUSTOM_STATUS: &str = "customStatus";
pub const PROPAGATED: &str = "propagated-history";
