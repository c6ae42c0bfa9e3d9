//! Readers over random schedules of writes and faults: what they say is ordered, unique and reliable, and goes on where it
//! broke off.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::PartialObjectMeta;
use kubernetes::client::over;
use kubernetes::{Change, Cluster, Key, Reflector, Signal, State, Store};
use kubernetes_fake::{Fake, Fault, On};
use parking_lot::Mutex;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const MAPS: &str = "/api/v1/configmaps";

/// Longer than any pause and any silence, so that what can recover has.
const LONG: Duration = Duration::from_secs(10 * 60);

/// One thing that happens to the cluster.
#[derive(Clone, Debug)]
enum Step {
    Put(u8),
    Remove(u8),
    /// An event of the past comes again, by its place among those.
    Replay(usize, bool),
    Compact,
    Drop,
    Bookmark,
    Fail(&'static str, Fault, usize),
    Heal,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let verbs = prop_oneof![Just("list"), Just("watch")];
    let faults = prop_oneof![
        Just(Fault::Hang),
        Just(Fault::Stall),
        Just(Fault::Break),
        Just(Fault::Status(403)),
        Just(Fault::Status(404)),
        Just(Fault::Status(410)),
        Just(Fault::Status(429)),
        Just(Fault::Status(500)),
        Just(Fault::Latency(Duration::from_secs(10))),
    ];
    prop_oneof![
        6 => (0..6_u8).prop_map(Step::Put),
        3 => (0..6_u8).prop_map(Step::Remove),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(at, deleted)| Step::Replay(at, deleted)),
        1 => Just(Step::Compact),
        1 => Just(Step::Drop),
        1 => Just(Step::Bookmark),
        2 => (verbs, faults, 1..8_usize).prop_map(|(verb, fault, times)| Step::Fail(verb, fault, times)),
        1 => Just(Step::Heal),
        4 => (0..200_000_u64).prop_map(Step::Wait),
    ]
}

/// A reader, and what it has said.
#[derive(Clone, Default)]
struct Reader(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    store: Store<u64>,
    changes: Vec<Change<u64>>,
    watches: usize,
}

/// The write that an object is of; it grows with every write of any object.
fn count(map: &PartialObjectMeta<ConfigMap>) -> Option<u64> {
    map.metadata.labels.as_ref()?.get("count")?.parse().ok()
}

impl Reader {
    async fn run(&self, fake: &Fake, shutdown: &CancellationToken) {
        let cluster = Cluster::new(over(fake.service()), "");
        let reflector = Reflector::new(
            "maps",
            &cluster,
            Cluster::watched::<PartialObjectMeta<ConfigMap>>,
        );
        let tell = |signal: Signal<PartialObjectMeta<ConfigMap>>| {
            let mut seen = self.0.lock();
            seen.watches += usize::from(matches!(signal, Signal::Watching(_)));
            let changes = seen.store.apply(signal, |map| count(&map));
            seen.changes.extend(changes);
        };
        reflector.run(shutdown, tell).await;
    }

    fn known(&self) -> BTreeMap<String, u64> {
        let seen = self.0.lock();
        seen.store
            .iter()
            .map(|(key, count)| (key.name.clone(), **count))
            .collect()
    }
}

fn map(name: &str, count: u64) -> Value {
    json!({"metadata": {"name": name, "namespace": "n", "labels": {"count": count.to_string()}}})
}

async fn play(fake: &Fake, steps: &[Step]) -> BTreeMap<String, u64> {
    let mut there = BTreeMap::new();
    let mut past: Vec<Value> = Vec::new();
    for (count, step) in (1..).zip(steps) {
        match step {
            Step::Put(index) => {
                let name = format!("map-{index}");
                fake.put(MAPS, map(&name, count));
                past.extend(fake.object(MAPS, "n", &name));
                there.insert(name, count);
            }
            Step::Remove(index) => {
                let name = format!("map-{index}");
                fake.remove(MAPS, "n", &name);
                there.remove(&name);
            }
            Step::Replay(at, deleted) if !past.is_empty() => {
                let kind = if *deleted { "DELETED" } else { "MODIFIED" };
                let mut object = past[at % past.len()].clone();
                // A deletion of the past has a version of its own, before all that came after it.
                if *deleted
                    && fake
                        .object(
                            MAPS,
                            "n",
                            object["metadata"]["name"].as_str().expect("a name"),
                        )
                        .is_some_and(|it| it == object)
                {
                    continue;
                }
                object["kind"] = json!("ConfigMap");
                fake.inject(MAPS, kind, object);
            }
            Step::Replay(..) => {}
            Step::Compact => fake.compact(),
            Step::Drop => fake.drop_watches(),
            Step::Bookmark => fake.bookmark(MAPS),
            Step::Fail(verb, fault, times) => fake.fault(On::verb(verb).times(*times), *fault),
            Step::Heal => fake.heal(),
            Step::Wait(millis) => tokio::time::sleep(Duration::from_millis(*millis)).await,
        }
    }
    there
}

/// What was said about each object is a chain: each change begins where the one before it ended, nothing is said twice,
/// and nothing old after something new.
fn check_chains(changes: &[Change<u64>]) {
    let mut last: BTreeMap<&Key, Option<u64>> = BTreeMap::new();
    let mut newest: BTreeMap<&Key, u64> = BTreeMap::new();
    for change in changes {
        let (old, new) = (
            change.old.as_deref().copied(),
            change.new.as_deref().copied(),
        );
        assert_eq!(old, last.insert(&change.key, new).flatten(), "{change:?}");
        assert_ne!(old, new, "said twice: {change:?}");
        if let Some(new) = new {
            let before = newest.insert(&change.key, new).unwrap_or_default();
            assert!(new > before, "old after new: {change:?}");
        }
    }
}

fn simulate(steps: &[Step]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (fake, reader, shutdown) = (Fake::new(), Reader::default(), CancellationToken::new());
        let script = async {
            let there = play(&fake, steps).await;
            fake.heal();
            tokio::time::sleep(LONG).await;
            {
                let seen = reader.0.lock();
                assert_eq!(seen.store.state(), State::Complete);
                check_chains(&seen.changes);
            }
            assert_eq!(reader.known(), there);
            shutdown.cancel();
        };
        tokio::join!(reader.run(&fake, &shutdown), script);
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_a_reader_knows_what_there_is_in_the_end(steps in prop::collection::vec(step(), 1..60)) {
        simulate(&steps);
    }
}

/// Runs a script beside a reader, in paused time.
async fn beside<F: Future<Output = ()>>(fake: &Fake, script: impl FnOnce(Reader) -> F) {
    let (reader, shutdown) = (Reader::default(), CancellationToken::new());
    let script = script(reader.clone());
    let script = async {
        script.await;
        shutdown.cancel();
    };
    tokio::join!(reader.run(fake, &shutdown), script);
}

fn lists(fake: &Fake) -> usize {
    fake.seen()
        .iter()
        .filter(|seen| seen.verb == "list")
        .count()
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_breaks_goes_on_where_it_broke_off() {
    let fake = Fake::new();
    fake.put(MAPS, map("a", 1));
    beside(&fake, |reader| {
        let fake = fake.clone();
        async move {
            fake.until("a watch", |fake| fake.watches() == 1).await;
            let before = lists(&fake);
            fake.fault(On::verb("watch").times(2), Fault::Break);
            fake.drop_watches();
            fake.until("stale", |_| reader.0.lock().store.state() == State::Stale)
                .await;
            fake.put(MAPS, map("b", 2));
            fake.until("the change", |_| reader.known().len() == 2)
                .await;
            let seen = reader.0.lock();
            assert_eq!((seen.store.state(), seen.watches), (State::Complete, 2));
            assert_eq!(lists(&fake), before, "no new list");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_without_changes_is_known_to_be_well_again() {
    let fake = Fake::new();
    beside(&fake, |reader| {
        let fake = fake.clone();
        async move {
            fake.until("a watch", |fake| fake.watches() == 1).await;
            fake.fault(On::verb("watch").times(1), Fault::Status(503));
            fake.drop_watches();
            fake.until("stale", |_| reader.0.lock().store.state() == State::Stale)
                .await;
            fake.until("well", |_| reader.0.lock().store.state() == State::Complete)
                .await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_gone_makes_a_new_list_however_that_is_said() {
    for at_once in [false, true] {
        let fake = Fake::new();
        fake.put(MAPS, map("a", 1));
        if at_once {
            fake.refuse_old_watches();
        }
        beside(&fake, |reader| {
            let fake = fake.clone();
            async move {
                fake.until("a watch", |fake| fake.watches() == 1).await;
                fake.fault(
                    On::verb("watch").times(1),
                    Fault::Latency(Duration::from_secs(1)),
                );
                fake.drop_watches();
                fake.remove(MAPS, "n", "a");
                fake.compact();
                fake.until("the deletion", |_| reader.known().is_empty())
                    .await;
            }
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_every_watch_is_not_stormed() {
    let fake = Fake::new();
    beside(&fake, |_| {
        let fake = fake.clone();
        async move {
            fake.until("a watch", |fake| fake.watches() == 1).await;
            let before = fake.seen().len();
            for _ in 0..1000 {
                fake.drop_watches();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let asked = fake.seen().len() - before;
            assert!((10..=21).contains(&asked), "{asked} watches in 10 s");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_read_is_not_known_and_comes_with_the_right_to_it() {
    let fake = Fake::new();
    fake.put(MAPS, map("a", 1));
    fake.fault(On::verb("list"), Fault::Status(403));
    beside(&fake, |reader| {
        let fake = fake.clone();
        async move {
            fake.until("refused", |_| {
                reader.0.lock().store.state() == State::Refused
            })
            .await;
            assert!(!reader.0.lock().store.is_known());
            fake.heal();
            fake.until("known", |_| reader.known().len() == 1).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn only_metadata_are_asked_for_where_no_more_is_kept() {
    let fake = Fake::new();
    beside(&fake, |_| {
        let fake = fake.clone();
        async move {
            fake.until("a watch", |fake| fake.watches() == 1).await;
            assert!(fake.seen().iter().all(|seen| seen.metadata_only));
        }
    })
    .await;
}
