//! JWTs for workloads: the signing key, its public key set, and the tokens (contract 6.6).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey, Header};
use rcgen::{KeyPair, RsaKeySize};
use security::SpiffeId;
use serde::Serialize;
use serde_json::{Map, Value, json};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::RSAPublicKey;

use crate::settings;

/// What can be wrong with the signing key and its key set.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the jwt signing key cannot be used: {reason}")]
    Key { reason: String },
    #[error("the jwt signing key does not fit the algorithm {algorithm:?}")]
    Algorithm { algorithm: Algorithm },
    #[error("the jwks is no json web key set: {reason}")]
    KeySet { reason: String },
    #[error("the jwks lacks the public half of the signing key")]
    NoMatch,
    #[error("the jwks lacks the public half of the signing key under the key id {id:?}")]
    NoMatchForId { id: String },
    #[error("a jwt cannot be signed: {reason}")]
    Sign { reason: String },
}

/// The signing key and the public keys, as they are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Material {
    /// PEM.
    pub key: Vec<u8>,
    /// JSON.
    pub jwks: Vec<u8>,
}

/// Signs tokens.
pub struct Issuer {
    key: EncodingKey,
    header: Header,
    issuer: Option<String>,
    ttl: Duration,
    skew: Duration,
    jwks: Vec<u8>,
}

#[derive(Serialize)]
struct Claims<'a> {
    jti: String,
    sub: String,
    iat: i64,
    nbf: i64,
    exp: i64,
    aud: &'a [&'a str],
    #[serde(rename = "use")]
    usage: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
}

/// A new key for the algorithm and the key id of the settings, with its key set. Q-sentry-jwt-key-kind
pub fn generate(settings: &settings::Jwt) -> Result<Material, Error> {
    let algorithm = settings.algorithm;
    let key = match (algorithm.family(), algorithm) {
        (AlgorithmFamily::Rsa, _) => {
            KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048)
        }
        (AlgorithmFamily::Ec, Algorithm::ES256) => {
            KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
        }
        (AlgorithmFamily::Ec, _) => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
        _ => KeyPair::generate_for(&rcgen::PKCS_ED25519),
    };
    let key = key.map_err(unusable)?;
    Ok(Material {
        jwks: key_set(&key, Some(algorithm), settings.key_id.as_deref())?,
        key: key.serialize_pem().into_bytes(),
    })
}

/// The key set of a key that was stored without one.
pub fn publish(key: &[u8]) -> Result<Vec<u8>, Error> {
    key_set(&parse(key)?, None, None)
}

impl Issuer {
    /// Checks the key against the algorithm and the key set.
    pub fn open(
        material: &Material,
        settings: &settings::Jwt,
        skew: Duration,
    ) -> Result<Self, Error> {
        let pair = parse(&material.key)?;
        let public = public_jwk(&pair)?;
        if !fits(&public, settings.algorithm) {
            return Err(Error::Algorithm {
                algorithm: settings.algorithm,
            });
        }
        let jwks = checked_set(&material.jwks, &public, settings.key_id.as_deref())?;
        let mut header = Header::new(settings.algorithm);
        header.kid = Some(
            settings
                .key_id
                .clone()
                .unwrap_or_else(|| thumbprint(&public)),
        );
        let key = match settings.algorithm.family() {
            AlgorithmFamily::Rsa => EncodingKey::from_rsa_pem(&material.key),
            AlgorithmFamily::Ec => EncodingKey::from_ec_pem(&material.key),
            _ => EncodingKey::from_ed_pem(&material.key),
        };
        Ok(Self {
            key: key.map_err(|error| Error::Key {
                reason: error.to_string(),
            })?,
            header,
            issuer: settings.issuer.clone(),
            ttl: settings.ttl,
            skew,
            jwks,
        })
    }

    /// The public keys, JSON.
    pub fn jwks(&self) -> &[u8] {
        &self.jwks
    }

    /// The algorithm of the tokens.
    pub fn algorithm(&self) -> Algorithm {
        self.header.alg
    }

    /// A token for one identity.
    pub fn sign(&self, id: &SpiffeId, audiences: &[&str], now: Timestamp) -> Result<String, Error> {
        let sign = |reason: String| Error::Sign { reason };
        let mut nonce = [0; 16];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| sign("no randomness".into()))?;
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        let now = now.as_second();
        let claims = Claims {
            jti: hex::encode(nonce),
            sub: id.to_string(),
            iat: now,
            nbf: now.saturating_sub(seconds(self.skew)),
            exp: now.saturating_add(seconds(self.ttl)),
            aud: audiences,
            usage: "sig",
            iss: self.issuer.as_deref(),
        };
        jsonwebtoken::encode(&self.header, &claims, &self.key)
            .map_err(|error| sign(error.to_string()))
    }
}

fn unusable(error: rcgen::Error) -> Error {
    Error::Key {
        reason: error.to_string(),
    }
}

fn parse(pem: &[u8]) -> Result<KeyPair, Error> {
    let text = std::str::from_utf8(pem).map_err(|_| Error::Key {
        reason: "it is no text".into(),
    })?;
    KeyPair::from_pem(text).map_err(unusable)
}

fn key_set(
    key: &KeyPair,
    algorithm: Option<Algorithm>,
    id: Option<&str>,
) -> Result<Vec<u8>, Error> {
    let public = public_jwk(key)?;
    let mut listed = public.clone();
    let id = id.map_or_else(|| thumbprint(&public), str::to_owned);
    listed.insert("kid".into(), id.into());
    listed.insert("use".into(), "sig".into());
    if let Some(algorithm) = algorithm {
        listed.insert("alg".into(), json!(algorithm));
    }
    Ok(json!({ "keys": [listed] }).to_string().into_bytes())
}

/// The members of the public key that its thumbprint is made of (RFC 7638).
fn public_jwk(key: &KeyPair) -> Result<Map<String, Value>, Error> {
    let raw = key.public_key_raw();
    let encode = |bytes: &[u8]| Value::from(URL_SAFE_NO_PAD.encode(bytes));
    let members = if key.is_compatible(&rcgen::PKCS_RSA_SHA256) {
        let (_, rsa) = RSAPublicKey::from_der(raw).map_err(|error| Error::Key {
            reason: error.to_string(),
        })?;
        let strip =
            |bytes: &[u8]| encode(&bytes[bytes.iter().position(|byte| *byte != 0).unwrap_or(0)..]);
        vec![
            ("kty", "RSA".into()),
            ("n", strip(rsa.modulus)),
            ("e", strip(rsa.exponent)),
        ]
    } else if key.is_compatible(&rcgen::PKCS_ED25519) {
        vec![
            ("kty", "OKP".into()),
            ("crv", "Ed25519".into()),
            ("x", encode(raw)),
        ]
    } else {
        let curve = match raw.len() {
            65 => "P-256",
            97 => "P-384",
            133 => "P-521",
            _ => {
                return Err(Error::Key {
                    reason: "the curve is not supported".into(),
                });
            }
        };
        let (x, y) = raw[1..].split_at(raw.len() / 2);
        vec![
            ("kty", "EC".into()),
            ("crv", curve.into()),
            ("x", encode(x)),
            ("y", encode(y)),
        ]
    };
    Ok(members
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect())
}

/// Base64 of the SHA-256 thumbprint: padded and not URL-safe, as existing key sets have it.
fn thumbprint(public: &Map<String, Value>) -> String {
    // Maps of serde_json are sorted here unless some dependency asks otherwise, and RFC 7638 wants them sorted.
    let sorted: std::collections::BTreeMap<_, _> = public.iter().collect();
    let canonical = serde_json::to_vec(&sorted).expect("plain text members");
    STANDARD.encode(aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA256,
        &canonical,
    ))
}

fn fits(public: &Map<String, Value>, algorithm: Algorithm) -> bool {
    let (kind, curve) = (
        public["kty"].as_str(),
        public.get("crv").and_then(Value::as_str),
    );
    match algorithm.family() {
        AlgorithmFamily::Rsa => kind == Some("RSA"),
        AlgorithmFamily::Ed => kind == Some("OKP"),
        AlgorithmFamily::Ec => matches!(
            (algorithm, curve),
            (Algorithm::ES256, Some("P-256")) | (Algorithm::ES384, Some("P-384"))
        ),
        _ => false,
    }
}

/// Checks that the set holds the key, and takes out anything private that was put into it by mistake.
fn checked_set(
    jwks: &[u8],
    public: &Map<String, Value>,
    id: Option<&str>,
) -> Result<Vec<u8>, Error> {
    let mut set: Value = serde_json::from_slice(jwks).map_err(|error| Error::KeySet {
        reason: error.to_string(),
    })?;
    let keys = set.get_mut("keys").and_then(Value::as_array_mut);
    let keys = keys.ok_or_else(|| Error::KeySet {
        reason: "it has no list \"keys\"".into(),
    })?;
    let same = |key: &Value| {
        let usable = key.get("use").is_none_or(|usage| usage == "sig");
        usable
            && public
                .iter()
                .all(|(name, value)| key.get(name) == Some(value))
    };
    let found = keys
        .iter()
        .any(|key| same(key) && id.is_none_or(|id| key["kid"] == id));
    match (found, id) {
        (true, _) => {}
        (false, Some(id)) => return Err(Error::NoMatchForId { id: id.to_owned() }),
        (false, None) => return Err(Error::NoMatch),
    }
    for key in keys.iter_mut().filter_map(Value::as_object_mut) {
        for private in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
            key.remove(private);
        }
    }
    Ok(set.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokens::{Check, KeySet};

    fn settings(algorithm: Algorithm, key_id: Option<&str>) -> settings::Jwt {
        settings::Jwt {
            issuer: Some("https://issuer".into()),
            algorithm,
            key_id: key_id.map(str::to_owned),
            ttl: Duration::from_secs(3600),
        }
    }

    #[test]
    fn tokens_verify_with_the_published_keys() {
        let material = generate(&settings(Algorithm::RS256, None)).unwrap();
        let issuer = Issuer::open(
            &material,
            &settings(Algorithm::RS256, None),
            Duration::from_secs(900),
        )
        .unwrap();
        let id = SpiffeId::new("public", "default", "app").unwrap();
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let token = issuer.sign(&id, &["public", "other"], now).unwrap();
        let check = Check {
            audience: Some("other".into()),
            subject: Some(id.to_string()),
            issuer: Some("https://issuer".into()),
            skew: Duration::ZERO,
        };
        let claims = KeySet::from_json(issuer.jwks())
            .unwrap()
            .verify(&token, &check, now)
            .unwrap();
        assert_eq!(claims.get("nbf"), Some(&json!(1_699_999_100)));
        assert_eq!(claims.get("exp"), Some(&json!(1_700_003_600)));
        assert_eq!(claims.text("use"), Some("sig"));
        assert_eq!(claims.text("jti").unwrap().len(), 32);
        let listed: Value = serde_json::from_slice(&material.jwks).unwrap();
        assert_eq!(
            (&listed["keys"][0]["alg"], &listed["keys"][0]["use"]),
            (&json!("RS256"), &json!("sig"))
        );
    }

    #[test]
    fn key_sets_must_hold_the_key() {
        let rsa = settings(Algorithm::RS256, None);
        let (one, two) = (generate(&rsa).unwrap(), generate(&rsa).unwrap());
        let open = |material: &Material, algorithm, id| {
            Issuer::open(material, &settings(algorithm, id), Duration::ZERO).map(drop)
        };
        let mixed = Material {
            jwks: two.jwks,
            ..one.clone()
        };
        assert!(matches!(
            open(&mixed, Algorithm::RS256, None),
            Err(Error::NoMatch)
        ));
        assert!(matches!(
            open(&one, Algorithm::RS256, Some("mine")),
            Err(Error::NoMatchForId { .. })
        ));
        assert!(matches!(
            open(&one, Algorithm::ES256, None),
            Err(Error::Algorithm { .. })
        ));
        let renamed = String::from_utf8(one.jwks.clone())
            .unwrap()
            .replace("\"kid\":\"", "\"kid\":\"x");
        let renamed = Material {
            jwks: renamed.into(),
            ..one.clone()
        };
        assert!(
            open(&renamed, Algorithm::PS256, None).is_ok(),
            "the content counts"
        );
        assert!(matches!(
            open(
                &Material {
                    jwks: b"{}".to_vec(),
                    ..one
                },
                Algorithm::RS256,
                None
            ),
            Err(Error::KeySet { .. })
        ));
    }

    #[test]
    fn other_kinds_of_keys_work() {
        for (algorithm, key_id) in [
            (Algorithm::ES256, None),
            (Algorithm::ES384, Some("mine")),
            (Algorithm::EdDSA, None),
            (Algorithm::PS384, Some("mine")),
        ] {
            let settings = settings(algorithm, key_id);
            let made = generate(&settings).unwrap();
            let derived = Material {
                jwks: publish(&made.key).unwrap(),
                key: made.key.clone(),
            };
            let named = key_id.is_some();
            assert_eq!(
                Issuer::open(&derived, &settings, Duration::ZERO).is_err(),
                named,
                "a derived set knows no name"
            );
            let issuer = Issuer::open(&made, &settings, Duration::ZERO).unwrap();
            let id = SpiffeId::new("public", "default", "app").unwrap();
            let token = issuer
                .sign(&id, &["public"], Timestamp::UNIX_EPOCH)
                .unwrap();
            let set = KeySet::from_json(issuer.jwks()).unwrap();
            assert!(
                set.verify(&token, &Check::default(), Timestamp::UNIX_EPOCH)
                    .is_ok()
            );
        }
    }
}
