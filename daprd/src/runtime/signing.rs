//! What workflows sign their histories with: the identity that sidecars show each other, whichever it is at the moment.

use std::sync::Arc;

use ::workflow::signing::{Error, Holder, Key, Signer};
use anyhow::{Result, bail};
use bytes::Bytes;
use crds::configuration::Spec;
use jiff::Timestamp;
use security::{CertificateChain, ChainError, Security, Svid};

/// What signs, where the feature is on.
///
/// # Errors
/// Without mTLS there is nothing to sign with.
pub(super) fn signer(spec: &Spec, security: &Security) -> Result<Option<Arc<dyn Signer>>> {
    if !spec.feature_enabled(FEATURE) {
        return Ok(None);
    }
    if !security.enabled() {
        bail!(
            "{FEATURE} feature flag is enabled but mTLS is not configured: histories are signed with the identity that sentry gives"
        );
    }
    Ok(Some(Arc::new(Identity(security.clone()))))
}

struct Identity(Security);

impl Signer for Identity {
    fn key(&self) -> Result<Box<dyn Key>, Error> {
        let svid = self.0.svid().borrow().clone();
        let svid =
            svid.ok_or_else(|| Error::Key("there is no certificate to sign with".to_owned()))?;
        let chain = svid.chain_der().into();
        Ok(Box::new(Current { svid, chain }))
    }

    fn holder(&self, chain: &[u8]) -> Result<Holder, Error> {
        let chain = CertificateChain::parse(chain).map_err(told)?;
        Ok(Holder {
            namespace: chain.id().namespace().to_owned(),
            app_id: chain.id().app_id().to_owned(),
            not_before: chain.not_before(),
            not_after: chain.not_after(),
        })
    }

    fn verify(&self, chain: &[u8], message: &[u8], signature: &[u8]) -> Result<(), Error> {
        let chain = CertificateChain::parse(chain).map_err(told)?;
        chain.verify(message, signature).map_err(told)
    }

    fn trust(&self, chain: &[u8], at: Timestamp) -> Result<(), Error> {
        let chain = CertificateChain::parse(chain).map_err(told)?;
        let anchors = self.0.anchors().borrow().clone();
        chain.trusted(&anchors, at).map_err(told)
    }
}

struct Current {
    svid: Arc<Svid>,
    chain: Bytes,
}

impl Key for Current {
    fn chain(&self) -> &Bytes {
        &self.chain
    }

    fn sign(&self, message: &[u8]) -> Result<Bytes, Error> {
        self.svid.sign(message).map(Bytes::from).map_err(told)
    }
}

fn told(error: ChainError) -> Error {
    match error {
        ChainError::Key(_) => Error::Key(error.to_string()),
        _ => Error::Invalid(error.to_string()),
    }
}

/// The feature under which histories are signed.
const FEATURE: &str = "WorkflowHistorySigning";
