//! The machine, step by step.

use super::*;
use crate::store::{Committed, Entry, Error, Lease, Page};

const TTL: Duration = Duration::from_secs(20);
const KEY: &str = "dapr/leadership/b";

fn machine() -> Ownership {
    let host = Any {
        type_url: "host".to_owned(),
        value: b"b".to_vec(),
    };
    Ownership::new(KEY.into(), host, fastrand::Rng::with_seed(1))
}

fn second(n: u64) -> Moment {
    Duration::from_secs(n)
}

fn effects(machine: &mut Ownership, now: Moment) -> Vec<Effect> {
    machine.advance(now);
    std::iter::from_fn(|| machine.effect()).collect()
}

fn entry(key: &'static str, modified: u64, record: &cron::Leadership) -> Entry {
    Entry {
        key: key.into(),
        value: record.encode_to_vec().into(),
        created: modified,
        modified,
        version: 1,
        lease: 1,
    }
}

fn page(revision: u64, entries: Vec<Entry>) -> Page {
    Page {
        entries,
        more: false,
        revision,
    }
}

/// What it writes.
fn record(effects: &[Effect]) -> cron::Leadership {
    match effects {
        [.., Effect::Write { record, .. }] => {
            cron::Leadership::decode(&record[..]).expect("a record")
        }
        other => panic!("{other:?}"),
    }
}

fn held(machine: &mut Ownership, revision: u64) {
    machine.wrote(Ok(Committed {
        held: true,
        revision,
        deleted: 0,
    }));
}

/// One that is alone, at one second.
fn settled() -> (Ownership, cron::Leadership) {
    let mut machine = machine();
    assert_eq!(effects(&mut machine, second(0)), [Effect::Grant]);
    let lease = Lease { id: 7, ttl: TTL };
    machine.granted(second(0), lease);
    assert_eq!(effects(&mut machine, second(0)), [Effect::Read]);
    machine.seen(&page(0, Vec::new()));
    let own = record(&effects(&mut machine, second(0)));
    assert_eq!(own.total, 1);
    held(&mut machine, 1);
    assert_eq!(effects(&mut machine, second(1)), [Effect::Read]);
    machine.seen(&page(1, vec![entry(KEY, 1, &own)]));
    let owned = Owned {
        shares: vec![Share { index: 0, total: 1 }],
        settled: own.replica_data.clone().map(|host| vec![host]),
        fence: 1,
    };
    assert_eq!(effects(&mut machine, second(1)), [Effect::Own(owned)]);
    (machine, own)
}

#[test]
fn one_that_joins_gets_its_share_once_the_other_has_agreed() {
    let (mut machine, own) = settled();
    let other = cron::Leadership {
        total: 2,
        uid: 5,
        ..cron::Leadership::default()
    };
    machine.seen(&page(
        2,
        vec![entry("dapr/leadership/a", 2, &other), entry(KEY, 1, &own)],
    ));
    let said = effects(&mut machine, second(2));
    let Effect::Own(limited) = &said[0] else {
        panic!("{said:?}");
    };
    // It goes on with what is its own in both views, and has stopped the rest before it says so.
    let own = record(&said);
    assert_eq!(own.total, 2);
    assert_eq!(
        (limited.has(1), limited.has(2), &limited.settled),
        (true, false, &None)
    );
    held(&mut machine, 3);
    effects(&mut machine, second(2));
    let other = cron::Leadership {
        view: own.view,
        ..other
    };
    machine.seen(&page(
        4,
        vec![entry("dapr/leadership/a", 4, &other), entry(KEY, 3, &own)],
    ));
    let said = effects(&mut machine, second(2));
    let [Effect::Own(owned)] = &said[..] else {
        panic!("{said:?}");
    };
    assert_eq!(owned.shares, [Share { index: 1, total: 2 }]);
    assert_eq!((owned.fence, owned.settled.is_some()), (3, true));
}

#[test]
fn a_replica_of_upstream_agrees_by_its_number_only() {
    let (mut machine, own) = settled();
    let upstream = |total| cron::Leadership {
        total,
        uid: 5,
        ..cron::Leadership::default()
    };
    let both = |revision, total, own: &cron::Leadership, at| {
        page(
            revision,
            vec![
                entry("dapr/leadership/a", 2, &upstream(total)),
                entry(KEY, at, own),
            ],
        )
    };
    machine.seen(&both(2, 1, &own, 1));
    let own = record(&effects(&mut machine, second(2)));
    held(&mut machine, 3);
    machine.seen(&both(3, 1, &own, 3));
    let said = effects(&mut machine, second(2));
    assert!(
        said.iter()
            .all(|effect| !matches!(effect, Effect::Own(owned) if owned.settled.is_some()))
    );
    machine.seen(&both(4, 2, &own, 3));
    let said = effects(&mut machine, second(2));
    assert!(matches!(&said[..], [Effect::Own(owned)] if owned.settled.is_some()));
}

#[test]
fn nothing_is_driven_behind_the_end_of_the_lease() {
    let (mut machine, own) = settled();
    assert!(machine.holds(second(17), 0));
    assert_eq!(effects(&mut machine, second(7)), [Effect::Renew(7)]);
    machine.renewed(second(8), second(7), 7, Err(Error::Unavailable("".into())));
    assert_eq!(effects(&mut machine, second(9)), [Effect::Renew(7)]);
    assert!(!machine.holds(second(18), 0));
    // Paused, and back: it stops before anything else, and begins anew as another one.
    let said = effects(&mut machine, second(60));
    assert_eq!(
        said,
        [
            Effect::Own(Owned::default()),
            Effect::Revoke(7),
            Effect::Grant
        ]
    );
    machine.granted(second(60), Lease { id: 8, ttl: TTL });
    machine.seen(&page(5, vec![entry(KEY, 1, &own)]));
    assert_eq!(effects(&mut machine, second(61)), [Effect::Read]);
    machine.seen(&page(6, Vec::new()));
    assert_ne!(record(&effects(&mut machine, second(61))).uid, own.uid);
}

#[test]
fn a_record_or_a_lease_that_is_taken_away_is_made_anew() {
    let (mut machine, _) = settled();
    machine.seen(&page(2, Vec::new()));
    let said = effects(&mut machine, second(2));
    assert_eq!(said, [Effect::Own(Owned::default()), Effect::Revoke(7)]);
    assert_eq!(effects(&mut machine, second(2)), [Effect::Grant]);
    let (mut machine, _) = settled();
    machine.renewed(second(2), second(2), 7, Ok(None));
    let said = effects(&mut machine, second(2));
    assert!(matches!(
        &said[..],
        [Effect::Own(_), Effect::Revoke(7), Effect::Grant]
    ));
}

#[test]
fn a_name_that_is_taken_is_waited_for() {
    let mut machine = machine();
    effects(&mut machine, second(0));
    machine.granted(second(0), Lease { id: 7, ttl: TTL });
    let other = cron::Leadership {
        total: 1,
        uid: 5,
        ..cron::Leadership::default()
    };
    machine.seen(&page(1, vec![entry(KEY, 1, &other)]));
    assert_eq!(effects(&mut machine, second(1)), [Effect::Read]);
    machine.seen(&page(2, Vec::new()));
    assert_eq!(record(&effects(&mut machine, second(1))).total, 1);
}

#[test]
fn a_store_that_has_gone_back_is_believed() {
    let (mut machine, own) = settled();
    machine.seen(&page(100, vec![entry(KEY, 1, &own)]));
    assert_eq!(effects(&mut machine, second(2)), []);
    // Begun anew: no lease, and revisions that are lower than what was seen and written.
    machine.renewed(second(2), second(2), 7, Ok(None));
    let said = effects(&mut machine, second(2));
    assert!(matches!(
        &said[..],
        [Effect::Own(_), Effect::Revoke(7), Effect::Grant]
    ));
    machine.granted(second(2), Lease { id: 8, ttl: TTL });
    machine.seen(&page(0, Vec::new()));
    let again = record(&effects(&mut machine, second(2)));
    held(&mut machine, 1);
    machine.seen(&page(1, vec![entry(KEY, 1, &again)]));
    let said = effects(&mut machine, second(3));
    assert!(
        matches!(&said[..], [Effect::Read, Effect::Own(owned)] if !owned.shares.is_empty()),
        "{said:?}"
    );
    // From a backup in which the lease lives on.
    machine.anew();
    let older = cron::Leadership { total: 2, ..again };
    machine.seen(&page(1, vec![entry(KEY, 1, &older)]));
    assert_eq!(record(&effects(&mut machine, second(4))).total, 1);
}
