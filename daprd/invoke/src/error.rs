//! Why an invocation failed, and what that means to a gRPC caller and to a policy.

use std::time::Duration;

use component::body;
use http::Method;
use resiliency::Outcome;
use tonic::{Code, Status};

use crate::target::Target;

/// Why an invocation failed. Callers see the texts.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The target is no app id.
    #[error("invalid app id {0}")]
    Target(String),
    /// The method holds what no path may hold.
    #[error("rpc error: code = InvalidArgument desc = invalid method: {0}")]
    Method(String),
    /// The message lacks what an HTTP app has to be told.
    #[error("rpc error: code = InvalidArgument desc = {0}")]
    Message(&'static str),
    /// Nobody knows where the app listens.
    #[error("{0}")]
    Resolve(String),
    /// The other sidecar cannot be reached, or refused the identity.
    #[error("failed to invoke target {app_id}: {problem}")]
    Unreachable { app_id: String, problem: String },
    /// The line to the other sidecar broke after the request may have come there, so that another attempt may carry it out
    /// twice.
    #[error("failed to invoke target {app_id}: {problem}")]
    Broken { app_id: String, problem: String },
    /// The callee's access list says no.
    #[error("{message}")]
    Denied { message: String },
    /// The request's or answer's body broke off, or is too large for a message.
    #[error("{0}")]
    Body(String),
    /// The request's body is larger than one may be. Those who say their length are refused before.
    #[error("the request body is larger than a body may be")]
    TooLarge,
    /// No attempt ended in the time that a resiliency policy allows.
    #[error("timed out after {0:?}")]
    Timeout(Duration),
    /// A resiliency policy refused the call.
    #[error("{0}")]
    Policy(&'static str),
    /// The own app.
    #[error(transparent)]
    App(#[from] app_channel::Error),
    /// What the other sidecar answered; never what an app did.
    #[error("rpc error: code = {} desc = {}", component::error::code_name(.0.code() as i32), .0.message())]
    Status(Box<Status>),
}

impl Error {
    /// The gRPC code that says the same.
    pub fn code(&self) -> Code {
        match self {
            Self::Target(_) | Self::Method(_) | Self::Message(_) => Code::InvalidArgument,
            Self::Denied { .. } => Code::PermissionDenied,
            Self::Unreachable { .. } | Self::Broken { .. } => Code::Unavailable,
            Self::TooLarge => Code::ResourceExhausted,
            Self::Timeout(_) => Code::DeadlineExceeded,
            Self::Status(status) => status.code(),
            Self::App(app_channel::Error::Status(status)) => status.code(),
            _ => Code::Internal,
        }
    }

    /// The same as a status; what an app or sidecar answered passes through as it is.
    pub fn into_status(self) -> Status {
        match self {
            Self::Status(status) | Self::App(app_channel::Error::Status(status)) => *status,
            other => Status::new(other.code(), other.to_string()),
        }
    }

    /// What the client of the other sidecar says of a call by this method. A call that nobody asked to repeat is repeated only
    /// where it has not left, or where that changes nothing. Q-invoke-builtin
    pub(crate) fn from_status(app_id: &str, method: &Method, status: Status) -> Self {
        let broke = std::error::Error::source(&status).is_some();
        match status.code() {
            Code::PermissionDenied => Self::Denied {
                message: format!(
                    "rpc error: code = PermissionDenied desc = {}",
                    status.message()
                ),
            },
            // The client reports a line that broke before any answer as a status with its cause.
            Code::Unavailable | Code::Unknown if broke => {
                let problem = transport::describe(&status);
                if method.is_idempotent() || transport::never_left(&status) {
                    return Self::unreachable(app_id, problem);
                }
                Self::Broken {
                    app_id: app_id.to_owned(),
                    problem,
                }
            }
            // A connection that closed before the call was on it.
            Code::Cancelled if broke && transport::never_left(&status) => {
                Self::unreachable(app_id, transport::describe(&status))
            }
            Code::Unavailable => Self::unreachable(app_id, status.message().to_owned()),
            _ => Self::Status(Box::new(status)),
        }
    }

    pub(crate) fn unreachable(app_id: &str, problem: String) -> Self {
        Self::Unreachable {
            app_id: app_id.to_owned(),
            problem,
        }
    }

    /// What the error means to a policy.
    pub(crate) fn outcome(&self, target: &Target) -> Outcome {
        match self {
            // The built-in retries are for calls between sidecars.
            Self::Unreachable { .. } if target.is_app() => Outcome::Unreached,
            Self::Unreachable { .. }
            | Self::Broken { .. }
            | Self::Resolve(_)
            | Self::App(app_channel::Error::Unreachable(_) | app_channel::Error::Unhealthy) => {
                Outcome::Retryable
            }
            Self::Status(status) => Outcome::Grpc(status.code() as i32),
            Self::Target(_) | Self::Method(_) | Self::Message(_) => Outcome::Abandoned,
            _ => Outcome::Permanent,
        }
    }
}

impl From<body::ReadError> for Error {
    fn from(error: body::ReadError) -> Self {
        Self::Body(error.to_string())
    }
}
