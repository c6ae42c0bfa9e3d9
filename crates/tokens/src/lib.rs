//! JSON Web Tokens: key sets from a URL, a file or inline text, and the checks on tokens.
//!
//! Parsing and checking ([`KeySet`], [`Check`]) are pure; [`Jwks`] adds fetching and refreshing. Symmetric keys and
//! the algorithm `none` are never accepted.
#![deny(missing_docs)]

mod check;
mod jwks;
mod keys;

pub use check::{Check, Claims};
pub use jwks::{Jwks, Options, Runner};
pub use keys::KeySet;

/// What can be wrong with a key set or a token.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is no key set.
    #[error("invalid json web key set: {reason}")]
    KeySet {
        /// What is wrong with it.
        reason: String,
    },
    /// The location is none of the forms that are understood.
    #[error("the key set location is neither a url, nor a file, nor a key set in json or base64")]
    Location,
    /// The key set file cannot be read.
    #[error("cannot read the key set file {path}")]
    File {
        /// The file.
        path: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The CA certificate for fetching cannot be used.
    #[error("invalid ca certificate for fetching the key set: {reason}")]
    Ca {
        /// What is wrong with it.
        reason: String,
    },
    /// The key set cannot be fetched.
    #[error("no key set from {url}")]
    Fetch {
        /// Where from.
        url: String,
        /// The client's answer.
        source: reqwest::Error,
    },
    /// The server did not answer with a key set.
    #[error("no key set from {url}: {reason}")]
    Answer {
        /// Where from.
        url: String,
        /// What was wrong.
        reason: String,
    },
    /// There is no key set yet.
    #[error("the key set is not loaded yet")]
    NotReady,
    /// The token is no JWT, or uses an algorithm that is not accepted.
    #[error("the token is malformed: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// No key of the set can have signed the token.
    #[error("no key matches the token")]
    UnknownKey,
    /// The signature is wrong.
    #[error("the signature of the token is wrong")]
    Signature,
    /// A claim is missing or not what is expected.
    #[error("the claim {claim:?} of the token is not satisfied: {reason}")]
    Claim {
        /// Name of the claim.
        claim: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}
