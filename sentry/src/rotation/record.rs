//! What sentry has made, and what it is about to do with it: a document beside the credentials.
//!
//! It says which credentials are sentry's own, so that nobody else's are ever replaced, and it has all of them, so that a set of
//! files that was written in part is completed.

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use super::Stage;
use crate::ca::{self, Material};
use crate::store::Credentials;

/// The document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub stage: Stage,
    /// Time that was seen to pass in this stage.
    #[serde(default)]
    pub seconds: u64,
    /// Longest life of a certificate since the last change of the root, with the difference of clocks, in seconds.
    pub longest: u64,
    /// The credentials in the store: anchors, issuer and key.
    pub root: String,
    pub chain: String,
    pub key: String,
    /// Digests of the credentials before these, which a store may still have in part.
    #[serde(default)]
    pub before: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Next>,
}

/// What takes over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Next {
    pub root: String,
    pub root_key: String,
    pub chain: String,
    pub key: String,
}

impl Record {
    /// For credentials that have just been made.
    pub fn new(material: &Material, root_key: Option<&[u8]>, longest: u64) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            stage: Stage::Idle,
            seconds: 0,
            longest,
            root: text(&material.root),
            chain: text(&material.chain),
            key: text(&material.key),
            before: Vec::new(),
            root_key: root_key.map(text),
            next: None,
        }
    }

    /// The document of credentials that are all sentry's own; none where somebody else has put one there.
    pub fn of(credentials: &Credentials) -> Option<Self> {
        let record = Self::parse(credentials.record.as_deref()?)?;
        let now = [&record.root, &record.chain, &record.key];
        let found = [&credentials.root, &credentials.chain, &credentials.key];
        let known = found.iter().zip(now).all(|(found, now)| {
            found.as_ref().is_none_or(|found| {
                found == now.as_bytes() || record.before.contains(&fingerprint(found))
            })
        });
        known.then_some(record)
    }

    /// Reads a document.
    pub fn parse(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// The credentials that it says should be in the store.
    pub fn put_into(&self, credentials: &mut Credentials) {
        credentials.root = Some(self.root.clone().into_bytes());
        credentials.chain = Some(self.chain.clone().into_bytes());
        credentials.key = Some(self.key.clone().into_bytes());
        credentials.record = Some(serde_json::to_vec(self).expect("plain text fields"));
    }

    /// The credentials in the store.
    pub fn material(&self) -> Material {
        Material {
            root: self.root.clone().into_bytes(),
            chain: self.chain.clone().into_bytes(),
            key: self.key.clone().into_bytes(),
        }
    }

    /// What signs for workloads, where that is not what signs sentry's own certificate.
    pub fn workloads(&self) -> Option<Material> {
        let next = self.next.as_ref().filter(|_| self.stage == Stage::Sign)?;
        Some(Material {
            root: self.root.clone().into_bytes(),
            chain: next.chain.clone().into_bytes(),
            key: next.key.clone().into_bytes(),
        })
    }

    /// Remembers the credentials that are about to be replaced.
    pub(super) fn replace(&mut self, change: impl FnOnce(&mut Self)) {
        self.before = [&self.root, &self.chain, &self.key]
            .map(|text| fingerprint(text.as_bytes()))
            .to_vec();
        change(self);
    }

    /// Begin and end of the issuer, and the end of its root.
    pub fn dates(&self) -> Result<[std::time::SystemTime; 3], ca::Error> {
        let issuer = ca::certificates(self.chain.as_bytes(), "the issuer chain")?;
        let root = ca::certificates(self.root.as_bytes(), "the trust anchors")?;
        let (begin, end) = ca::validity(&issuer[0])?;
        // The old root stands first, for as long as there are two.
        let (_, root_end) = ca::validity(&root[0])?;
        Ok([begin, end, root_end])
    }
}

fn fingerprint(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}
