//! Who may have which identity (contract 6.3).

mod jwks;
mod kubernetes;

use proto::sentry::v1::SignCertificateRequest;
use proto::sentry::v1::sign_certificate_request::TokenValidator;
use security::{SpiffeId, TrustDomain};

use crate::ca::images::Image;

pub use jwks::JwksValidator;
pub use kubernetes::KubernetesValidator;

/// The validators that are enabled.
pub struct Validators {
    pub kubernetes: Option<KubernetesValidator>,
    pub jwks: Option<JwksValidator>,
}

/// What a validator grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    pub id: SpiffeId,
    pub images: Vec<Image>,
}

/// Why a request is refused. The text goes to the caller.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("a validator name must be specified in this environment")]
    NoValidator,
    #[error("the requested validator is not enabled")]
    NotEnabled,
    #[error("invalid request: {0}")]
    Request(&'static str),
    #[error("{0}")]
    Identity(String),
    #[error("token review failed")]
    Review(#[source] crate::api_server::Error),
    #[error("{what} cannot be found")]
    Missing {
        what: String,
        source: crate::api_server::Error,
    },
    #[error("token validation failed: {}", said(.0))]
    Token(tokens::Error),
}

impl Refused {
    /// One word for a metric.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NoValidator | Self::NotEnabled => "validator",
            Self::Request(_) => "request",
            Self::Identity(_) | Self::Missing { .. } => "identity",
            Self::Review(_) => "review",
            Self::Token(_) => "token",
        }
    }
}

/// Compat: Q-sentry-refusals: a token that no key has signed is spoken of in the words of upstream's library.
fn said(error: &tokens::Error) -> String {
    match error {
        tokens::Error::UnknownKey | tokens::Error::Signature => {
            format!("could not verify message: {error}")
        }
        _ => error.to_string(),
    }
}

/// Longest app id.
const MAX_APP_ID: usize = 64;
/// Largest token in bytes.
const MAX_TOKEN: usize = 64 << 10;

/// The validator of a request whose parts are all there.
#[derive(Clone, Copy)]
pub enum Chosen<'a> {
    Insecure,
    Kubernetes(&'a KubernetesValidator),
    Jwks(&'a JwksValidator),
}

impl Chosen<'_> {
    /// Whether a check costs more than a look at the request.
    pub fn is_costly(self) -> bool {
        !matches!(self, Self::Insecure)
    }

    /// Says which identity the sender of a request has.
    pub async fn check(self, request: &SignCertificateRequest) -> Result<Granted, Refused> {
        match self {
            Self::Insecure => grant(&trust_domain(request)?, request, Vec::new()),
            Self::Kubernetes(validator) => validator.check(request).await,
            Self::Jwks(validator) => validator.check(request).await,
        }
    }
}

impl Validators {
    /// The validator that a request names, or the default one, if the request is one at all.
    pub fn choose(&self, request: &SignCertificateRequest) -> Result<Chosen<'_>, Refused> {
        let named = match TokenValidator::try_from(request.token_validator) {
            Ok(TokenValidator::Unknown) => self.default(),
            Ok(named) => named,
            // A validator of a later version, which must not be taken for none.
            Err(_) => return Err(Refused::NotEnabled),
        };
        let chosen = match named {
            TokenValidator::Unknown => return Err(Refused::NoValidator),
            TokenValidator::Insecure => self.insecure().then_some(Chosen::Insecure),
            TokenValidator::Kubernetes => self.kubernetes.as_ref().map(Chosen::Kubernetes),
            TokenValidator::Jwks => self.jwks.as_ref().map(Chosen::Jwks),
        };
        let chosen = chosen.ok_or(Refused::NotEnabled)?;
        common(request)?;
        if request.token.is_empty() && chosen.is_costly() {
            return Err(Refused::Identity("a token is needed".into()));
        }
        Ok(chosen)
    }

    /// Without a cluster and without keys there is nothing to check tokens with.
    fn insecure(&self) -> bool {
        self.kubernetes.is_none() && self.jwks.is_none()
    }

    fn default(&self) -> TokenValidator {
        if self.kubernetes.is_some() {
            TokenValidator::Kubernetes
        } else if self.insecure() {
            TokenValidator::Insecure
        } else {
            TokenValidator::Unknown
        }
    }
}

/// What every request must have.
fn common(request: &SignCertificateRequest) -> Result<(), Refused> {
    let wrong = if request.id.is_empty() {
        "the id is empty"
    } else if request.id.contains('.') {
        "the id has dots in it"
    } else if request.id.len() > MAX_APP_ID {
        // Compat: Q-sentry-refusals
        "app ID must be 64 characters or less"
    } else if request.certificate_signing_request.is_empty() {
        "CSR is required"
    } else if request.namespace.is_empty() {
        "namespace is required"
    } else if request.token.len() > MAX_TOKEN {
        "the token is larger than 64 KiB"
    } else {
        return Ok(());
    };
    Err(Refused::Request(wrong))
}

/// The trust domain that the request asks for.
fn trust_domain(request: &SignCertificateRequest) -> Result<String, Refused> {
    let domain = match request.trust_domain.as_str() {
        "" => TrustDomain::PUBLIC,
        domain => domain,
    };
    match domain.parse::<TrustDomain>() {
        Ok(domain) => Ok(domain.to_string()),
        Err(error) => Err(Refused::Identity(error.to_string())),
    }
}

fn grant(
    trust_domain: &str,
    request: &SignCertificateRequest,
    images: Vec<Image>,
) -> Result<Granted, Refused> {
    let id = SpiffeId::new(trust_domain, &request.namespace, &request.id);
    Ok(Granted {
        id: id.map_err(|error| Refused::Identity(error.to_string()))?,
        images,
    })
}

#[cfg(test)]
mod tests;
