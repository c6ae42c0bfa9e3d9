//! The store of the simulation.

use std::collections::BTreeMap;

use super::super::*;
use super::TTL;
use crate::store::{Committed, Entry, Error, Page};

/// What the replicas share.
#[derive(Default)]
pub(super) struct Model {
    pub revision: u64,
    pub records: BTreeMap<Bytes, Entry>,
    pub leases: BTreeMap<i64, Duration>,
    pub granted: i64,
}

/// A request on its way to the store.
pub(super) struct Request {
    pub name: u32,
    pub birth: u64,
    pub asked: Moment,
    pub effect: Effect,
    /// The request does not arrive, or its answer does not.
    pub lost: bool,
    pub unanswered: bool,
}

/// An answer on its way back.
pub(super) enum Answer {
    Granted(Moment, Result<store::Lease, Error>),
    Renewed(Moment, i64, Result<Option<Duration>, Error>),
    Wrote(Result<Committed, Error>),
    Seen(Page),
}

pub(super) fn key(name: u32) -> Bytes {
    format!("dapr/leadership/{name}").into()
}

fn lost() -> Error {
    Error::Unavailable("lost".into())
}

impl Model {
    /// Ends a lease: whether records went with it.
    pub fn end(&mut self, lease: i64) -> bool {
        self.leases.remove(&lease);
        let before = self.records.len();
        self.records.retain(|_, entry| entry.lease != lease);
        let gone = self.records.len() < before;
        self.revision += u64::from(gone);
        gone
    }

    /// The store at work.
    pub fn answer(&mut self, now: Duration, request: &Request) -> Option<Answer> {
        let asked = request.asked;
        let gone = request.lost;
        let failed = gone || request.unanswered;
        Some(match &request.effect {
            Effect::Own(_) => return None,
            Effect::Grant => {
                self.granted += 1;
                let (id, ttl) = (self.granted, TTL);
                if !gone {
                    self.leases.insert(id, now + ttl);
                }
                let lease = store::Lease { id, ttl };
                Answer::Granted(asked, if failed { Err(lost()) } else { Ok(lease) })
            }
            Effect::Renew(lease) => {
                let ends = self.leases.get_mut(lease);
                let held = ends.filter(|_| !gone).map(|until| {
                    *until = now + TTL;
                    TTL
                });
                Answer::Renewed(asked, *lease, if failed { Err(lost()) } else { Ok(held) })
            }
            Effect::Revoke(lease) => {
                if !gone {
                    self.end(*lease);
                }
                return None;
            }
            Effect::Write {
                record,
                lease,
                over,
            } => {
                let known = self.records.get(&key(request.name));
                let held = known.map(|entry| entry.modified) == *over;
                let written = !gone && self.leases.contains_key(lease);
                let outcome = if !written || failed {
                    Err(lost())
                } else {
                    Ok(Committed {
                        held,
                        revision: self.revision + u64::from(held),
                        deleted: 0,
                    })
                };
                if written && held {
                    self.revision += 1;
                    let entry = Entry {
                        key: key(request.name),
                        value: record.clone(),
                        created: known.map_or(self.revision, |entry| entry.created),
                        modified: self.revision,
                        version: 1,
                        lease: *lease,
                    };
                    self.records.insert(key(request.name), entry);
                }
                Answer::Wrote(outcome)
            }
            // A reader tries until it has an answer.
            Effect::Read => Answer::Seen(Page {
                entries: self.records.values().cloned().collect(),
                more: false,
                revision: self.revision,
            }),
        })
    }
}
