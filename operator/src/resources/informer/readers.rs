//! A sidecar's view over random schedules of writes and faults: what it lists, with the events that come after, is in the end
//! what the cluster has; slow or fast, whatever happens to the operator's watch.

use std::collections::BTreeMap;
use std::time::Duration;

use kubernetes::Cluster;
use kubernetes_fake::{Fake, Fault, On};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::super::queue::EventType;
use super::super::{Caller, Entry, Informer, Kind, Subscription};

const COMPONENTS: &str = "/apis/dapr.io/v1alpha1/components";

/// Longer than any pause and any silence.
const LONG: Duration = Duration::from_secs(10 * 60);

#[derive(Clone, Debug)]
enum Step {
    /// A component, and whether the app is in its scope.
    Put(u8, bool),
    Remove(u8),
    Compact,
    Drop,
    Fail(&'static str, Fault),
    Wait(u64),
    /// The sidecar takes what has come.
    Take,
}

fn step() -> impl Strategy<Value = Step> {
    let verbs = prop_oneof![Just("list"), Just("watch")];
    let faults = prop_oneof![
        Just(Fault::Hang),
        Just(Fault::Stall),
        Just(Fault::Status(403)),
        Just(Fault::Status(410)),
        Just(Fault::Status(500)),
    ];
    prop_oneof![
        8 => (0..20_u8, any::<bool>()).prop_map(|(name, mine)| Step::Put(name, mine)),
        4 => (0..20_u8).prop_map(Step::Remove),
        1 => Just(Step::Compact),
        1 => Just(Step::Drop),
        2 => (verbs, faults).prop_map(|(verb, fault)| Step::Fail(verb, fault)),
        4 => (0..100_000_u64).prop_map(Step::Wait),
        1 => Just(Step::Take),
    ]
}

/// What a sidecar knows: names, and the count of the write that made each.
#[derive(Default)]
struct Sidecar(BTreeMap<String, Value>);

impl Sidecar {
    fn listed(&mut self, informer: &Informer, caller: &Caller) {
        let list = informer.list("n", caller.connection);
        let list = list.expect("it is known").into_iter();
        let mine = list.filter(|entry| entry.in_scope("cart"));
        self.0 = mine
            .map(|entry| (entry.name.clone(), count(&entry)))
            .collect();
    }

    /// Takes all events that have come.
    async fn take(&mut self, subscription: &mut Subscription) {
        let at_once = Duration::from_nanos(1);
        while let Ok(event) = tokio::time::timeout(at_once, subscription.next()).await {
            let event = event.expect("no end");
            let name = event.entry.name.clone();
            if event.kind == EventType::Deleted {
                self.0.remove(&name);
            } else {
                self.0.insert(name, count(&event.entry));
            }
        }
    }
}

fn count(entry: &Entry) -> Value {
    let object: Value = serde_json::from_slice(&entry.json).expect("json");
    object["spec"]["count"].clone()
}

async fn play(fake: &Fake, steps: &[Step], sidecar: &mut Sidecar, events: &mut Subscription) {
    for (count, step) in steps.iter().enumerate() {
        match step {
            Step::Put(name, mine) => {
                let scope = if *mine { "cart" } else { "other" };
                let object = json!({
                    "metadata": {"name": format!("c-{name}"), "namespace": "n"},
                    "spec": {"count": count}, "scopes": [scope],
                });
                fake.put(COMPONENTS, object);
            }
            Step::Remove(name) => fake.remove(COMPONENTS, "n", &format!("c-{name}")),
            Step::Compact => fake.compact(),
            Step::Drop => fake.drop_watches(),
            Step::Fail(verb, fault) => fake.fault(On::verb(verb).times(3), *fault),
            Step::Wait(millis) => tokio::time::sleep(Duration::from_millis(*millis)).await,
            Step::Take => sidecar.take(events).await,
        }
    }
}

/// The sidecar opens its stream and then lists, as ours do, or lists first, as others do; much may happen in between.
async fn simulate(before: &[Step], between: &[Step], after: &[Step], lists_first: bool) {
    let (fake, informer, shutdown) = (
        Fake::new(),
        Informer::new(Kind::Component),
        CancellationToken::new(),
    );
    let cluster = Cluster::new(kubernetes::client::over(fake.service()), "");
    let script = async {
        let app = |app_id: &str, port: u16| Caller {
            namespace: "n".to_owned(),
            app_id: app_id.to_owned(),
            connection: Some(([10, 0, 0, 1], port).into()),
            versioned: false,
        };
        let mut nobody = informer.subscribe(&app("nobody", 1)).expect("open");
        let mut before_it = Sidecar::default();
        play(&fake, before, &mut before_it, &mut nobody).await;
        informer.known().await;
        let (mut sidecar, cart) = (Sidecar::default(), app("cart", 2));
        if lists_first {
            sidecar.listed(&informer, &cart);
            play(&fake, between, &mut before_it, &mut nobody).await;
        }
        let mut events = informer.subscribe(&cart).expect("open");
        if !lists_first {
            play(&fake, between, &mut before_it, &mut nobody).await;
            sidecar.listed(&informer, &cart);
        }
        play(&fake, after, &mut sidecar, &mut events).await;
        fake.heal();
        tokio::time::sleep(LONG).await;
        sidecar.take(&mut events).await;
        let mut there = BTreeMap::new();
        for name in (0..20).map(|index| format!("c-{index}")) {
            let object = fake.object(COMPONENTS, "n", &name);
            if let Some(object) = object.filter(|object| object["scopes"] == json!(["cart"])) {
                there.insert(name, object["spec"]["count"].clone());
            }
        }
        assert_eq!(sidecar.0, there);
        shutdown.cancel();
    };
    let run = informer.clone().run(cluster, shutdown.clone());
    let (ended, ()) = tokio::join!(run, script);
    ended.expect("no error");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_sidecar_knows_in_the_end_what_there_is(
        before in prop::collection::vec(step(), 0..20),
        between in prop::collection::vec(step(), 0..10),
        after in prop::collection::vec(step(), 1..60),
        lists_first in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(simulate(&before, &between, &after, lists_first));
    }
}
