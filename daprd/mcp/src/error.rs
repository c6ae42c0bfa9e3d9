//! What goes wrong with an MCP server.

use std::time::Duration;

/// Why a server has not done what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The connection is gone, or was never there, and the server has not looked at the request: it may be sent on a new one.
    #[error("the connection is closed: {0}")]
    Closed(String),
    /// The connection broke off before the answer: what the request was for may have been done.
    #[error("the connection broke off before the answer: {0}")]
    BrokenOff(String),
    /// The server refuses, with a JSON-RPC error.
    #[error("the server answers with error {code}: {message}")]
    Refused {
        /// Its code.
        code: i64,
        /// Its text.
        message: String,
    },
    /// No answer in the time that the resource gives.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// What the server says cannot be used, or what is asked of it cannot be said.
    #[error("{0}")]
    Unusable(String),
}

impl Error {
    pub(crate) fn unusable(text: impl Into<String>) -> Self {
        Self::Unusable(text.into())
    }

    pub(crate) fn closed(text: impl Into<String>) -> Self {
        Self::Closed(text.into())
    }

    pub(crate) fn broken_off(text: impl Into<String>) -> Self {
        Self::BrokenOff(text.into())
    }

    /// The same once the request has been sent.
    pub(crate) fn once_sent(self) -> Self {
        match self {
            Self::Closed(text) => Self::BrokenOff(text),
            other => other,
        }
    }
}

/// Ends what takes longer than the limit.
pub(crate) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let ended = tokio::time::timeout(limit, work).await;
    ended.unwrap_or(Err(Error::TimedOut(limit)))
}
