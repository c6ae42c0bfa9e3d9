//! Where workload certificates come from.

use std::collections::BTreeMap;
use std::io;

/// Signs certificate requests: Sentry over gRPC, or Sentry's own authority in its own process.
#[async_trait::async_trait]
pub trait CertificateSource: Send + Sync + 'static {
    /// Signs a PEM `CERTIFICATE REQUEST`. Cancel-safe.
    ///
    /// # Errors
    /// [`SourceError`]; the caller tries again later, whatever the reason.
    async fn sign(&self, request: &str) -> Result<Signed, SourceError>;
}

/// An answer to a certificate request.
#[derive(Clone, Debug, Default)]
pub struct Signed {
    /// PEM, the new certificate first, then the issuers.
    pub chain: Vec<u8>,
    /// PEM of all current trust anchors; may be empty.
    pub anchors: Vec<u8>,
    /// JWT for the trust domain and all requested audiences.
    pub jwt: Option<String>,
    /// JWTs by audience.
    pub audience_jwts: BTreeMap<String, String>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The token file is unreadable.
    #[error("cannot read the sentry token file {path}")]
    Token {
        /// The file.
        path: String,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The token file is empty or no text.
    #[error("the sentry token file {path} {reason}")]
    BadToken {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There are no trust anchors yet, so Sentry cannot be told from anyone else.
    #[error("no trust anchors yet")]
    NoAnchors,
    /// Sentry refused or was not reached.
    #[error("sentry did not sign the certificate ({}): {}", .0.code(), .0.message())]
    Sentry(#[source] Box<tonic::Status>),
    /// Sentry took too long.
    #[error("sentry did not answer in time")]
    Timeout,
    /// Any other authority failed.
    #[error("the certificate was not signed")]
    Authority(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl SourceError {
    /// The value of the metric label `reason`.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Token { .. } | Self::BadToken { .. } => "sentry_token",
            Self::NoAnchors => "trust_anchors",
            Self::Sentry(status) if status.code() == tonic::Code::Unavailable => "sentry_conn",
            Self::Timeout => "sentry_conn",
            Self::Sentry(_) | Self::Authority(_) => "sign",
        }
    }
}
