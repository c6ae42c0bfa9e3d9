//! Why something asked of a workflow was not done, a variant for each decision that callers take; and how sidecars say it to each
//! other. Sidecars of the reference know some by the end of the text.

use tonic::{Code, Status};

use crate::{core::rerun, core::turn::Refused, signing, workers};

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no instance of that id.
    #[error("no such instance exists")]
    NotFound,
    /// The instance has not ended. The text may name which.
    #[error("{0}orchestration has not yet completed")]
    NotCompleted(String),
    /// The instance is stalled, and keeps its state.
    #[error("workflow is stalled")]
    Stalled,
    /// An id that is taken. The text names it.
    #[error("{0}")]
    Exists(String),
    /// What was asked makes no sense. The text says why.
    #[error("{0}")]
    Invalid(String),
    /// An instance, or an event of a history, that is not there. The text names it.
    #[error("{0}")]
    Missing(String),
    /// A policy says no.
    #[error("access denied by workflow access policy")]
    Denied,
    /// What this sidecar or its state store cannot do.
    #[error("{0}")]
    Unsupported(String),
    /// It may go better later. The text says what went wrong.
    #[error("{0}")]
    Unavailable(String),
    /// The worker left before it answered.
    #[error(transparent)]
    Lost(#[from] workers::Lost),
    /// What the worker answered cannot be taken.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Bytes of the store or of another sidecar that cannot be read.
    #[error("unreadable {0}")]
    Unreadable(String),
    /// What an instance has in the store does not verify, or is signed where this sidecar does not sign, or the other way round.
    #[error("{0}")]
    Unverified(String),
    /// What is to be stored cannot be signed now, or what came is signed by nobody who is trusted.
    #[error(transparent)]
    Signing(#[from] signing::Error),
    /// The store said that somebody else has written since.
    #[error("the state of the workflow has changed meanwhile")]
    Conflict(#[source] actors::state::Error),
    /// What the store, or the lack of one, said.
    #[error(transparent)]
    State(#[from] actors::state::Error),
    /// What actors, or placement, said.
    #[error(transparent)]
    Actors(actors::Error),
    /// What the schedulers said.
    #[error(transparent)]
    Reminders(#[from] actors::reminders::Error),
    /// The sidecar ends.
    #[error("workflow engine is closed")]
    Closed,
}

impl Error {
    /// What another sidecar, or another actor here, hears.
    pub(crate) fn into_actors(self) -> actors::Error {
        let text = self.to_string();
        let code = match self {
            Self::Actors(error) => return error,
            Self::NotFound | Self::Missing(_) => Code::NotFound,
            Self::Exists(_) => Code::AlreadyExists,
            Self::Invalid(_) => Code::InvalidArgument,
            Self::Denied => Code::PermissionDenied,
            Self::Unsupported(_) => Code::Unimplemented,
            Self::NotCompleted(_) | Self::Stalled => Code::Aborted,
            Self::Unavailable(_) => Code::FailedPrecondition,
            _ => Code::Internal,
        };
        actors::Error::Remote(Box::new(Status::new(code, text)))
    }

    /// Whether another try may go better.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Actors(error) => matches!(
                error,
                actors::Error::NoAddress(_)
                    | actors::Error::Disseminating
                    | actors::Error::Deactivated(_)
                    | actors::Error::Moved
                    | actors::Error::NotRegistered(_)
                    | actors::Error::Unreachable { .. }
            ),
            Self::Unavailable(_) => true,
            _ => false,
        }
    }
}

impl From<actors::Error> for Error {
    fn from(error: actors::Error) -> Self {
        let actors::Error::Remote(status) = &error else {
            return Self::Actors(error);
        };
        let text = status.message();
        if status.code() == Code::AlreadyExists {
            return Self::Exists(text.to_owned());
        }
        let begins = |end: &str| text.strip_suffix(end).map(str::to_owned);
        if begins(&Self::NotFound.to_string()).is_some() {
            return Self::NotFound;
        }
        if let Some(path) = begins("orchestration has not yet completed") {
            return Self::NotCompleted(path);
        }
        if begins(&Self::Stalled.to_string()).is_some() {
            return Self::Stalled;
        }
        match status.code() {
            Code::InvalidArgument => Self::Invalid(text.to_owned()),
            Code::NotFound => Self::Missing(text.to_owned()),
            Code::PermissionDenied => Self::Denied,
            Code::Unavailable | Code::FailedPrecondition => Self::Unavailable(text.to_owned()),
            _ => Self::Actors(error),
        }
    }
}

impl From<rerun::Error> for Error {
    fn from(error: rerun::Error) -> Self {
        match error {
            rerun::Error::NotFound(text) => Self::Missing(text),
            rerun::Error::Invalid(text) => Self::Invalid(text),
        }
    }
}
