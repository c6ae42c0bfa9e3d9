//! The one error of components. Its kind alone decides status codes and whether a call is tried again.

use std::{collections::BTreeMap, fmt};

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

/// How a component wants its error shown to the caller of the API, in place of what the API would make of it
/// (contract 15). Only components that speak the API's own error language have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presented {
    /// HTTP status, unchecked.
    pub http: u16,
    /// Number of the gRPC code, 1 to 16.
    pub grpc: i32,
    /// The error code of an HTTP body; may be empty.
    pub tag: String,
    /// `reason` of the `google.rpc.ErrorInfo` detail.
    pub reason: String,
    /// `domain` of the `google.rpc.ErrorInfo` detail.
    pub domain: String,
}

/// An error of a component: a kind to decide by, a message to read, a cause to trace.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    presented: Option<Box<Presented>>,
    grpc_code: Option<i32>,
    metadata: BTreeMap<String, String>,
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
            presented: None,
            grpc_code: None,
            metadata: BTreeMap::new(),
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

    /// The same error with the form in which callers are to see it.
    pub fn with_presented(mut self, presented: Presented) -> Self {
        self.presented = Some(Box::new(presented));
        self
    }

    /// The form in which callers are to see it, where the component chose one.
    pub fn presented(&self) -> Option<&Presented> {
        self.presented.as_deref()
    }

    /// The same error with the gRPC code that a component in a process of its own has answered: which codes are tried again
    /// is then said by the retry policy, not by the kind.
    pub fn with_grpc_code(mut self, code: i32) -> Self {
        self.grpc_code = Some(code);
        self
    }

    /// The gRPC code that the component has answered, where it is one that answers with such codes.
    pub fn grpc_code(&self) -> Option<i32> {
        self.grpc_code
    }

    /// The same error with metadata that its caller gets all the same, such as the `statusCode` of a service that refused.
    pub fn with_metadata(mut self, metadata: BTreeMap<String, String>) -> Self {
        self.metadata = metadata;
        self
    }

    /// Metadata for the caller; mostly empty.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
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

/// The outcome of several calls that do not depend on each other, as one: all their errors, a line each. The kind is that
/// of the first about an entity tag, which a caller can act on, else that of the first.
pub fn all_of(outcomes: impl IntoIterator<Item = Result<()>>) -> Result<()> {
    let mut errors: Vec<Error> = outcomes.into_iter().filter_map(Result::err).collect();
    if errors.len() < 2 {
        return errors.pop().map_or(Ok(()), Err);
    }
    let about_tag =
        |error: &&Error| matches!(error.kind, ErrorKind::EtagMismatch | ErrorKind::EtagInvalid);
    let first = errors.iter().find(about_tag).unwrap_or(&errors[0]);
    let texts: Vec<String> = errors.iter().map(|error| chain(error)).collect();
    Err(Error::new(first.kind, texts.join("\n")))
}

/// The message alone: the cause is reached through `source`, and [`chain`] writes both. A presented error also names
/// its gRPC code.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.presented {
            Some(presented) => write!(
                f,
                "api error: code = {} desc = {}",
                code_name(presented.grpc),
                self.message
            ),
            None => f.write_str(&self.message),
        }
    }
}

/// The name of a gRPC code as error texts of the API spell it.
pub fn code_name(code: i32) -> &'static str {
    match code {
        0 => "OK",
        1 => "Canceled",
        3 => "InvalidArgument",
        4 => "DeadlineExceeded",
        5 => "NotFound",
        6 => "AlreadyExists",
        7 => "PermissionDenied",
        8 => "ResourceExhausted",
        9 => "FailedPrecondition",
        10 => "Aborted",
        11 => "OutOfRange",
        12 => "Unimplemented",
        13 => "Internal",
        14 => "Unavailable",
        15 => "DataLoss",
        16 => "Unauthenticated",
        _ => "Unknown",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_errors_are_told_together() {
        let error = |kind, text: &str| Err(Error::new(kind, text));
        assert!(all_of([Ok(()), Ok(())]).is_ok());
        let one = all_of([Ok(()), error(ErrorKind::Internal, "a")]).unwrap_err();
        assert_eq!((one.kind(), one.message()), (ErrorKind::Internal, "a"));
        let two = all_of([
            error(ErrorKind::Unavailable, "a"),
            error(ErrorKind::EtagMismatch, "b"),
        ]);
        let two = two.unwrap_err();
        assert_eq!(
            (two.kind(), two.message()),
            (ErrorKind::EtagMismatch, "a\nb")
        );
    }

    #[test]
    fn a_presented_error_names_its_code() {
        let error = Error::new(ErrorKind::Internal, "disk gone").with_presented(Presented {
            http: 506,
            grpc: 15,
            tag: "tag".to_owned(),
            reason: "reason".to_owned(),
            domain: "domain".to_owned(),
        });
        assert_eq!(
            error.to_string(),
            "api error: code = DataLoss desc = disk gone"
        );
        assert_eq!(error.message(), "disk gone");
        assert_eq!(error.presented().unwrap().http, 506);
    }
}
