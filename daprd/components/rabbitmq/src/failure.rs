//! Errors of the client library and of the server as those of a component.

use component::{Error, ErrorKind};
use lapin::{
    protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError},
    types::ShortString,
};

/// An error of lapin as one of the component.
pub fn failure(what: impl Into<String>, error: lapin::Error) -> Error {
    let kind = match error.kind() {
        lapin::ErrorKind::ProtocolError(told) => told_by_server(told.kind()),
        lapin::ErrorKind::ChannelsLimitReached => ErrorKind::RateLimited,
        lapin::ErrorKind::AuthProviderError(_) => ErrorKind::Unauthorized,
        lapin::ErrorKind::SerialisationError(_) => ErrorKind::InvalidRequest,
        lapin::ErrorKind::InvalidChannel(_)
        | lapin::ErrorKind::InvalidChannelState(..)
        | lapin::ErrorKind::InvalidConnectionState(_)
        | lapin::ErrorKind::IOError(_)
        | lapin::ErrorKind::RuntimeShutdownError(_)
        | lapin::ErrorKind::MissingHeartbeatError => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    };
    // As text, for its own cause says the same again.
    Error::new(kind, what).with_source(error.to_string())
}

fn told_by_server(kind: &AMQPErrorKind) -> ErrorKind {
    match kind {
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => ErrorKind::Unauthorized,
        // A virtual host that is not there, or not for this user.
        AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => ErrorKind::Unauthorized,
        // What was declared before, otherwise than the metadata say.
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => ErrorKind::InvalidMetadata,
        AMQPErrorKind::Soft(AMQPSoftError::CONTENTTOOLARGE) => ErrorKind::InvalidRequest,
        AMQPErrorKind::Hard(AMQPHardError::RESOURCEERROR) => ErrorKind::RateLimited,
        // An exchange or queue that somebody deleted is declared anew, and who holds a queue alone lets go of it.
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND | AMQPSoftError::RESOURCELOCKED)
        | AMQPErrorKind::Hard(AMQPHardError::CONNECTIONFORCED) => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    }
}

/// A short text of the protocol.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] where it has more than 255 bytes; the library would panic on it.
pub fn short(what: &str, text: &str) -> component::Result<ShortString> {
    ShortString::try_new(text).map_err(|error| {
        Error::invalid_request(format!("{what} is too long for RabbitMQ")).with_source(error)
    })
}

#[cfg(test)]
mod tests {
    use lapin::protocol::AMQPError;

    use super::*;

    #[test]
    fn what_the_server_says_decides() {
        let kind = |kind: AMQPErrorKind| {
            let told = lapin::ErrorKind::ProtocolError(AMQPError::new(kind, "why".into()));
            failure("opening", told.into()).kind()
        };
        assert_eq!(
            kind(AMQPSoftError::ACCESSREFUSED.into()),
            ErrorKind::Unauthorized
        );
        assert_eq!(
            kind(AMQPSoftError::PRECONDITIONFAILED.into()),
            ErrorKind::InvalidMetadata
        );
        assert_eq!(
            kind(AMQPHardError::CONNECTIONFORCED.into()),
            ErrorKind::Unavailable
        );
        assert_eq!(kind(AMQPHardError::SYNTAXERROR.into()), ErrorKind::Internal);
    }

    #[test]
    fn texts_that_do_not_fit_are_refused() {
        assert!(short("the topic", &"x".repeat(255)).is_ok());
        let error = short("the topic", &"x".repeat(256)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest);
        assert!(error.to_string().contains("the topic"), "{error}");
    }
}
