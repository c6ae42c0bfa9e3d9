//! Issuers from outside: an authority that is not sentry's certifies the key with which sentry signs, below a root that somebody
//! else keeps. Sentry then makes no root of its own. Q-sentry-upstream

mod renewal;
mod requests;

use std::time::Duration;

pub use renewal::{Renewal, Wanted};
pub use requests::{IssuerRef, Requests};

/// An authority outside.
#[async_trait::async_trait]
pub trait Upstream: Send + Sync {
    /// What it is called in the log, and in what is written down.
    fn name(&self) -> &'static str;

    /// Asks under a name to certify the key of a request (PEM) as an authority, for about so long. What is asked for under
    /// that name already is as good.
    async fn submit(&self, name: &str, csr: &str, life: Duration) -> Result<(), Error>;

    /// What has become of it. It may take days, where people decide.
    async fn answer(&self, name: &str) -> Result<Answer, Error>;

    /// Takes it away, as nobody needs it any more.
    async fn withdraw(&self, name: &str);
}

/// What has become of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Certified(Certified),
    Undecided,
    /// There is no such request.
    Unknown,
}

/// What an authority outside has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// PEM: the certificate of the key, and what leads from it to the root.
    pub chain: Vec<u8>,
    /// PEM: the root.
    pub root: Vec<u8>,
}

/// Why there is no issuer from outside.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the request to {upstream} fails")]
    Request {
        upstream: &'static str,
        source: crate::api_server::Error,
    },
    #[error("{upstream} refuses: {reason}")]
    Refused {
        upstream: &'static str,
        reason: String,
    },
    #[error("what {upstream} has certified cannot be used")]
    Unusable {
        upstream: &'static str,
        source: crate::ca::Error,
    },
    #[error("the credentials cannot be loaded or stored")]
    Store(#[from] crate::store::Error),
    #[error(
        "the issuer credentials are somebody's who is neither sentry nor {upstream}: they stay until they are removed"
    )]
    Foreign { upstream: &'static str },
}
