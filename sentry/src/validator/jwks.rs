//! Tokens signed by keys that the operator of the installation trusts.

use std::sync::Arc;
use std::time::Duration;

use proto::sentry::v1::SignCertificateRequest;
use security::{CONTROL_PLANE, SpiffeId};
use tokens::{Check, Jwks};
use values::Clock;

use super::{Granted, Refused, grant, trust_domain};

/// Checks that a token is meant for sentry and names the identity that is asked for.
pub struct JwksValidator {
    keys: Jwks,
    sentry: SpiffeId,
    /// Whether the cluster says who belongs to the control plane.
    in_cluster: bool,
    clock: Arc<dyn Clock>,
}

/// Clocks may differ by this much.
const SKEW: Duration = Duration::from_secs(300);

impl JwksValidator {
    pub fn new(keys: Jwks, sentry: &SpiffeId, in_cluster: bool, clock: Arc<dyn Clock>) -> Self {
        Self {
            keys,
            sentry: sentry.clone(),
            in_cluster,
            clock,
        }
    }

    pub async fn check(&self, request: &SignCertificateRequest) -> Result<Granted, Refused> {
        let granted = grant(&trust_domain(request)?, request, Vec::new())?;
        self.accept(&granted.id)?;
        let check = Check {
            audience: Some(self.sentry.to_string()),
            subject: Some(granted.id.to_string()),
            issuer: None,
            skew: SKEW,
        };
        self.keys
            .verify(&request.token, &check, self.clock.now())
            .await
            .map_err(Refused::Token)?;
        Ok(granted)
    }

    /// In a cluster the control plane proves itself by its pods. Whoever has keys for the tokens of apps outside it must not
    /// become the operator, who sees all Secrets. Q-sentry-jwks-control-plane
    fn accept(&self, id: &SpiffeId) -> Result<(), Refused> {
        let control_plane =
            id.namespace() == self.sentry.namespace() && CONTROL_PLANE.contains(&id.app_id());
        if self.in_cluster && control_plane {
            return Err(Refused::Identity(format!(
                "{id} is of the control plane, which is known by its pods only"
            )));
        }
        Ok(())
    }
}
