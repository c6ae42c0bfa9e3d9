//! Tokens signed by keys that the operator of the installation trusts.

use std::time::Duration;

use jiff::Timestamp;
use proto::sentry::v1::SignCertificateRequest;
use security::SpiffeId;
use tokens::{Check, Jwks};

use super::{Granted, Refused, common, grant, trust_domain};

/// Checks that a token is meant for sentry and names the identity that is asked for.
pub struct JwksValidator {
    keys: Jwks,
    audience: String,
}

/// Clocks may differ by this much.
const SKEW: Duration = Duration::from_secs(300);

impl JwksValidator {
    pub fn new(keys: Jwks, sentry: &SpiffeId) -> Self {
        Self {
            keys,
            audience: sentry.to_string(),
        }
    }

    pub async fn check(&self, request: &SignCertificateRequest) -> Result<Granted, Refused> {
        if request.token.is_empty() {
            return Err(Refused::Identity("a token is needed".into()));
        }
        common(request)?;
        let granted = grant(&trust_domain(request)?, request, Vec::new())?;
        let check = Check {
            audience: Some(self.audience.clone()),
            subject: Some(granted.id.to_string()),
            issuer: None,
            skew: SKEW,
        };
        self.keys
            .verify(&request.token, &check, Timestamp::now())
            .await
            .map_err(Refused::Token)?;
        Ok(granted)
    }
}
