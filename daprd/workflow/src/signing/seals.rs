//! The rows that vouch for a history: its signatures, the certificates of those who signed it, and those of others whose attestations
//! it has. The lists only grow until the history begins anew.

use std::{collections::HashMap, ops::Range};

use bytes::Bytes;
use jiff::Timestamp;
use prost::Message;
use proto::durabletask::{
    ExternalSigningCertificate, HistoryEvent,
    backend::v1::{BackendWorkflowStateMetadata as Lengths, SigningCertificate},
};

use super::{
    Error, Key, Signer,
    chain::{Chain, Link},
    digest::{self, Digest},
    invalid,
};
use crate::time::{from_wire, to_wire};

/// Those of an instance.
#[derive(Debug, Default)]
pub struct Seals {
    /// As they are stored.
    signatures: List,
    /// Chains of certificates.
    certificates: List,
    /// Chains of certificates of others.
    foreign: List,
    /// A row that is not there, or that cannot be read.
    missing: Option<String>,
    /// Certificates of others that have led to an anchor, and when they are valid.
    trusted: HashMap<Digest, (Timestamp, Timestamp)>,
}

/// Rows of one kind.
#[derive(Debug, Default)]
struct List {
    rows: Vec<Bytes>,
    /// So many are in the store.
    stored: usize,
    /// So many at the beginning are in the store as they are here.
    kept: usize,
}

/// The three kinds, in the order of [`Seals::rows`].
pub const KINDS: [&str; 3] = [SIGNATURE, CERTIFICATE, FOREIGN_CERTIFICATE];

/// What becomes of the rows of a kind when an instance is stored.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    pub kind: &'static str,
    pub write: Vec<(usize, Bytes)>,
    pub delete: Range<usize>,
}

impl Seals {
    /// As they are read: `row` gives the bytes of a row, if there is one. A row that is not there is told when they are verified.
    pub fn read(lengths: [usize; 3], mut row: impl FnMut(&str, usize) -> Option<Bytes>) -> Self {
        let mut seals = Self::default();
        for (kind, length) in KINDS.into_iter().zip(lengths) {
            let mut rows = Vec::new();
            for at in 0..length {
                let found = row(kind, at);
                let Some(read) = found.as_ref().and_then(|row| decode(kind, row)) else {
                    let what = if found.is_some() {
                        "is unreadable"
                    } else {
                        "is not there"
                    };
                    let missing = format!("the row {kind}-{at:06} {what} (state store tampering)");
                    seals.missing.get_or_insert(missing);
                    continue;
                };
                rows.push(read);
            }
            *seals.list(kind) = List {
                rows,
                stored: length,
                kept: length,
            };
        }
        seals
    }

    fn list(&mut self, kind: &str) -> &mut List {
        match kind {
            SIGNATURE => &mut self.signatures,
            CERTIFICATE => &mut self.certificates,
            _ => &mut self.foreign,
        }
    }

    fn lists(&self) -> [(&'static str, &List); 3] {
        [
            (SIGNATURE, &self.signatures),
            (CERTIFICATE, &self.certificates),
            (FOREIGN_CERTIFICATE, &self.foreign),
        ]
    }

    /// A row that is not there, or cannot be read.
    pub fn missing(&self) -> Option<&str> {
        self.missing.as_deref()
    }

    /// Whether the row of lengths says that the history is signed.
    pub fn declares_signatures(&self) -> bool {
        self.signatures.stored > 0
    }

    /// Says in the row of lengths how long the lists are.
    pub fn declare(&self, lengths: &mut Lengths) {
        // Where rows are missing, those that were declared are deleted one day as well.
        let of = |list: &List| match self.missing {
            Some(_) => list.stored,
            None => list.rows.len(),
        };
        let length = |list: &List| u64::try_from(of(list)).unwrap_or(u64::MAX);
        lengths.signature_length = length(&self.signatures);
        lengths.signing_certificate_length = length(&self.certificates);
        lengths.external_signing_certificate_length = length(&self.foreign);
    }

    /// What is to be stored and deleted.
    pub fn changes(&self) -> Vec<Change> {
        if self.missing.is_some() {
            return Vec::new();
        }
        let changes = self.lists().into_iter().map(|(kind, list)| {
            let fresh = list.rows.iter().enumerate().skip(list.kept);
            Change {
                kind,
                write: fresh.map(|(at, row)| (at, encode(kind, row))).collect(),
                delete: list.rows.len()..list.stored.max(list.rows.len()),
            }
        });
        changes.collect()
    }

    /// They are stored as they are here.
    pub fn saved(&mut self) {
        if self.missing.is_some() {
            return;
        }
        for kind in KINDS {
            let list = self.list(kind);
            (list.stored, list.kept) = (list.rows.len(), list.rows.len());
        }
    }

    /// How many of each kind are in the store.
    pub fn stored(&self) -> impl Iterator<Item = (&'static str, usize)> {
        self.lists()
            .into_iter()
            .map(|(kind, list)| (kind, list.stored))
    }

    /// The history begins anew, and so do these.
    pub fn reset(&mut self) {
        self.missing = None;
        self.trusted.clear();
        for kind in KINDS {
            let list = self.list(kind);
            list.rows.clear();
            list.kept = 0;
        }
    }

    /// Checks all signatures over the rows of the history, and that this app has made them.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn verify(
        &self,
        signer: &dyn Signer,
        raw: &[Bytes],
        app_id: &str,
        namespace: &str,
    ) -> Result<(), Error> {
        let chain = Chain {
            signatures: &self.signatures.rows,
            certificates: &self.certificates.rows,
            events: raw,
            context: None,
        };
        chain.verify(signer)?;
        for (at, certificate) in self.certificates.rows.iter().enumerate() {
            check_holder(signer, certificate, app_id, namespace)
                .map_err(|error| error.within(format!("certificate {at}")))?;
        }
        Ok(())
    }

    /// Signs events that stand behind the signed ones: their bytes.
    ///
    /// # Errors
    /// [`Error::Key`]; [`Error::Invalid`] where events before them are not signed.
    pub fn sign(
        &mut self,
        signer: &dyn Signer,
        events: &mut [HistoryEvent],
        start: usize,
        now: Timestamp,
    ) -> Result<Vec<Bytes>, Error> {
        let Some(last) = events.last_mut() else {
            return Ok(Vec::new());
        };
        if self.signatures.rows.is_empty() && start > 0 {
            return invalid(format!(
                "{start} events before those to sign are not signed"
            ));
        }
        let key = signer.key()?;
        fit(signer, &*key, last, now)?;
        let raw = digest::encoded(events);
        let known = self.certificates.rows.iter();
        let known = known.clone().position(|chain| chain == key.chain());
        let certificate = known.unwrap_or(self.certificates.rows.len());
        let link = Link {
            events: &raw,
            start,
            previous: self.signatures.rows.last(),
            certificate,
            context: None,
        };
        let signature = link.sign(&*key)?;
        if known.is_none() {
            self.certificates.rows.push(key.chain().clone());
        }
        self.signatures.rows.push(signature);
        Ok(raw)
    }

    /// Takes over certificates of others that have been checked.
    pub fn absorb(&mut self, chains: Vec<Bytes>, signer: &dyn Signer) {
        for chain in chains {
            let digest = digest::of(&chain);
            if let Ok(holder) = signer.holder(&chain) {
                self.trusted
                    .insert(digest, (holder.not_before, holder.not_after));
            }
            if !self.foreign.rows.contains(&chain) {
                self.foreign.rows.push(chain);
            }
        }
    }

    /// Whether a certificate of somebody else has been found to lead to an anchor, and is valid at a time.
    pub fn is_trusted(&self, digest: &Digest, at: Timestamp) -> bool {
        let known = self.trusted.get(digest);
        known.is_some_and(|(from, to)| *from <= at && at <= *to)
    }

    /// The chain of somebody else with this digest.
    pub fn foreign(&self, digest: &[u8]) -> Option<&Bytes> {
        let mut rows = self.foreign.rows.iter();
        rows.find(|chain| digest::of(chain) == digest)
    }
}

/// Checks that a certificate is one of an app.
///
/// # Errors
/// [`Error::Invalid`].
pub fn check_holder(
    signer: &dyn Signer,
    chain: &[u8],
    app_id: &str,
    namespace: &str,
) -> Result<(), Error> {
    let holder = signer.holder(chain)?;
    if (holder.app_id.as_str(), holder.namespace.as_str()) == (app_id, namespace) {
        return Ok(());
    }
    invalid(format!(
        "it is of app '{}' in namespace '{}', expected app '{app_id}' in namespace '{namespace}'",
        holder.app_id, holder.namespace
    ))
}

/// A signature holds if its certificate was valid at the time of the last event that it covers. An event that lay about for so long
/// that the certificate is younger, or that comes from a clock ahead of time, counts as having come now. Q-workflow-signed-time
pub fn fit(
    signer: &dyn Signer,
    key: &dyn Key,
    last: &mut HistoryEvent,
    now: Timestamp,
) -> Result<(), Error> {
    let holder = signer.holder(key.chain())?;
    let time = last.timestamp.map(from_wire);
    if time.is_some_and(|time| holder.holds_at(time)) {
        return Ok(());
    }
    if !holder.holds_at(now) {
        return Err(Error::Key(format!(
            "the certificate to sign with is valid from {} to {}, and not now",
            holder.not_before, holder.not_after
        )));
    }
    last.timestamp = Some(to_wire(now));
    Ok(())
}

fn decode(kind: &str, row: &Bytes) -> Option<Bytes> {
    match kind {
        SIGNATURE => Some(row.clone()),
        CERTIFICATE => Some(SigningCertificate::decode(row.clone()).ok()?.certificate),
        _ => {
            let foreign = ExternalSigningCertificate::decode(row.clone()).ok()?;
            let fits = foreign.digest == digest::of(&foreign.certificate).as_slice();
            fits.then_some(foreign.certificate)
        }
    }
}

fn encode(kind: &str, row: &Bytes) -> Bytes {
    let certificate = row.clone();
    match kind {
        SIGNATURE => certificate,
        CERTIFICATE => SigningCertificate { certificate }.encode_to_vec().into(),
        _ => ExternalSigningCertificate {
            digest: digest::of(row).to_vec().into(),
            certificate,
        }
        .encode_to_vec()
        .into(),
    }
}

const SIGNATURE: &str = "signature";
const CERTIFICATE: &str = "sigcert";
const FOREIGN_CERTIFICATE: &str = "ext-sigcert";
