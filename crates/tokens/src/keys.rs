//! A set of public keys, and checking a token's signature with it.

use jiff::Timestamp;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};

use crate::{Check, Claims, Error};

/// Largest key set in bytes.
pub(crate) const MAX_KEY_SET: usize = 1 << 20;
/// Most keys of a set that are kept.
const MAX_KEYS: usize = 256;
/// Largest token in bytes.
const MAX_TOKEN: usize = 64 << 10;

/// Public keys for signatures.
#[derive(Clone, Default)]
pub struct KeySet(Vec<Key>);

#[derive(Clone)]
struct Key {
    id: Option<String>,
    algorithm: Option<Algorithm>,
    public: DecodingKey,
}

impl KeySet {
    /// Reads a JSON key set, or a single JSON key. Keys of unknown kind or use are skipped.
    ///
    /// # Errors
    /// [`Error::KeySet`] for anything else, and above 1 MiB.
    pub fn from_json(json: &[u8]) -> Result<Self, Error> {
        let invalid = |reason: String| Error::KeySet { reason };
        if json.len() > MAX_KEY_SET {
            return Err(invalid("it is larger than 1 MiB".into()));
        }
        let parsed: Value =
            serde_json::from_slice(json).map_err(|error| invalid(error.to_string()))?;
        let keys = match parsed {
            Value::Object(mut set) => match set.remove("keys") {
                Some(Value::Array(keys)) => keys,
                Some(_) => return Err(invalid("\"keys\" is no list".into())),
                None if set.contains_key("kty") => vec![Value::Object(set)],
                None => return Err(invalid("it has no \"keys\"".into())),
            },
            _ => return Err(invalid("it is no object".into())),
        };
        Ok(Self(
            keys.into_iter()
                .filter_map(Key::usable)
                .take(MAX_KEYS)
                .collect(),
        ))
    }

    /// How many usable keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no usable key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks signature, times and names of `token` at `now`.
    ///
    /// # Errors
    /// [`Error::UnknownKey`] when newer keys might help; the other token errors are final.
    pub fn verify(&self, token: &str, check: &Check, now: Timestamp) -> Result<Claims, Error> {
        let malformed = |reason: String| Error::Malformed { reason };
        if token.len() > MAX_TOKEN {
            return Err(malformed("it is larger than 64 KiB".into()));
        }
        let header = decode_header(token).map_err(|error| malformed(error.to_string()))?;
        if header.alg.family() == AlgorithmFamily::Hmac {
            return Err(malformed("symmetric signatures are not accepted".into()));
        }
        let mut outcome = Error::UnknownKey;
        for key in self
            .0
            .iter()
            .filter(|key| key.fits(header.alg, header.kid.as_deref()))
        {
            match decode::<Map<String, Value>>(token, &key.public, &signature_only(header.alg)) {
                Ok(token) => {
                    let claims = Claims::new(token.claims);
                    return check.claims(&claims, now).map(|()| claims);
                }
                Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => {
                    outcome = Error::Signature
                }
                Err(error) => outcome = malformed(error.to_string()),
            }
        }
        Err(outcome)
    }
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeySet({} keys)", self.0.len())
    }
}

impl Key {
    fn usable(key: Value) -> Option<Self> {
        let key: Jwk = serde_json::from_value(key).ok()?;
        let other_use = |usage: &PublicKeyUse| !matches!(usage, PublicKeyUse::Signature);
        if key.common.public_key_use.as_ref().is_some_and(other_use) {
            return None;
        }
        let algorithm = match &key.common.key_algorithm {
            Some(algorithm) => Some(algorithm.to_string().parse().ok()?),
            None => None,
        };
        let public = DecodingKey::from_jwk(&key).ok()?;
        if public.family() == AlgorithmFamily::Hmac {
            return None;
        }
        Some(Self {
            id: key.common.key_id,
            algorithm,
            public,
        })
    }

    /// A token without a key id may be signed by any key of the right kind.
    fn fits(&self, algorithm: Algorithm, id: Option<&str>) -> bool {
        self.public.family() == algorithm.family()
            && self.algorithm.is_none_or(|own| own == algorithm)
            && (id.is_none() || id == self.id.as_deref())
    }
}

/// The library checks the signature; claims are checked by [`Check`], which takes the time as an argument.
fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    struct Signer {
        key: EncodingKey,
        algorithm: Algorithm,
        jwk: Value,
    }

    fn signer(id: &str) -> Signer {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let key = EncodingKey::from_ed_der(&pair.serialize_der());
        let x = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(pair.public_key_raw());
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": id, "x": x});
        Signer {
            key,
            algorithm: Algorithm::EdDSA,
            jwk,
        }
    }

    fn token(signer: &Signer, id: Option<&str>, claims: &Value) -> String {
        let mut header = Header::new(signer.algorithm);
        header.kid = id.map(str::to_owned);
        encode(&header, claims, &signer.key).unwrap()
    }

    #[test]
    fn signatures_are_checked_with_the_named_key() {
        let (one, two) = (signer("one"), signer("two"));
        let set = json!({"keys": [one.jwk, {"kty": "strange"}, {"kty": "oct", "k": "c2VjcmV0"}]});
        let set = KeySet::from_json(set.to_string().as_bytes()).unwrap();
        assert_eq!(set.len(), 1);
        let check = Check {
            subject: Some("me".into()),
            ..Check::default()
        };
        let verify = |token: &str| set.verify(token, &check, Timestamp::UNIX_EPOCH);
        let claims = json!({"sub": "me", "exp": 10});
        assert_eq!(
            verify(&token(&one, Some("one"), &claims))
                .unwrap()
                .text("sub"),
            Some("me")
        );
        assert!(verify(&token(&one, None, &claims)).is_ok());
        assert!(matches!(
            verify(&token(&one, Some("two"), &claims)),
            Err(Error::UnknownKey)
        ));
        assert!(matches!(
            verify(&token(&two, Some("one"), &claims)),
            Err(Error::Signature)
        ));
        assert!(matches!(
            verify(&token(&one, None, &json!({"sub": "you"}))),
            Err(Error::Claim { claim: "sub", .. })
        ));
    }

    #[test]
    fn forged_headers_are_refused() {
        let one = signer("one");
        let set = KeySet::from_json(one.jwk.to_string().as_bytes()).unwrap();
        let check = Check::default();
        let secret = EncodingKey::from_secret(one.jwk["x"].as_str().unwrap().as_bytes());
        let forged = encode(
            &Header::new(Algorithm::HS256),
            &json!({"sub": "me"}),
            &secret,
        )
        .unwrap();
        for token in [
            forged.as_str(),
            "",
            "a.b",
            "a.b.c",
            "eyJhbGciOiJub25lIn0.e30.",
            &"x".repeat(MAX_TOKEN + 1),
        ] {
            assert!(
                matches!(
                    set.verify(token, &check, Timestamp::UNIX_EPOCH),
                    Err(Error::Malformed { .. })
                ),
                "{token}"
            );
        }
    }

    #[test]
    fn key_sets_must_be_key_sets() {
        for json in ["", "[]", "{}", "{\"keys\": {}}", "null"] {
            assert!(KeySet::from_json(json.as_bytes()).is_err(), "{json}");
        }
        assert!(KeySet::from_json(b"{\"keys\": []}").unwrap().is_empty());
    }
}
