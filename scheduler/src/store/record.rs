//! How a value lies in the file: its revisions in front, then its bytes.

use bytes::{Buf, BufMut, Bytes};

use super::Entry;

/// What stands in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub created: u64,
    pub modified: u64,
    pub version: u64,
    pub lease: i64,
}

const HEAD: usize = 32;

impl Head {
    pub fn read(mut record: &[u8]) -> Option<Self> {
        (record.len() >= HEAD).then(|| Self {
            created: record.get_u64(),
            modified: record.get_u64(),
            version: record.get_u64(),
            lease: record.get_i64(),
        })
    }

    pub fn with(self, value: &[u8]) -> Vec<u8> {
        let mut record = Vec::with_capacity(HEAD + value.len());
        record.put_u64(self.created);
        record.put_u64(self.modified);
        record.put_u64(self.version);
        record.put_i64(self.lease);
        record.put_slice(value);
        record
    }
}

/// What lies under a key; `None` if it is no record.
pub(super) fn entry(key: &[u8], record: &[u8], keys_only: bool) -> Option<Entry> {
    let head = Head::read(record)?;
    let value = if keys_only { &[][..] } else { &record[HEAD..] };
    Some(Entry {
        key: Bytes::copy_from_slice(key),
        value: Bytes::copy_from_slice(value),
        created: head.created,
        modified: head.modified,
        version: head.version,
        lease: head.lease,
    })
}

/// Bytes that a value will count, once it is written.
pub(super) fn weight_of(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + HEAD + value.len()) as u64
}

/// Bytes that count against the quota.
pub(super) fn weight(key: &[u8], record: &[u8]) -> u64 {
    (key.len() + record.len()) as u64
}
