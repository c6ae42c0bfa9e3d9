//! Sentry's own certificate.

use std::sync::Arc;

use security::{CertificateSource, Signed, SourceError, SpiffeId};

use crate::ca::{Subject, request};
use crate::keeper::Keeper;
use crate::metrics::Metrics;

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
        self.keeper.report_expiry().await;
        let key = request::public_key(
            request.as_bytes(),
            self.sentry.app_id(),
            self.sentry.namespace(),
        )
        .map_err(|error| failed("invalid_csr", error.into()))?;
        let current = self.keeper.current();
        let subject = Subject {
            id: self.sentry.clone(),
            dns: Vec::new(),
            images: Vec::new(),
        };
        let issued = current
            .own()
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
