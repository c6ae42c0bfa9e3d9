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
    #[error("token validation failed: {}", said(.0))]
    Token(tokens::Error),
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

impl Validators {
    /// Checks a request with the validator it names, or the default one.
    pub async fn check(&self, request: &SignCertificateRequest) -> Result<Granted, Refused> {
        let named = match TokenValidator::try_from(request.token_validator) {
            Ok(TokenValidator::Unknown) => self.default(),
            Ok(named) => named,
            // A validator of a later version, which must not be taken for none.
            Err(_) => return Err(Refused::NotEnabled),
        };
        match named {
            TokenValidator::Unknown => Err(Refused::NoValidator),
            TokenValidator::Insecure if self.insecure() => {
                common(request)?;
                grant(&trust_domain(request)?, request, Vec::new())
            }
            TokenValidator::Kubernetes => match &self.kubernetes {
                Some(validator) => validator.check(request).await,
                None => Err(Refused::NotEnabled),
            },
            TokenValidator::Jwks => match &self.jwks {
                Some(validator) => validator.check(request).await,
                None => Err(Refused::NotEnabled),
            },
            TokenValidator::Insecure => Err(Refused::NotEnabled),
        }
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
