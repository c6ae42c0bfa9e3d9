//! Who runs the actors of a type: the app beside the sidecar, or the sidecar itself.

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::{ActorId, Error, Request, Response};

/// Answers to one call, as they come.
pub type Answers = BoxStream<'static, Result<Response, Error>>;

/// Runs actors. The engine sees to it that one call is at an actor at a time, and that it is hosted nowhere else.
#[async_trait]
pub trait Host: Send + Sync {
    /// Calls a method.
    async fn call(&self, request: Request) -> Result<Response, Error>;

    /// Calls a method that goes on answering. The turn is over once there is a stream, which ends with the actor at the latest.
    /// Apps have no such methods. Q-actor-stream
    async fn follow(&self, request: Request) -> Result<Answers, Error> {
        Err(Error::NoAnswers(request.actor.kind))
    }

    /// Fires a reminder.
    async fn remind(&self, firing: Firing) -> Result<(), Error>;

    /// Fires a timer.
    async fn timer(&self, firing: Firing) -> Result<(), Error>;

    /// The actor is hosted here no more; the next call begins anew.
    async fn deactivate(&self, actor: &ActorId) -> Result<(), Error>;
}

/// A reminder or a timer whose time has come.
#[derive(Clone, Debug, PartialEq)]
pub struct Firing {
    pub actor: ActorId,
    pub name: String,
    /// As it was registered.
    pub due_time: String,
    /// As it was registered.
    pub period: String,
    /// Of a timer: the method that the app's SDK calls.
    pub callback: String,
    pub data: Option<prost_types::Any>,
    pub is_timer: bool,
}
