//! Errors of state stores as reasons.

use blocks::state::Error;
use component::ErrorKind;

use crate::{Api, ApiError, CallContext, Reason, Transport, reason::state as reason};

impl Api {
    /// A block's error as a reason; `failed` and `message` are for what the component itself said.
    pub(super) fn state_error(
        &self,
        call: &CallContext,
        error: Error,
        failed: &'static Reason,
        message: impl FnOnce(String) -> String,
    ) -> ApiError {
        let text = error.to_string();
        let about = |row: &'static Reason, store: &str| {
            ApiError::new(row, text.clone()).resource("state", store, "")
        };
        match &error {
            Error::NotConfigured { .. } => self.store_missing(call, &reason::NOT_CONFIGURED, text),
            Error::NotFound { .. } => self.store_missing(call, &reason::NOT_FOUND, text),
            Error::IllegalKey { store, key } => {
                // Compat: Q-state-illegal-key: the HTTP API tells the error as the gRPC one would print it, and does not name
                // the key of a transaction's operation.
                let (text, field) = match call.transport {
                    Transport::Grpc => (text, key.as_str()),
                    Transport::Http => (
                        format!("api error: code = InvalidArgument desc = {text}"),
                        if failed == &reason::TRANSACTION {
                            ""
                        } else {
                            key
                        },
                    ),
                };
                ApiError::new(&reason::ILLEGAL_KEY, text)
                    .field(field)
                    .resource("state", store, "")
            }
            Error::TransactionsUnsupported { store } => {
                about(&reason::TRANSACTIONS_UNSUPPORTED, store).help(
                    "https://docs.dapr.io/reference/components-reference/supported-state-stores/",
                    "Check the list of state stores and the features they support",
                )
            }
            Error::TooManyOperations { store, count, most } => {
                about(&reason::TOO_MANY_OPERATIONS, store).metadata([
                    ("currentOpsTransaction", count.to_string()),
                    ("maxOpsPerTransaction", most.to_string()),
                ])
            }
            Error::QueriesUnsupported { store } => about(&reason::QUERIES_UNSUPPORTED, store),
            Error::Component(said) => match said.presented() {
                Some(presented) => {
                    ApiError::presenting(failed, message(text), said.message(), presented.clone())
                }
                None => ApiError::new(failed, message(text)),
            },
        }
    }

    fn store_missing(&self, call: &CallContext, row: &'static Reason, text: String) -> ApiError {
        let error = ApiError::new(row, text);
        match call.transport {
            // Compat: Q-state-missing-store: only the HTTP API names the app in the details.
            Transport::Http => error.metadata([("appID", self.options.app_id.as_str())]),
            Transport::Grpc => error,
        }
    }
}

/// Which row of three: the write lost against another, its entity tag is none, or the store failed.
pub(super) fn etag_reason(
    error: &Error,
    mismatch: &'static Reason,
    invalid: &'static Reason,
    other: &'static Reason,
) -> &'static Reason {
    match error {
        Error::Component(error) => match error.kind() {
            ErrorKind::EtagMismatch => mismatch,
            ErrorKind::EtagInvalid => invalid,
            _ => other,
        },
        _ => other,
    }
}
