//! Encryption of stored values at the runtime (contract 9.7): AES-GCM with a 128, 192 or 256 bit key from the component's
//! metadata; a stored value is `base64(nonce + sealed)||key name`. The secondary key only reads, for rotation.

use aws_lc_rs::{
    aead::{AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use component::{Error, Metadata, Result};

/// The names under which the two keys may stand in a stored value.
const PRIMARY: &str = "primary";
const SECONDARY: &str = "secondary";
const SEPARATOR: &str = "||";

/// The keys of an encrypted store.
pub struct Encryption {
    primary: Key,
    secondary: Option<Key>,
}

struct Key {
    name: String,
    key: LessSafeKey,
}

impl Encryption {
    /// Reads `primaryEncryptionKey` and `secondaryEncryptionKey` (hex). Nothing where neither is set.
    ///
    /// # Errors
    /// Names the field that is no key.
    pub fn from_metadata(metadata: &Metadata) -> Result<Option<Self>> {
        let primary = metadata.decode(&["primaryEncryptionKey"], |text| key(PRIMARY, text))?;
        let secondary =
            metadata.decode(&["secondaryEncryptionKey"], |text| key(SECONDARY, text))?;
        match (primary, secondary) {
            (Some(primary), secondary) => Ok(Some(Self { primary, secondary })),
            (None, None) => Ok(None),
            (None, Some(_)) => Err(Error::invalid_metadata(
                "primaryEncryptionKey",
                "is required where secondaryEncryptionKey is set",
            )),
        }
    }

    /// Seals a value with the primary key.
    ///
    /// # Errors
    /// Where the random source fails.
    pub fn seal(&self, value: &[u8]) -> Result<Bytes> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| failure("no random bytes to encrypt with"))?;
        let mut sealed = value.to_vec();
        self.primary
            .key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::empty(),
                &mut sealed,
            )
            .map_err(|_| failure("the value cannot be encrypted"))?;
        let mut bytes = nonce.to_vec();
        bytes.append(&mut sealed);
        Ok(format!("{}{SEPARATOR}{}", STANDARD.encode(bytes), self.primary.name).into())
    }

    /// Opens a sealed value with the key whose name it carries.
    ///
    /// # Errors
    /// Where it is no sealed value, or the key is not the one it was sealed with.
    pub fn open(&self, stored: &[u8]) -> Result<Bytes> {
        let text = std::str::from_utf8(stored)
            .map_err(|_| failure("the stored value is not an encrypted one"))?;
        let (encoded, name) = text
            .rsplit_once(SEPARATOR)
            .ok_or_else(|| failure("the stored value does not name its encryption key"))?;
        let key = [Some(&self.primary), self.secondary.as_ref()]
            .into_iter()
            .flatten()
            .find(|key| key.name == name)
            .ok_or_else(|| failure(&format!("no encryption key is called {name:?}")))?;
        let mut bytes = STANDARD
            .decode(encoded)
            .map_err(|_| failure("the stored value is not base64"))?;
        if bytes.len() < NONCE_LEN {
            return Err(failure("the stored value is too short"));
        }
        let mut sealed = bytes.split_off(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(&bytes)
            .map_err(|_| failure("the stored value has no nonce"))?;
        let opened = key
            .key
            .open_in_place(nonce, Aad::empty(), &mut sealed)
            .map_err(|_| failure("the stored value cannot be decrypted with its key"))?;
        Ok(Bytes::copy_from_slice(opened))
    }
}

fn key(name: &str, text: &str) -> std::result::Result<Key, String> {
    let bytes = hex::decode(text).map_err(|error| error.to_string())?;
    let algorithm = match bytes.len() {
        16 => &AES_128_GCM,
        24 => &AES_192_GCM,
        32 => &AES_256_GCM,
        other => return Err(format!("a key has 16, 24 or 32 bytes, not {other}")),
    };
    let key = UnboundKey::new(algorithm, &bytes).map_err(|_| "is no AES key".to_owned())?;
    Ok(Key {
        name: name.to_owned(),
        key: LessSafeKey::new(key),
    })
}

fn failure(message: &str) -> Error {
    Error::new(component::ErrorKind::Internal, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(primary: &str, secondary: Option<&str>) -> Encryption {
        let mut fields = vec![("primaryEncryptionKey", primary)];
        fields.extend(secondary.map(|key| ("secondaryEncryptionKey", key)));
        Encryption::from_metadata(&Metadata::from_iter(fields))
            .unwrap()
            .unwrap()
    }

    #[test]
    fn what_is_sealed_opens_again() {
        let encryption = keys(&"0a".repeat(32), None);
        let sealed = encryption.seal(b"value").unwrap();
        assert_ne!(&sealed[..], b"value");
        assert!(sealed.ends_with(b"||primary"));
        assert_eq!(encryption.open(&sealed).unwrap(), "value");
    }

    #[test]
    fn another_key_does_not_open_it() {
        let sealed = keys(&"0a".repeat(16), None).seal(b"value").unwrap();
        assert!(keys(&"0b".repeat(16), None).open(&sealed).is_err());
        assert!(keys(&"0a".repeat(16), None).open(b"plain").is_err());
    }

    #[test]
    fn a_wrong_key_names_its_field() {
        let metadata = Metadata::from_iter([("primaryEncryptionKey", "0a0b")]);
        let error = Encryption::from_metadata(&metadata).err().unwrap();
        assert!(
            error.to_string().contains("primaryEncryptionKey"),
            "{error}"
        );
    }
}
