//! What is asked of an actor, and what it answers.

use bytes::Bytes;
use http::HeaderMap;

use crate::ActorId;

/// A call of a method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whom.
    pub actor: ActorId,
    /// The method, normalised: what is asked of the app stays below the actor's path.
    pub method: String,
    /// Query of the call, as it came.
    pub query: String,
    /// Media type of the body.
    pub content_type: String,
    /// Headers or metadata of the caller, which the app gets.
    pub headers: HeaderMap,
    /// The body.
    pub data: Bytes,
}

/// The answer to a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// HTTP status, as the app said it.
    pub status: u16,
    /// Media type of the body.
    pub content_type: String,
    /// Headers of the answer.
    pub headers: HeaderMap,
    /// The body.
    pub data: Bytes,
}

/// A timer, as it is asked for (contract 11.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer {
    /// Whose.
    pub actor: ActorId,
    /// Its name; one of the same name is replaced.
    pub name: String,
    /// When it fires first, as the caller wrote it.
    pub due_time: String,
    /// How often it fires, as the caller wrote it.
    pub period: String,
    /// How long it fires, as the caller wrote it.
    pub ttl: String,
    /// The method that the app's SDK calls.
    pub callback: String,
    /// JSON that the app gets; empty for none.
    pub data: Bytes,
}
