//! The store on a disk that loses power, has no room, or does not keep what it was given. Each seed is another course of
//! events; `STORE_SEED=<number>` runs one of them alone.

use std::collections::BTreeMap;

use bytes::Bytes;
use fastrand::Rng;

use super::answer::numbers;
use super::writer::Room;
use super::*;
use crate::store::{Compare, End, Op, Range, Store as _, Txn};
use disk::{Disk, RESERVE};

mod disk;

type Keys = BTreeMap<Bytes, Bytes>;

fn keys(store: &Shared) -> Keys {
    let page = store.read(&Range::prefix("")).expect("it is readable");
    let entries = page.entries.into_iter();
    entries.map(|entry| (entry.key, entry.value)).collect()
}

/// A transaction as the scheduler makes them: a job, the progress of one, an end with its counter, a range.
fn transaction(random: &mut Rng) -> Txn {
    let number = random.u32(..40);
    let (job, counter) = (format!("jobs/{number:02}"), format!("counters/{number:02}"));
    let most = random.choice([20, 400, 6000]).unwrap();
    let value = vec![random.u8(..); random.usize(..most)];
    let then = match random.u8(..8) {
        0..=3 => vec![Op::put(job, value)],
        4..=5 => vec![Op::put(counter, vec![random.u8(..); 20])],
        6 => vec![Op::delete(counter), Op::delete(job)],
        _ => {
            let place = format!("{}", number / 10);
            ["jobs/", "counters/"]
                .map(|kind| Op::delete_prefix(&format!("{kind}{place}")))
                .into()
        }
    };
    Txn {
        compare: Vec::new(),
        then,
    }
}

fn expect(keys: &mut Keys, txns: &[Txn]) {
    for op in txns.iter().flat_map(|txn| &txn.then) {
        match op {
            Op::Put { key, value, .. } => drop(keys.insert(key.clone(), value.clone())),
            Op::Delete { start, end } => keys.retain(|key, _| match end {
                End::Single => key != start,
                End::Before(end) => key < start || key >= end,
                End::Open => key < start,
            }),
        }
    }
}

/// Several lives of a store, each of which ends when power fails in the middle of something.
fn lives(seed: u64) {
    let mut random = Rng::with_seed(seed);
    let disk = Disk::default();
    let mut acknowledged = Keys::new();
    let mut revision = 0;
    for life in 0..LIVES {
        let store = if life == 0 && random.bool() {
            // Power fails while the file is made.
            disk.0.lock().left = Some(random.u64(..40));
            match Shared::open(Box::new(disk.clone()), u64::MAX) {
                Ok(store) => store,
                Err(_) => {
                    disk.come_back(&mut random);
                    disk.store()
                }
            }
        } else {
            disk.store()
        };
        let found = keys(&store);
        assert!(
            found == acknowledged,
            "seed {seed}, life {life}: other keys"
        );
        let (_, known) = numbers(store.database.read().as_ref().unwrap()).unwrap();
        assert!(
            known >= revision,
            "seed {seed}, life {life}: revisions begin again"
        );
        revision = known;
        if disk.0.lock().left.is_none() {
            disk.0.lock().left = Some(random.u64(1..300));
        }
        let mut room = Room::default();
        let maybe = loop {
            let txns: Vec<_> = (0..random.usize(1..6))
                .map(|_| transaction(&mut random))
                .collect();
            let mut after = acknowledged.clone();
            expect(&mut after, &txns);
            let mut changes = Vec::new();
            if room.write(&store, &txns, None, &mut changes).is_err() {
                break after;
            }
            revision = changes.last().map_or(revision, |change| change.revision);
            acknowledged = after;
        };
        drop(store);
        disk.come_back(&mut random);
        // What was not acknowledged is there as a whole, or not at all.
        let found = keys(&disk.store());
        if found == maybe {
            acknowledged = maybe;
        }
        assert!(
            found == acknowledged,
            "seed {seed}, life {life}: acknowledged writes are lost"
        );
    }
}

#[test]
fn power_fails_and_nothing_acknowledged_is_lost() {
    let seeds = match std::env::var("STORE_SEED") {
        Ok(seed) => seed.parse().map(|seed| seed..seed + 1).unwrap(),
        Err(_) => 0..SEEDS,
    };
    for seed in seeds {
        lives(seed);
    }
}

#[tokio::test]
async fn a_flush_that_fails_ends_the_store() {
    let disk = Disk::default();
    let (store, writer) = Embedded::on(Box::new(disk.clone()), u64::MAX).unwrap();
    let put = |key: &'static str| Txn {
        compare: Vec::new(),
        then: vec![Op::put(key, "v")],
    };
    store.commit(put("kept")).await.unwrap();
    disk.0.lock().flush_fails = true;
    let failed = store.commit(put("lost")).await;
    assert!(matches!(failed, Err(Error::Broken(_))), "{failed:?}");
    assert!(matches!(writer.ended().await, Err(Error::Broken(_))));
    // It would work again, and nobody tries.
    disk.0.lock().flush_fails = false;
    let steps = disk.0.lock().steps;
    assert!(matches!(
        store.commit(put("more")).await,
        Err(Error::Closed)
    ));
    drop(store);
    assert_eq!(
        disk.0.lock().steps,
        steps,
        "something was written behind it"
    );
    disk.come_back(&mut Rng::with_seed(1));
    assert!(keys(&disk.store()).contains_key(&b"kept"[..]));
}

/// A flush without room is as bad as any other that fails: what it left out is taken for written.
#[test]
fn a_write_without_room_is_refused_and_deletions_make_room_again() {
    for seed in 0..ROOMS {
        let mut random = Rng::with_seed(seed);
        let disk = Disk::default();
        let store = disk.store();
        let (mut room, mut changes) = (Room::default(), Vec::new());
        let used = disk.0.lock().used.len();
        disk.0.lock().room = Some(used + RESERVE + random.usize(8..100));
        let put = |number: usize| {
            let value = vec![0; 3000];
            vec![Txn {
                compare: vec![Compare::Absent(format!("k{number}").into())],
                then: vec![Op::put(format!("k{number}"), value)],
            }]
        };
        let mut stored = 0;
        let refused = loop {
            match room.write(&store, &put(stored), None, &mut changes) {
                Ok(applied) => match &applied.outcomes[0] {
                    Ok(done) => assert!(done.held),
                    Err(error) => break error.clone(),
                },
                Err(error) => break error,
            }
            stored += 1;
        };
        assert!(matches!(refused, Error::Disk), "seed {seed}: {refused:?}");
        assert_eq!(keys(&store).len(), stored, "seed {seed}");
        let again = room
            .write(&store, &put(stored), None, &mut changes)
            .unwrap()
            .outcomes;
        assert!(
            matches!(again[0], Err(Error::Disk)),
            "seed {seed}: {again:?}"
        );
        // What replaces something of its size goes on, and so does what deletes.
        let same = Txn {
            compare: Vec::new(),
            then: vec![Op::put("k0", vec![1; 3000])],
        };
        room.write(&store, &[same], None, &mut changes)
            .unwrap()
            .outcomes[0]
            .clone()
            .unwrap();
        for number in 1..stored {
            let delete = Txn {
                compare: Vec::new(),
                then: vec![Op::delete(format!("k{number}"))],
            };
            let done = room.write(&store, &[delete], None, &mut changes).unwrap();
            assert_eq!(done.outcomes[0].clone().unwrap().deleted, 1, "seed {seed}");
        }
        // Others make room.
        disk.0.lock().room = None;
        room.looked = None;
        room.write(&store, &put(stored), None, &mut changes)
            .unwrap()
            .outcomes[0]
            .clone()
            .unwrap();
        assert!(disk.0.lock().reserved);
        drop(store);
        let names: Vec<_> = keys(&disk.store()).into_keys().collect();
        assert_eq!(
            names,
            ["k0".to_owned(), format!("k{stored}")],
            "seed {seed}"
        );
    }
}

/// Courses of events; one takes ten times as long where nothing is optimised.
const SEEDS: u64 = if cfg!(debug_assertions) { 100 } else { 2000 };
const ROOMS: u64 = 50;
/// How often power fails in each.
const LIVES: usize = 3;
