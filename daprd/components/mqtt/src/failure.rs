//! What went wrong, in the words of components.

use component::{Error, ErrorKind};
use rumqttc::{ConnectReturnCode, ConnectionError, StateError};

/// An error as it may be told more than once.
#[derive(Clone, Debug)]
pub struct Failure {
    kind: ErrorKind,
    text: String,
}

impl Failure {
    pub fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }

    /// Why a connection to this server has ended, or was none.
    pub fn of_connection(address: &str, error: &ConnectionError) -> Self {
        Self::new(kind(error), format!("mqtt: {address}: {error}"))
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn error(&self) -> Error {
        Error::new(self.kind, &*self.text)
    }
}

fn kind(error: &ConnectionError) -> ErrorKind {
    match error {
        ConnectionError::ConnectionRefused(code) => match code {
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => {
                ErrorKind::Unauthorized
            }
            ConnectReturnCode::BadClientId => ErrorKind::InvalidMetadata,
            ConnectReturnCode::RefusedProtocolVersion => ErrorKind::Unsupported,
            ConnectReturnCode::ServiceUnavailable | ConnectReturnCode::Success => {
                ErrorKind::Unavailable
            }
        },
        error if is_unreadable(error) => ErrorKind::Unsupported,
        _ => ErrorKind::Unavailable,
    }
}

/// Whether the server has sent what we cannot read: it will send it again on the next connection.
pub fn is_unreadable(error: &ConnectionError) -> bool {
    match error {
        ConnectionError::MqttState(StateError::Deserialization(error)) => {
            !matches!(error, rumqttc::Error::Io(_))
        }
        _ => false,
    }
}
