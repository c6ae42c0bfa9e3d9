//! What callers without an identity send to get one: certificate requests and tokens; and trust bundles.

use std::str::from_utf8;

use jiff::Timestamp;
use security::{TrustBundle, pem_block};
use tokens::{Check, KeySet};

/// A request as PEM, and what is inside of one.
#[test]
fn certificate_request() {
    let read = |request: &[u8]| sentry::ca::request::public_key(request, "app", "default");
    fuzz::run("certificate_request", |input| {
        let inside = pem_block("CERTIFICATE REQUEST", input);
        for request in [input, inside.as_bytes()] {
            if let Ok(key) = read(request) {
                assert!(!key.is_empty() && key.len() < request.len());
            }
        }
    });
}

/// A bundle as PEM, and what is inside of one.
#[test]
fn trust_bundle() {
    fuzz::run("trust_bundle", |input| {
        let inside = pem_block("CERTIFICATE", input);
        for bundle in [input, inside.as_bytes()] {
            let Ok(read) = TrustBundle::from_pem(bundle) else {
                continue;
            };
            assert!(!read.is_empty());
            let both = read.union(&read);
            assert!(both == read, "a bundle adds nothing to itself");
            let again = TrustBundle::from_pem(both.pem()).expect("it was read before");
            assert!(again == read);
        }
    });
}

/// A token, and a key set: no token counts that was not signed.
#[test]
fn token() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/token");
    let seed = |name: &str| std::fs::read(format!("{corpus}/{name}")).expect("a seed");
    let keys = KeySet::from_json(&seed("keys")).expect("a key set");
    let (good, expired) = (seed("good"), seed("expired"));
    let signed = [&good, &expired].map(|token| said(from_utf8(token).expect("text")).to_owned());
    let now = Timestamp::from_second(1_800_000_000).expect("a time");
    let check = Check {
        audience: Some("spiffe://cluster.local/ns/dapr-system/dapr-sentry".to_owned()),
        ..Check::default()
    };
    let known = from_utf8(&good).expect("text").trim();
    assert!(keys.verify(known, &check, now).is_ok());
    fuzz::run("token", |input| {
        let _ = KeySet::from_json(input);
        let Ok(token) = from_utf8(input) else { return };
        for check in [&check, &Check::default()] {
            if keys.verify(token, check, now).is_ok() {
                assert!(signed.iter().any(|signed| signed == said(token)));
            }
        }
    });
}

/// What the signature of a token is for.
fn said(token: &str) -> &str {
    token.rsplit_once('.').map_or(token, |(said, _)| said)
}
