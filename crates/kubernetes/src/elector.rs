//! Who leads, without I/O: the rules by which replicas share one Lease, the same as those of client-go, so that replicas of
//! both kinds may stand beside each other during an upgrade.
//! The lease of another counts from when its record was last *seen* to change, so clocks need not agree.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// A lease that was not renewed for this long is free.
    pub lease: Duration,
    /// A leader that could not renew for this long stops leading, well before its lease is free.
    pub renew: Duration,
    /// The pause between two looks at the lease.
    pub retry: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            renew: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// Candidates wait up to this much longer than the retry pause, in tenths of it, so as not to collide.
const JITTER_TENTHS: u32 = 12;

/// What stands in the Lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Who leads; empty if nobody does.
    pub holder: String,
    /// How long a renewal counts.
    pub seconds: i32,
    /// When the holder began to lead.
    pub acquired: Option<Timestamp>,
    /// When the holder last said so.
    pub renewed: Option<Timestamp>,
    /// How often another one began to lead.
    pub transitions: i32,
}

/// What to do about the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// There is none: create it.
    Create(Record),
    /// Write over the one that was read, if nobody has meanwhile.
    Update(Record),
    /// Someone else leads.
    Wait,
}

/// One candidate's view.
#[derive(Debug)]
pub struct Elector {
    identity: String,
    terms: Terms,
    seen: Option<(Record, Instant)>,
    renewed: Option<Instant>,
}

impl Elector {
    /// A candidate; the identity is unlike any other's, even after a restart.
    pub fn new(identity: String, terms: Terms) -> Self {
        Self {
            identity,
            terms,
            seen: None,
            renewed: None,
        }
    }

    /// Decides on what was read: `found` is the Lease, if there is one.
    pub fn decide(&mut self, found: Option<&Record>, now: Instant, wall: Timestamp) -> Decision {
        let Some(found) = found else {
            return Decision::Create(self.record(wall, 0));
        };
        if self.seen.as_ref().is_none_or(|(seen, _)| seen != found) {
            self.seen = Some((found.clone(), now));
        }
        if found.holder == self.identity {
            let mut record = self.record(wall, found.transitions);
            record.acquired = found.acquired;
            return Decision::Update(record);
        }
        self.renewed = None;
        if !found.holder.is_empty() && self.is_held(found, now) {
            return Decision::Wait;
        }
        Decision::Update(self.record(wall, found.transitions.saturating_add(1)))
    }

    /// The decision was carried out at `began`, when its request was sent.
    pub fn written(&mut self, record: Record, began: Instant) {
        self.seen = Some((record, began));
        self.renewed = Some(began);
    }

    /// Whether this candidate leads.
    pub fn leads(&self, now: Instant) -> bool {
        self.renewed
            .is_some_and(|renewed| now.saturating_duration_since(renewed) < self.terms.renew)
    }

    /// Who leads, as far as known.
    pub fn leader(&self) -> Option<&str> {
        self.seen.as_ref().map(|(record, _)| record.holder.as_str())
    }

    /// Stops leading. The record to write so that another need not wait, if this candidate holds the lease.
    pub fn resign(&mut self, found: &Record, wall: Timestamp) -> Option<Record> {
        self.renewed = None;
        (found.holder == self.identity).then(|| Record {
            holder: String::new(),
            seconds: 1,
            acquired: Some(wall),
            renewed: Some(wall),
            transitions: found.transitions,
        })
    }

    /// How long to wait before the next look; `random` is in 0..1.
    pub fn pause(&self, now: Instant, random: f64) -> Duration {
        if self.leads(now) {
            return self.terms.retry;
        }
        let longest = self.terms.retry * JITTER_TENTHS / 10;
        self.terms.retry + longest.mul_f64(random.clamp(0.0, 1.0))
    }

    /// When this candidate stops leading, unless it renews before.
    pub fn expires(&self) -> Option<Instant> {
        self.renewed.map(|renewed| renewed + self.terms.renew)
    }

    /// How long one request about the Lease may take: two of them fit into the time in which a leader has to renew.
    pub fn patience(&self) -> Duration {
        self.terms.renew / 2
    }

    fn record(&self, wall: Timestamp, transitions: i32) -> Record {
        Record {
            holder: self.identity.clone(),
            seconds: i32::try_from(self.terms.lease.as_secs()).unwrap_or(i32::MAX),
            acquired: Some(wall),
            renewed: Some(wall),
            transitions,
        }
    }

    fn is_held(&self, found: &Record, now: Instant) -> bool {
        let Some((_, seen)) = &self.seen else {
            return false;
        };
        let length = Duration::from_secs(u64::try_from(found.seconds).unwrap_or_default());
        now.saturating_duration_since(*seen) < length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wall(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn candidate(name: &str) -> Elector {
        Elector::new(name.to_owned(), Terms::default())
    }

    fn update(decision: Decision) -> Record {
        match decision {
            Decision::Update(record) => record,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_candidate_creates_and_renews() {
        let (mut a, now) = (candidate("a"), Instant::now());
        let Decision::Create(record) = a.decide(None, now, wall(0)) else {
            panic!("there is no lease")
        };
        assert_eq!(
            (record.holder.as_str(), record.seconds, record.transitions),
            ("a", 15, 0)
        );
        assert!(!a.leads(now));
        a.written(record.clone(), now);
        assert!(a.leads(now));
        let renewed = update(a.decide(Some(&record), now, wall(2)));
        assert_eq!(renewed.acquired, record.acquired);
        assert_eq!((renewed.renewed, renewed.transitions), (Some(wall(2)), 0));
    }

    #[test]
    fn a_leader_that_cannot_renew_stops_before_its_lease_is_free() {
        let (mut a, now) = (candidate("a"), Instant::now());
        a.written(Record::default(), now);
        let terms = Terms::default();
        assert!(a.leads(now + terms.renew - Duration::from_millis(1)));
        assert!(!a.leads(now + terms.renew));
        assert!(terms.renew + terms.retry * 2 < terms.lease);
    }

    #[test]
    fn another_waits_until_the_record_stands_still() {
        let (mut b, start) = (candidate("b"), Instant::now());
        let mut record = candidate("a").record(wall(0), 4);
        let second = Duration::from_secs(1);
        for step in 0..30 {
            record.renewed = Some(wall(i64::from(step)));
            let now = start + second * step;
            assert_eq!(b.decide(Some(&record), now, wall(1000)), Decision::Wait);
        }
        let last = start + second * 29;
        assert_eq!(
            b.decide(Some(&record), last + second * 14, wall(0)),
            Decision::Wait
        );
        let taken = update(b.decide(Some(&record), last + second * 15, wall(50)));
        assert_eq!((taken.holder.as_str(), taken.transitions), ("b", 5));
        assert_eq!(taken.acquired, Some(wall(50)));
    }

    #[test]
    fn a_resigned_lease_is_free_at_once() {
        let (mut a, mut b, now) = (candidate("a"), candidate("b"), Instant::now());
        let record = a.record(wall(0), 2);
        a.written(record.clone(), now);
        let free = a.resign(&record, wall(9)).unwrap();
        assert_eq!(
            (free.holder.as_str(), free.seconds, free.transitions),
            ("", 1, 2)
        );
        assert!(!a.leads(now));
        assert_eq!(update(b.decide(Some(&free), now, wall(9))).transitions, 3);
        assert_eq!(a.resign(&candidate("b").record(wall(0), 0), wall(9)), None);
    }

    #[test]
    fn who_sees_another_holder_leads_no_more() {
        let (mut a, now) = (candidate("a"), Instant::now());
        a.written(a.record(wall(0), 0), now);
        let other = candidate("b").record(wall(1), 1);
        assert_eq!(a.decide(Some(&other), now, wall(1)), Decision::Wait);
        assert!(!a.leads(now));
        assert_eq!(a.leader(), Some("b"));
    }

    #[test]
    fn candidates_wait_unequally() {
        let (a, now) = (candidate("a"), Instant::now());
        let retry = Terms::default().retry;
        assert_eq!(a.pause(now, 0.0), retry);
        assert_eq!(a.pause(now, 1.0), retry + retry * 12 / 10);
    }
}
