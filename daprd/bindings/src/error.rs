//! Why an output binding could not be called. The texts are part of the contract.

/// What callers tell apart.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request names no operation.
    #[error("operation field is missing from request")]
    NoOperation,
    /// There is no output binding of this name.
    #[error("couldn't find output binding {name}")]
    NotFound { name: String },
    /// The binding does not know the operation.
    #[error("binding {name} does not support operation {operation}. supported operations:{known}")]
    UnknownOperation {
        name: String,
        operation: String,
        /// Those that it knows, with blanks between them.
        known: String,
    },
    /// What the component said.
    #[error("{}", component::error::chain(.0))]
    Component(#[from] component::Error),
}
