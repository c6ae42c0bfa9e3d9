//! The gRPC service: one method, `SignCertificate` (contract 6.2).

use std::net::IpAddr;
use std::sync::Arc;

use daemon::Refusals;
use jiff::Timestamp;
use proto::sentry::v1::ca_server::Ca;
use proto::sentry::v1::{SignCertificateRequest, SignCertificateResponse};
use proto::time::to_wire;
use security::{INJECTOR, OPERATOR, SCHEDULER, SpiffeId};
use tonic::{Code, Request, Response, Status};

use crate::ca::{self, Subject, request};
use crate::gate::{Busy, Gate};
use crate::jwt;
use crate::keeper::Keeper;
use crate::metrics::Metrics;
use crate::validator::{Granted, Refused, Validators};

/// Answers certificate requests.
pub struct Service {
    keeper: Arc<Keeper>,
    validators: Validators,
    gate: Gate,
    metrics: Metrics,
    refusals: Refusals,
    sentry: SpiffeId,
    cluster_domain: String,
}

/// What a [`Service`] needs.
pub struct Options {
    pub keeper: Arc<Keeper>,
    pub validators: Validators,
    pub metrics: Metrics,
    /// Sentry's own identity.
    pub sentry: SpiffeId,
    /// Domain of names in the cluster, for the scheduler's certificate.
    pub cluster_domain: String,
}

/// Most audiences in one request: each costs an RSA signature. Q-sentry-jwt-audiences
const MAX_AUDIENCES: usize = 32;
/// Replicas of the scheduler that its certificate names.
const SCHEDULERS: usize = 3;

#[tonic::async_trait]
impl Ca for Service {
    async fn sign_certificate(
        &self,
        request: Request<SignCertificateRequest>,
    ) -> Result<Response<SignCertificateResponse>, Status> {
        self.metrics.received();
        let peer = request.extensions().get::<transport::Peer>();
        let address = peer.and_then(transport::Peer::ip);
        let request = request.into_inner();
        match self.sign(address, &request).await {
            Ok(response) => {
                self.metrics.signed();
                Ok(Response::new(response))
            }
            Err(error) => {
                self.metrics.failed();
                self.metrics.refused(error.kind());
                let who = format!("{}/{}", request.namespace, request.id);
                let inner = error.inner();
                self.refusals
                    .note(&who, error.kind(), &inner.to_string(), inner.source());
                Err(error.status())
            }
        }
    }
}

/// Why there is no certificate.
#[derive(Debug)]
enum Error {
    Refused(Refused),
    Request(request::Error),
    Audiences(TooMany),
    Busy(Busy),
    Signing(Signing),
}

#[derive(Debug, thiserror::Error)]
#[error("more than {MAX_AUDIENCES} jwt audiences")]
struct TooMany;

#[derive(Debug, thiserror::Error)]
enum Signing {
    #[error("the certificate could not be signed")]
    Certificate(#[source] ca::Error),
    #[error("the jwt could not be signed: {0}")]
    Jwt(String),
    #[error("signing ended before its time")]
    Ended,
}

impl Error {
    /// One word for a metric.
    fn kind(&self) -> &'static str {
        match self {
            Self::Refused(refused) => refused.kind(),
            Self::Request(_) => "csr",
            Self::Audiences(_) => "request",
            Self::Busy(_) => "busy",
            Self::Signing(_) => "sign",
        }
    }

    fn inner(&self) -> &(dyn std::error::Error + 'static) {
        match self {
            Self::Refused(error) => error,
            Self::Request(error) => error,
            Self::Audiences(error) => error,
            Self::Busy(error) => error,
            Self::Signing(error) => error,
        }
    }

    /// What the caller is told. It tries again where that may help.
    fn status(&self) -> Status {
        let code = match self {
            Self::Refused(Refused::NoValidator | Refused::NotEnabled)
            | Self::Request(_)
            | Self::Audiences(_) => Code::InvalidArgument,
            Self::Refused(_) => Code::PermissionDenied,
            Self::Busy(Busy::Peer) => Code::ResourceExhausted,
            Self::Busy(Busy::All) => Code::Unavailable,
            Self::Signing(_) => Code::Internal,
        };
        Status::new(code, self.inner().to_string())
    }
}

impl Service {
    pub fn new(options: Options) -> Self {
        Self {
            keeper: options.keeper,
            validators: options.validators,
            gate: Gate::default(),
            refusals: Refusals::new("no certificate"),
            metrics: options.metrics,
            sentry: options.sentry,
            cluster_domain: options.cluster_domain,
        }
    }

    /// Says who the sender is. What can be judged by the request alone is judged first: a question to the API server is
    /// dear, and anybody can make sentry ask it.
    async fn identify(
        &self,
        address: Option<IpAddr>,
        request: &SignCertificateRequest,
    ) -> Result<(Vec<u8>, Granted), Error> {
        let validator = self.validators.choose(request).map_err(Error::Refused)?;
        if request.jwt_audiences.len() > MAX_AUDIENCES {
            return Err(Error::Audiences(TooMany));
        }
        let csr = &request.certificate_signing_request;
        let key =
            request::public_key(csr, &request.id, &request.namespace).map_err(Error::Request)?;
        let _turn = match validator.is_costly() {
            true => Some(self.gate.enter(address).await.map_err(Error::Busy)?),
            false => None,
        };
        let granted = validator.check(request).await.map_err(Error::Refused)?;
        Ok((key, granted))
    }

    async fn sign(
        &self,
        address: Option<IpAddr>,
        request: &SignCertificateRequest,
    ) -> Result<SignCertificateResponse, Error> {
        let (key, granted) = self.identify(address, request).await?;
        let subject = Subject {
            dns: self.dns_names(&granted.id),
            id: granted.id.clone(),
            images: granted.images.clone(),
        };
        let (current, now) = (self.keeper.current(), self.keeper.now());
        let audiences = request.jwt_audiences.clone();
        // RSA signatures take milliseconds each, too long for the threads that serve connections; a user's issuer may have
        // such a key as well.
        let signed = tokio::task::spawn_blocking(move || {
            let issued = current.authority.issue(&key, &subject);
            let issued = issued.map_err(Signing::Certificate)?;
            let mut response = SignCertificateResponse {
                workload_certificate: issued.chain.into(),
                trust_chain_certificates: vec![
                    current.authority.anchors().as_bytes().to_vec().into(),
                ],
                valid_until: Some(to_wire(issued.not_after)),
                ..SignCertificateResponse::default()
            };
            if let Some(issuer) = &current.jwt {
                let signed = jwts(issuer, &granted, &audiences, now);
                let (jwt, by_audience) = signed.map_err(Signing::Jwt)?;
                response.jwt = Some(jwt);
                response.per_audience_jwts = by_audience.into_iter().collect();
            }
            Ok(response)
        });
        let signed = signed.await.unwrap_or_else(|_| Err(Signing::Ended));
        signed.map_err(Error::Signing)
    }

    /// Names of services that something other than a sidecar connects to.
    fn dns_names(&self, id: &SpiffeId) -> Vec<String> {
        let namespace = id.namespace();
        if namespace != self.sentry.namespace() {
            return Vec::new();
        }
        match id.app_id() {
            INJECTOR => vec![format!("dapr-sidecar-injector.{namespace}.svc")],
            OPERATOR => vec![format!("dapr-webhook.{namespace}.svc")],
            SCHEDULER => (0..SCHEDULERS)
                .map(|n| {
                    let domain = &self.cluster_domain;
                    format!(
                        "dapr-scheduler-server-{n}.dapr-scheduler-server.{namespace}.svc.{domain}"
                    )
                })
                .collect(),
            _ => Vec::new(),
        }
    }
}

type Jwts = (String, Vec<(String, String)>);

/// One token for all audiences, and one for each; the trust domain is always among them.
fn jwts(
    issuer: &jwt::Issuer,
    granted: &Granted,
    requested: &[String],
    now: Timestamp,
) -> Result<Jwts, String> {
    let requested = requested.iter().map(String::as_str);
    let audiences: Vec<&str> = std::iter::once(granted.id.trust_domain())
        .chain(requested)
        .collect();
    let sign = |audiences: &[&str]| {
        issuer
            .sign(&granted.id, audiences, now)
            .map_err(|error| error.to_string())
    };
    let all = sign(&audiences)?;
    let mut each = Vec::with_capacity(audiences.len());
    for audience in &audiences {
        each.push(((*audience).to_owned(), sign(&[audience])?));
    }
    Ok((all, each))
}

#[cfg(test)]
mod tests;
