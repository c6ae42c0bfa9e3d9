//! Which part of the jobs this replica drives. Synchronous: time and events in, effects out.
//!
//! Each replica keeps a record under a lease (contract 8.2). The replicas there are, in the order of their keys, are a view;
//! a replica's place in it is its share. It writes into its record which view it has seen, and stops before it writes whatever
//! is not its own in that view. Once all have seen the same view, each drives its share of it: nobody drives anything by
//! another one any more. Who loses its lease stops by its own clock, before the store ends the lease. Q-scheduler-replicas

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use prost_types::Any;
use proto::cron;

use crate::store;
use view::View;

mod view;

/// Time on the replica's own clock, which nobody sets.
pub(crate) type Moment = Duration;

/// A part of the jobs: those whose partition id divided by `total` leaves `index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub index: u64,
    pub total: u64,
}

impl Share {
    pub fn has(self, partition: u64) -> bool {
        partition % self.total.max(1) == self.index
    }
}

/// What this replica may drive: the jobs that are in each of the shares, none if there is no share.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Owned {
    pub shares: Vec<Share>,
    /// All replicas agree, and these are they: the jobs are to be read anew.
    pub settled: Option<Vec<Any>>,
    /// What may be written as long as this replica's record was written last at this revision.
    pub fence: u64,
}

impl Owned {
    #[cfg(test)]
    pub fn has(&self, partition: u64) -> bool {
        !self.shares.is_empty() && self.shares.iter().all(|share| share.has(partition))
    }
}

/// What has to happen outside, in this order.
#[derive(Debug, PartialEq)]
pub(crate) enum Effect {
    /// Nothing else is driven from here on.
    Own(Owned),
    /// Begin a lease: [`Ownership::granted`] or [`Ownership::refused`].
    Grant,
    /// Renew the lease: [`Ownership::renewed`].
    Renew(i64),
    /// End a lease that is of no use any more.
    Revoke(i64),
    /// Write the record, if it was written last at this revision, or if there is none: [`Ownership::wrote`].
    Write {
        record: Bytes,
        lease: i64,
        over: Option<u64>,
    },
    /// Read all records: [`Ownership::seen`].
    Read,
}

/// A replica's part in driving the jobs.
pub(crate) struct Ownership {
    key: Bytes,
    host: Any,
    uids: fastrand::Rng,
    /// Tells this holding of the lease from all others.
    uid: u64,
    lease: Lease,
    view: View,
    /// The record was there.
    present: bool,
    /// Another one has the record, which was said.
    waits: bool,
    writing: bool,
    /// What was read before this revision does not show the last write.
    wrote: u64,
    owned: Owned,
    /// The view that all had seen when the shares were given out.
    settled: Option<u64>,
    effects: VecDeque<Effect>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Lease {
    /// None, and none is asked for before this moment.
    None(Moment),
    Asked,
    Held {
        id: i64,
        until: Moment,
        renew: Moment,
        renewing: bool,
    },
}

impl Ownership {
    /// A replica with the record `key`, that is reached as `host`.
    pub fn new(key: Bytes, host: Any, mut uids: fastrand::Rng) -> Self {
        Self {
            key,
            host,
            uid: uids.u64(1..),
            uids,
            lease: Lease::None(Moment::ZERO),
            view: View::default(),
            present: false,
            waits: false,
            writing: false,
            wrote: 0,
            owned: Owned::default(),
            settled: None,
            effects: VecDeque::new(),
        }
    }

    /// The next effect to bring about, behind [`Ownership::advance`].
    pub fn effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Takes the news that nothing is driven any more, if they have not been told yet.
    pub fn lapsed(&mut self) -> Option<Owned> {
        let none =
            |effect: &Effect| matches!(effect, Effect::Own(owned) if owned.shares.is_empty());
        let at = self.effects.iter().position(none)?;
        self.effects.remove(at);
        Some(Owned::default())
    }

    /// Whether jobs of a partition may be driven now.
    #[cfg(test)]
    pub fn holds(&self, now: Moment, partition: u64) -> bool {
        matches!(self.lease, Lease::Held { until, .. } if now < until) && self.owned.has(partition)
    }

    /// Looks at the time and at what is known. When to come again.
    pub fn advance(&mut self, now: Moment) -> Option<Moment> {
        if matches!(self.lease, Lease::Held { until, .. } if now >= until) {
            tracing::error!("the lease was not renewed in time: no job is fired");
            self.lose(now);
        }
        match &mut self.lease {
            Lease::None(from) if now >= *from => {
                self.lease = Lease::Asked;
                self.effects.push_back(Effect::Grant);
            }
            Lease::Held {
                id,
                renew,
                renewing: renewing @ false,
                ..
            } if now >= *renew => {
                *renewing = true;
                self.effects.push_back(Effect::Renew(*id));
            }
            _ => {}
        }
        if let Lease::Held { id, .. } = self.lease {
            self.decide(now, id);
        }
        match self.lease {
            Lease::None(from) => Some(from),
            Lease::Asked => None,
            Lease::Held {
                until,
                renewing: true,
                ..
            } => Some(until),
            Lease::Held { until, renew, .. } => Some(until.min(renew)),
        }
    }

    /// A lease that was asked for at `asked` has begun.
    pub fn granted(&mut self, asked: Moment, lease: store::Lease) {
        self.lease = Lease::Held {
            id: lease.id,
            until: asked + usable(lease.ttl),
            renew: asked + lease.ttl / RENEWALS,
            renewing: false,
        };
        self.effects.push_back(Effect::Read);
    }

    /// There is no lease for now.
    pub fn refused(&mut self, now: Moment) {
        self.lease = Lease::None(now + AGAIN);
    }

    /// What came of renewing a lease at `asked`: how long it lasts from then, or that it has ended; an error says nothing.
    pub fn renewed(
        &mut self,
        now: Moment,
        asked: Moment,
        lease: i64,
        outcome: Result<Option<Duration>, store::Error>,
    ) {
        let Lease::Held {
            id,
            until,
            renew,
            renewing,
        } = &mut self.lease
        else {
            return;
        };
        if *id != lease {
            return;
        }
        *renewing = false;
        match outcome {
            Ok(Some(ttl)) => {
                *until = (*until).max(asked + usable(ttl));
                *renew = asked + ttl / RENEWALS;
            }
            Ok(None) => {
                tracing::error!("the lease was taken away: no job is fired");
                self.lose(now);
            }
            Err(error) => {
                tracing::warn!("the lease cannot be renewed: {error}");
                *renew = now + AGAIN;
            }
        }
    }

    /// What came of writing the record.
    pub fn wrote(&mut self, outcome: Result<store::Committed, store::Error>) {
        self.writing = false;
        match outcome {
            Ok(done) if done.held => self.wrote = done.revision,
            Ok(_) => {}
            Err(error) => tracing::warn!("the record of this replica cannot be written: {error}"),
        }
        self.effects.push_back(Effect::Read);
    }

    /// The store may have gone back, to a backup for instance: what is read next holds, whatever was read or written before.
    pub fn anew(&mut self) {
        self.view = View::default();
        self.wrote = 0;
    }

    /// All records, as they were read.
    pub fn seen(&mut self, page: &store::Page) {
        if page.revision < self.view.revision {
            return;
        }
        self.view = View::of(page);
    }

    /// This replica stops. Its lease is to be revoked.
    pub fn resign(&mut self, now: Moment) -> Option<i64> {
        let lease = match self.lease {
            Lease::Held { id, .. } => Some(id),
            _ => None,
        };
        self.lose(now);
        self.effects.clear();
        lease
    }

    fn decide(&mut self, now: Moment, lease: i64) {
        if self.writing || !self.view.read || self.view.revision < self.wrote {
            return;
        }
        let members = &self.view.members;
        let own = members.iter().position(|member| member.key == self.key);
        let Some(index) = own else {
            if self.present {
                tracing::error!("the record of this replica is gone: no job is fired");
                self.lose(now);
            } else {
                self.write(lease, None);
            }
            return;
        };
        let own = &members[index];
        if own.record.uid != self.uid {
            // A program before this one, or another one by the same name: until its lease has ended.
            if !self.present && !self.waits {
                self.waits = true;
                tracing::warn!(
                    "there is a replica by the name of this one, which ended a moment ago, or runs with the same --id: nothing is fired here before its lease has ended"
                );
            }
            if self.present {
                tracing::error!("another replica has the name of this one: no job is fired");
                self.lose(now);
            }
            return;
        }
        (self.present, self.waits) = (true, false);
        let (view, total) = (self.view.digest(None), members.len() as u64);
        let share = Share {
            index: index as u64,
            total,
        };
        if own.record.total != total || own.record.view != view {
            let over = own.modified;
            if self.settled.take().is_some() || !self.owned.shares.is_empty() {
                if !self.owned.shares.contains(&share) {
                    self.owned.shares.push(share);
                }
                self.owned.settled = None;
                self.effects.push_back(Effect::Own(self.owned.clone()));
            }
            self.write(lease, Some(over));
            return;
        }
        if self.settled != Some(view) && members.iter().all(|member| member.agrees(total, view)) {
            self.settled = Some(view);
            let hosts = members.iter();
            let hosts = hosts.filter_map(|member| member.record.replica_data.clone());
            self.owned = Owned {
                shares: vec![share],
                settled: Some(hosts.collect()),
                fence: own.modified,
            };
            tracing::info!("{total} replicas agree: this one is number {index}");
            self.effects.push_back(Effect::Own(self.owned.clone()));
        } else if !self.owned.shares.is_empty() && self.owned.fence != own.modified {
            self.owned.fence = own.modified;
            self.owned.settled = None;
            self.effects.push_back(Effect::Own(self.owned.clone()));
        }
    }

    /// Writes which view was seen: the one there is, with this replica in it.
    fn write(&mut self, lease: i64, over: Option<u64>) {
        let joins = over.is_none();
        let record = cron::Leadership {
            total: self.view.members.len() as u64 + u64::from(joins),
            uid: self.uid,
            replica_data: Some(self.host.clone()),
            view: self.view.digest(joins.then_some((&self.key, self.uid))),
        };
        self.writing = true;
        self.effects.push_back(Effect::Write {
            record: record.encode_to_vec().into(),
            lease,
            over,
        });
    }

    /// Nothing is driven any more, until there is a new lease.
    fn lose(&mut self, now: Moment) {
        if let Lease::Held { id, .. } = self.lease {
            self.effects.push_back(Effect::Revoke(id));
        }
        self.lease = Lease::None(now);
        self.anew();
        self.uid = self.uids.u64(1..);
        self.present = false;
        self.settled = None;
        if !self.owned.shares.is_empty() {
            self.owned = Owned::default();
            // Before anything else, and instead of what was to be driven.
            self.effects
                .retain(|effect| !matches!(effect, Effect::Own(_)));
            self.effects.push_front(Effect::Own(Owned::default()));
        }
    }
}

/// A lease is used for nine tenths of its time: clocks do not run alike.
fn usable(ttl: Duration) -> Duration {
    ttl * 9 / 10
}

/// A lease is renewed so many times before it would end.
const RENEWALS: u32 = 3;

/// Before what did not work is tried again.
pub(crate) const AGAIN: Duration = Duration::from_millis(500);

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
