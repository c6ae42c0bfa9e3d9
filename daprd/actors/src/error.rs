//! Why an actor could not be asked, a variant for each decision that callers take.

use std::time::Duration;

use tonic::{Code, Status};

use crate::{ActorId, Response};

/// What went wrong with a call of an actor, a timer, or a question about one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No address of placement is known, so there is no actor runtime.
    #[error("placement service is not configured")]
    NoPlacement,
    /// The sidecar ends.
    #[error("actor runtime is closed")]
    Closed,
    /// No sidecar hosts the type, as far as placement says.
    #[error("did not find address for actor '{0}'")]
    NoAddress(ActorId),
    /// Placement hands a new table out, and does not come to an end.
    #[error("placement is disseminating")]
    Disseminating,
    /// The actor is not hosted by this sidecar.
    #[error("actor instance is missing")]
    InstanceMissing,
    /// A type that this sidecar does not host.
    #[error("failed to create actor: actor type {0} not registered")]
    NotRegistered(String),
    /// A type of this sidecar, while there is no state store for actors.
    #[error("failed to create actor: actor hosting is suspended: no actor state store configured")]
    Suspended,
    /// Another sidecar sent the call here, and the actor lives elsewhere by now.
    #[error("remote actor moved")]
    Moved,
    /// The actor was deactivated, or moved, while the call waited or ran.
    #[error("actor is closed, cannot handle {0}")]
    Deactivated(String),
    /// A chain of calls that comes back to an actor more often than it allows.
    #[error("maximum stack depth exceeded")]
    StackDepth,
    /// As many calls wait for one actor as may.
    #[error("too many calls wait for actor '{0}'")]
    Busy(ActorId),
    /// The app says that there is no such method.
    #[error("actor method not found: {0}")]
    NoMethod(String),
    /// The app answered with another status than 200.
    #[error("error from actor service: ({status}) {body}")]
    Failed { status: u16, body: String },
    /// The app says in a header that its answer is an error; the answer is passed on.
    #[error("actor error with details in body")]
    Actor(Box<Response>),
    /// The app wants no more of a timer or a reminder.
    #[error("reminder has been canceled")]
    Canceled,
    /// Actors of the type answer a call once.
    #[error("actor type {0} has no methods with a stream of answers")]
    NoAnswers(String),
    /// The app hosts actors over its own HTTP server.
    #[error("actor callback streaming requires a gRPC app channel")]
    NoStream,
    /// The app refused what it was asked over its stream.
    #[error("error from actor service: {message}")]
    Refused { code: Code, message: String },
    /// The stream of an app that hosts actors has ended.
    #[error("actor host disconnected before responding")]
    Disconnected,
    /// A timer that makes no sense.
    #[error("{0}")]
    Timer(String),
    /// There is no app to host actors, or it could not be asked.
    #[error(transparent)]
    App(#[from] app_channel::Error),
    /// The sidecar that hosts the actor cannot be reached, after so many attempts.
    #[error(
        "failed to invoke target {address} after {retries} retries. Error: {}",
        go(status)
    )]
    Unreachable {
        address: String,
        retries: u32,
        status: Box<Status>,
    },
    /// The sidecar that hosts the actor answered with an error.
    #[error("{}", go(.0))]
    Remote(Box<Status>),
    /// A policy's timeout.
    #[error("timed out after {0:?}")]
    Timeout(Duration),
    /// The circuit breaker of a policy is open.
    #[error("circuit breaker is open")]
    CircuitOpen,
    /// The circuit breaker of a policy is half open.
    #[error("too many requests")]
    TooManyRequests,
}

impl Error {
    /// What a policy made of a call.
    pub(crate) fn from_policy(error: resiliency::policy::Error<Self>) -> Self {
        match error {
            resiliency::policy::Error::Inner(error) => error,
            resiliency::policy::Error::Timeout(after) => Self::Timeout(after),
            resiliency::policy::Error::CircuitOpen => Self::CircuitOpen,
            resiliency::policy::Error::TooManyRequests => Self::TooManyRequests,
        }
    }

    /// Whether the actor may be found by another look.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::NoAddress(_) | Self::Deactivated(_) | Self::Unreachable { .. }
        )
    }

    /// What another sidecar hears.
    pub fn into_status(self) -> Status {
        let text = self.to_string();
        match self {
            Self::NoPlacement | Self::Closed => Status::unavailable(text),
            Self::NoAddress(_) => {
                Status::failed_precondition(format!("failed to lookup actor: {text}"))
            }
            Self::StackDepth | Self::Busy(_) => Status::resource_exhausted(text),
            Self::NoAnswers(_) => Status::unimplemented(text),
            Self::Remote(status) => *status,
            _ => Status::internal(format!("error invoke actor method: {text}")),
        }
    }
}

/// A status as Go prints one.
fn go(status: &Status) -> String {
    let code = match status.code() {
        Code::Ok => "OK".to_owned(),
        Code::Cancelled => "Canceled".to_owned(),
        code => format!("{code:?}"),
    };
    format!("rpc error: code = {code} desc = {}", status.message())
}
