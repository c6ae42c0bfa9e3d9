//! The replicas there are, as their records say it.

use bytes::Bytes;
use prost::Message as _;
use proto::cron;

use crate::store;

/// The records as they were read.
#[derive(Default)]
pub(super) struct View {
    /// There is none at first.
    pub read: bool,
    pub revision: u64,
    /// In the order of their keys.
    pub members: Vec<Member>,
}

/// The record of a replica.
pub(super) struct Member {
    pub key: Bytes,
    pub modified: u64,
    pub record: cron::Leadership,
}

impl View {
    pub fn of(page: &store::Page) -> Self {
        let member = |entry: &store::Entry| Member {
            key: entry.key.clone(),
            modified: entry.modified,
            // What cannot be read is a replica that agrees to nothing.
            record: cron::Leadership::decode(&entry.value[..]).unwrap_or_default(),
        };
        Self {
            read: true,
            revision: page.revision,
            members: page.entries.iter().map(member).collect(),
        }
    }

    /// Tells views apart: which replicas there are, and since when; with one that is about to be there.
    pub fn digest(&self, joins: Option<(&Bytes, u64)>) -> u64 {
        let members = self.members.iter();
        let mut members: Vec<_> = members
            .map(|member| (&member.key, member.record.uid))
            .chain(joins)
            .collect();
        members.sort_unstable();
        // FNV-1a: all replicas, of all versions, have to come to the same.
        let mut digest = 0xcbf2_9ce4_8422_2325_u64;
        for (key, uid) in members {
            let length = (key.len() as u64).to_be_bytes();
            for byte in length.iter().chain(&key[..]).chain(&uid.to_be_bytes()) {
                digest = (digest ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        digest.max(UPSTREAM + 1)
    }
}

impl Member {
    /// Whether the replica has seen this view of so many replicas.
    pub fn agrees(&self, total: u64, view: u64) -> bool {
        self.record.total == total && (self.record.view == view || self.record.view == UPSTREAM)
    }
}

/// The view in records of upstream's replicas, which count only how many there are.
const UPSTREAM: u64 = 0;
