//! The client of Sentry: one connection per request, since requests are hours apart (contract 6.4).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proto::sentry::v1::SignCertificateRequest;
use proto::sentry::v1::ca_client::CaClient;
use proto::sentry::v1::sign_certificate_request::TokenValidator;
use tokio::time::{sleep, timeout};
use tonic::Code;
use tonic::transport::Channel;
use transport::{ChannelOptions, Connector};

use crate::tls::{self, Shared};
use crate::{
    CONTROL_PLANE, CertificateSource, Error, Expect, Options, SENTRY, Signed, SourceError,
    SpiffeId, TokenSource,
};

/// Tries after the first one.
const RETRIES: u32 = 5;
/// Limit of one try.
const TRY_TIMEOUT: Duration = Duration::from_secs(3);
/// Pause between two tries.
const TRY_PAUSE: Duration = Duration::from_millis(50);
/// Largest token file in bytes.
const MAX_TOKEN: u64 = 64 << 10;

pub(crate) struct Client {
    uri: http::Uri,
    shared: Arc<Shared>,
    expect: Expect,
    token: TokenSource,
    kubernetes: bool,
    id: String,
    namespace: String,
    trust_domain: Option<String>,
    jwt_audiences: Vec<String>,
}

impl Client {
    pub(crate) fn new(options: &Options, shared: Arc<Shared>) -> Result<Self, Error> {
        let address = options.sentry_address.trim_start_matches("dns:///");
        let wrong = |name, reason: &dyn ToString| Error::Option {
            name,
            reason: reason.to_string(),
        };
        if address.is_empty() {
            return Err(wrong("sentry_address", &"it is empty"));
        }
        let uri = format!("https://{address}")
            .parse()
            .map_err(|error| wrong("sentry_address", &error))?;
        let sentry = SpiffeId::new(
            &options.control_plane_trust_domain,
            &options.control_plane_namespace,
            SENTRY,
        )?;
        let own_service = CONTROL_PLANE.contains(&options.app_id.as_str())
            && options.namespace == options.control_plane_namespace;
        let trust_domain = options.trust_domain.clone();
        Ok(Self {
            uri,
            shared,
            expect: Expect::Id(sentry),
            token: options.token.clone(),
            kubernetes: options.kubernetes,
            id: options
                .requested_id
                .clone()
                .unwrap_or_else(|| options.app_id.clone()),
            namespace: options.namespace.clone(),
            trust_domain: trust_domain
                .or_else(|| own_service.then(|| options.control_plane_trust_domain.clone())),
            jwt_audiences: options.jwt_audiences.clone(),
        })
    }

    async fn try_once(
        &self,
        client: &mut CaClient<Channel>,
        request: &SignCertificateRequest,
    ) -> Attempt {
        match timeout(TRY_TIMEOUT, client.sign_certificate(request.clone())).await {
            Err(_) => Attempt::Again(SourceError::Timeout),
            Ok(Ok(reply)) => Attempt::Done(Ok(reply.into_inner())),
            Ok(Err(status)) => {
                let again = matches!(
                    status.code(),
                    Code::Unavailable | Code::ResourceExhausted | Code::Unknown
                );
                let error = SourceError::Sentry(Box::new(status));
                if again {
                    Attempt::Again(error)
                } else {
                    Attempt::Done(Err(error))
                }
            }
        }
    }
}

enum Attempt {
    Done(Result<proto::sentry::v1::SignCertificateResponse, SourceError>),
    Again(SourceError),
}

#[async_trait::async_trait]
impl CertificateSource for Client {
    async fn sign(&self, request: &str) -> Result<Signed, SourceError> {
        if self.shared.bundle.borrow().is_empty() {
            return Err(SourceError::NoAnchors);
        }
        let (token, validator) = read_token(&self.token, self.kubernetes).await?;
        let request = SignCertificateRequest {
            id: self.id.clone(),
            token,
            trust_domain: self.trust_domain.clone().unwrap_or_default(),
            namespace: self.namespace.clone(),
            certificate_signing_request: request.as_bytes().to_vec().into(),
            token_validator: validator.into(),
            jwt_audiences: self.jwt_audiences.clone(),
        };
        let connector = Connector::tls(tls::client(&self.shared, self.expect.clone(), false));
        let connector = connector.connect_timeout(TRY_TIMEOUT);
        let channel = transport::channel(self.uri.clone(), connector, ChannelOptions::default());
        let mut client = CaClient::new(channel);
        let mut tries = 0;
        let reply = loop {
            match self.try_once(&mut client, &request).await {
                Attempt::Done(done) => break done?,
                Attempt::Again(error) if tries == RETRIES => return Err(error),
                Attempt::Again(error) => {
                    tracing::debug!(%error, "sentry did not answer, trying again")
                }
            }
            tries += 1;
            sleep(TRY_PAUSE).await;
        };
        Ok(Signed {
            chain: reply.workload_certificate.to_vec(),
            anchors: reply
                .trust_chain_certificates
                .first()
                .map(|pem| pem.to_vec())
                .unwrap_or_default(),
            jwt: reply.jwt.filter(|jwt| !jwt.is_empty()),
            audience_jwts: reply.per_audience_jwts.into_iter().collect(),
        })
    }
}

/// The token and the validator that understands it, in the order of contract 6.4.
async fn read_token(
    source: &TokenSource,
    kubernetes: bool,
) -> Result<(String, TokenValidator), SourceError> {
    if let Some(path) = &source.file {
        let token = read(path).await?;
        if token.is_empty() {
            return Err(SourceError::BadToken {
                path: path.display().to_string(),
                reason: "is empty",
            });
        }
        let validator = if kubernetes {
            TokenValidator::Kubernetes
        } else {
            TokenValidator::Jwks
        };
        return Ok((token, validator));
    }
    if kubernetes {
        for path in &source.kubernetes {
            match read(path).await {
                Ok(token) if !token.is_empty() => return Ok((token, TokenValidator::Kubernetes)),
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "no token here"),
            }
        }
    }
    Ok((String::new(), TokenValidator::Unknown))
}

async fn read(path: &Path) -> Result<String, SourceError> {
    let label = || path.display().to_string();
    let io = |source| SourceError::Token {
        path: label(),
        source,
    };
    if tokio::fs::metadata(path).await.map_err(io)?.len() > MAX_TOKEN {
        return Err(SourceError::BadToken {
            path: label(),
            reason: "is larger than 64 KiB",
        });
    }
    let bytes = tokio::fs::read(path).await.map_err(io)?;
    String::from_utf8(bytes).map_err(|_| SourceError::BadToken {
        path: label(),
        reason: "is no text",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tokens_are_looked_for_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (user, projected, legacy) = (
            file("user", "u"),
            file("projected", "p"),
            file("legacy", "l"),
        );
        let missing = dir.path().join("missing");
        let ask = async |file: Option<&std::path::PathBuf>,
                         kubernetes: &[&std::path::PathBuf],
                         mode: bool| {
            let source = TokenSource {
                file: file.cloned(),
                kubernetes: kubernetes.iter().map(|path| (*path).clone()).collect(),
            };
            read_token(&source, mode).await
        };
        let all = [&projected, &legacy];
        assert_eq!(
            ask(Some(&user), &all, false).await.unwrap(),
            ("u".into(), TokenValidator::Jwks)
        );
        assert_eq!(
            ask(Some(&user), &all, true).await.unwrap(),
            ("u".into(), TokenValidator::Kubernetes)
        );
        assert_eq!(
            ask(None, &all, true).await.unwrap(),
            ("p".into(), TokenValidator::Kubernetes)
        );
        assert_eq!(
            ask(None, &[&missing, &legacy], true).await.unwrap(),
            ("l".into(), TokenValidator::Kubernetes)
        );
        assert_eq!(
            ask(None, &[&missing], true).await.unwrap(),
            (String::new(), TokenValidator::Unknown)
        );
        assert_eq!(
            ask(None, &all, false).await.unwrap(),
            (String::new(), TokenValidator::Unknown)
        );
        assert!(matches!(
            ask(Some(&missing), &all, true).await,
            Err(SourceError::Token { .. })
        ));
        assert!(matches!(
            ask(Some(&file("empty", "")), &all, true).await,
            Err(SourceError::BadToken { .. })
        ));
    }
}
