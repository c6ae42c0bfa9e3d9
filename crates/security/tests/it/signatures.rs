//! Signatures that are kept beside chains of certificates.

use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use security::{CertificateChain, ChainError, KeyKind};

use crate::{authority::Authority, workload};

const URI: &str = "spiffe://public/ns/default/shop";

#[tokio::test]
async fn signatures_hold_for_the_message_the_key_and_the_time() {
    for kind in [KeyKind::Ed25519, KeyKind::Rsa2048] {
        let authority = Arc::new(Mutex::new(Arc::new(Authority::new())));
        let workload = workload(&authority, URI, kind).await;
        let svid = workload.security.svid().borrow().clone().unwrap();
        let der = svid.chain_der();
        let signature = svid.sign(b"an order").unwrap();
        let chain = CertificateChain::parse(&der).unwrap();
        assert_eq!(chain.id().to_string(), URI);
        assert_eq!(chain.verify(b"an order", &signature), Ok(()));
        let other = chain.verify(b"another", &signature);
        assert_eq!(other, Err(ChainError::Signature));
        let anchors = workload.security.anchors().borrow().clone();
        let now = Timestamp::now();
        assert_eq!(chain.trusted(&anchors, now), Ok(()));
        let late = chain.not_after() + SignedDuration::from_secs(1);
        assert!(chain.trusted(&anchors, late).is_err());
        let strange = security::TrustBundle::from_pem(Authority::new().root_pem().as_bytes());
        assert!(chain.trusted(&strange.unwrap(), now).is_err());
        let alone = svid.certificates()[0].to_vec();
        assert!(
            CertificateChain::parse(&alone)
                .unwrap()
                .trusted(&anchors, now)
                .is_err()
        );
    }
}

#[test]
fn bytes_that_are_no_chain_are_refused() {
    for bytes in [&b""[..], b"\x30", b"no certificate at all"] {
        assert!(matches!(
            CertificateChain::parse(bytes),
            Err(ChainError::Unreadable(_))
        ));
    }
}
