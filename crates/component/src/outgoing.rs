//! What a component reaches the world by, lent by the sidecar: HTTP clients that all have the same TLS, and the identity of the
//! workload, for services that let it log in with that.

pub mod oauth2;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use http::{HeaderValue, header::InvalidHeaderValue};

use crate::{Body, Error, Result};

/// What differs between HTTP clients.
#[derive(Clone, Default)]
pub struct Tls {
    /// Authorities to trust, in PEM; without any, those of the system.
    pub authorities: Option<String>,
    /// Certificate and key of the client, in PEM.
    pub identity: Option<(String, String)>,
    /// Takes any certificate.
    pub insecure: bool,
}

/// The key is secret.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("authorities", &self.authorities.is_some())
            .field("identity", &self.identity.is_some())
            .field("insecure", &self.insecure)
            .finish()
    }
}

/// Sends requests; its connections are pooled.
#[async_trait]
pub trait HttpClient: Send + Sync {
    /// Sends a request with a full URL; bodies are streamed both ways. The caller limits the time.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unavailable`] where there is no answer, with [`Unsent`] as its cause where that is certain; one with
    /// any status is an answer.
    async fn send(&self, request: http::Request<Body>) -> Result<http::Response<Body>>;
}

/// A value of a header that is never shown.
///
/// # Errors
/// Where it is none that a header can have.
pub fn secret(text: &str) -> std::result::Result<HeaderValue, InvalidHeaderValue> {
    let mut value = HeaderValue::from_str(text)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The cause of an error of [`HttpClient::send`] where the request has not left: nobody can have acted on it, so it may be sent
/// again, whatever it does.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unsent(pub String);

/// Whether an error of [`HttpClient::send`] says that the request has not left.
pub fn is_unsent(error: &Error) -> bool {
    let source = std::error::Error::source(error);
    source.is_some_and(|source| source.is::<Unsent>())
}

/// Makes HTTP clients. Those without TLS of their own are one.
pub trait HttpClients: Send + Sync {
    /// A client.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidMetadata`] where certificates or keys cannot be read.
    fn client(&self, tls: &Tls) -> Result<Arc<dyn HttpClient>>;
}

/// The certificate of the workload, with what others check it by. All in PEM.
#[derive(Clone)]
pub struct X509Svid {
    /// The SPIFFE id.
    pub id: String,
    /// The certificate and those between it and the authority.
    pub chain: String,
    /// Its key.
    pub key: String,
    /// The authorities of the trust domain.
    pub authorities: String,
}

/// Who the workload is. What it tells is renewed: ask again rather than keep it.
pub trait Identity: Send + Sync {
    /// The current certificate.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unavailable`] where there is none.
    fn x509(&self) -> Result<X509Svid>;

    /// The current token for an audience.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unavailable`] where none has been issued for it.
    fn jwt(&self, audience: &str) -> Result<String>;
}

/// A sidecar that lends nothing: for tests, and for programs without a network.
pub struct Nothing;

impl HttpClients for Nothing {
    fn client(&self, _: &Tls) -> Result<Arc<dyn HttpClient>> {
        Err(Error::unsupported("calling others"))
    }
}

impl Identity for Nothing {
    fn x509(&self) -> Result<X509Svid> {
        Err(Error::unsupported("having an identity"))
    }

    fn jwt(&self, _: &str) -> Result<String> {
        Err(Error::unsupported("having an identity"))
    }
}
