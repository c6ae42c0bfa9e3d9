//! The one error of components. Its kind alone decides status codes and whether a call is tried again.

use std::fmt;

/// What went wrong, as far as a caller can act on it. A closed list: a new kind is a change of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The thing asked for does not exist.
    NotFound,
    /// The stored entity tag differs from the one the caller sent.
    EtagMismatch,
    /// The entity tag the caller sent is not one this store can have issued.
    EtagInvalid,
    /// The component cannot do this; see its capabilities.
    Unsupported,
    /// The component's metadata is missing a field or has a wrong value.
    InvalidMetadata,
    /// The request itself is wrong; trying again cannot help.
    InvalidRequest,
    /// The backend refused the credentials or the permission.
    Unauthorized,
    /// The backend asks to slow down.
    RateLimited,
    /// The backend cannot be reached, or broke off; trying again may help.
    Unavailable,
    /// Anything else.
    Internal,
}

impl ErrorKind {
    /// Whether the same call may succeed later without a change by the caller.
    pub fn is_transient(self) -> bool {
        matches!(self, Self::RateLimited | Self::Unavailable | Self::Internal)
    }
}

/// An error of a component: a kind to decide by, a message to read, a cause to trace.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of a component call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error without a deeper cause.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// The same error with the cause it came from.
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What can be decided by.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message alone, without its cause.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// [`ErrorKind::Unsupported`], naming the operation.
    pub fn unsupported(operation: &str) -> Self {
        Self::new(
            ErrorKind::Unsupported,
            format!("{operation} is not supported by this component"),
        )
    }

    /// [`ErrorKind::InvalidMetadata`], naming the field.
    pub fn invalid_metadata(field: &str, problem: impl fmt::Display) -> Self {
        Self::new(
            ErrorKind::InvalidMetadata,
            format!("metadata field {field}: {problem}"),
        )
    }

    /// [`ErrorKind::InvalidRequest`].
    pub fn invalid_request(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidRequest, message)
    }

    /// [`ErrorKind::Unavailable`] with its cause.
    pub fn unavailable(
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::new(ErrorKind::Unavailable, message).with_source(source)
    }

    /// [`ErrorKind::Internal`] with its cause.
    pub fn internal(
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::new(ErrorKind::Internal, message).with_source(source)
    }
}

/// The message alone: the cause is reached through `source`, and [`chain`] writes both.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Writes an error and its causes as `outer: inner: innermost`.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
