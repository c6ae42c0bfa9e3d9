//! The gRPC service: one method, `SignCertificate` (contract 6.2), and sentry's own certificate.

use std::sync::Arc;

use jiff::Timestamp;
use proto::sentry::v1::ca_server::Ca;
use proto::sentry::v1::{SignCertificateRequest, SignCertificateResponse};
use security::{CertificateSource, INJECTOR, OPERATOR, SCHEDULER, Signed, SourceError, SpiffeId};
use tonic::{Code, Request, Response, Status};

use crate::ca::{Subject, request};
use crate::keeper::{Current, Keeper};
use crate::metrics::Metrics;
use crate::validator::{Granted, Refused, Validators};

/// Answers certificate requests.
pub struct Service {
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
        let request = request.into_inner();
        let outcome = self.sign(&request).await;
        match &outcome {
            Ok(_) => self.metrics.signed(),
            Err(status) => {
                self.metrics.failed();
                tracing::debug!(
                    "no certificate for {}/{}: {}",
                    request.namespace,
                    request.id,
                    status.message()
                );
            }
        }
        outcome.map(Response::new)
    }
}

impl Service {
    async fn sign(
        &self,
        request: &SignCertificateRequest,
    ) -> Result<SignCertificateResponse, Status> {
        let granted = self
            .validators
            .check(request)
            .await
            .map_err(|refused| refusal(&refused))?;
        let key = request::public_key(&request.certificate_signing_request)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        if request.jwt_audiences.len() > MAX_AUDIENCES {
            return Err(Status::invalid_argument(format!(
                "more than {MAX_AUDIENCES} jwt audiences"
            )));
        }
        let subject = Subject {
            dns: self.dns_names(&granted.id),
            id: granted.id.clone(),
            images: granted.images.clone(),
        };
        let current = self.keeper.current();
        let issued = current.authority.issue(&key, &subject).map_err(|error| {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "cannot sign for {}",
                subject.id
            );
            Status::internal("the certificate could not be signed")
        })?;
        let mut response = SignCertificateResponse {
            workload_certificate: issued.chain.into(),
            trust_chain_certificates: vec![current.authority.anchors().as_bytes().to_vec().into()],
            valid_until: Some(proto_timestamp(issued.not_after)),
            ..SignCertificateResponse::default()
        };
        if current.jwt.is_some() {
            let audiences = request.jwt_audiences.clone();
            // RSA signatures take milliseconds each, too long for the threads that serve connections.
            let signed =
                tokio::task::spawn_blocking(move || jwts(&current, &granted, &audiences)).await;
            let signed = signed
                .map_err(|error| error.to_string())
                .and_then(|signed| signed);
            let (jwt, by_audience) = signed.map_err(|error| {
                Status::internal(format!("the jwt could not be signed: {error}"))
            })?;
            response.jwt = Some(jwt);
            response.per_audience_jwts = by_audience.into_iter().collect();
        }
        Ok(response)
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
fn jwts(current: &Current, granted: &Granted, requested: &[String]) -> Result<Jwts, String> {
    let issuer = current.jwt.as_ref().ok_or("no signing key")?;
    let now = Timestamp::now();
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

fn refusal(refused: &Refused) -> Status {
    let code = match refused {
        Refused::NoValidator | Refused::NotEnabled => Code::InvalidArgument,
        _ => Code::PermissionDenied,
    };
    if let Refused::Review(error) = refused {
        tracing::error!(
            error = error as &dyn std::error::Error,
            "token review failed"
        );
    }
    Status::new(code, refused.to_string())
}

fn proto_timestamp(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.as_second(),
        nanos: 0,
    }
}

/// Sentry's own certificate comes from its own authority.
pub struct OwnCertificate {
    pub keeper: Arc<Keeper>,
    pub metrics: Metrics,
    pub sentry: SpiffeId,
}

#[async_trait::async_trait]
impl CertificateSource for OwnCertificate {
    async fn sign(&self, request: &str) -> Result<Signed, SourceError> {
        let failed = |reason: &str, error: Box<dyn std::error::Error + Send + Sync>| {
            self.metrics.own_failed(reason);
            SourceError::Authority(error)
        };
        self.keeper.report_expiry();
        let key = request::public_key(request.as_bytes())
            .map_err(|error| failed("invalid_csr", error.into()))?;
        let current = self.keeper.current();
        let subject = Subject {
            id: self.sentry.clone(),
            dns: Vec::new(),
            images: Vec::new(),
        };
        let issued = current
            .authority
            .issue(&key, &subject)
            .map_err(|error| failed("ca_error", error.into()))?;
        let anchors = current.authority.anchors().as_bytes().to_vec();
        Ok(Signed {
            chain: issued.chain,
            anchors,
            ..Signed::default()
        })
    }
}
