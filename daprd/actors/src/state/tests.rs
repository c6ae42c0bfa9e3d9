//! State over the store in memory.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use blocks::{Declared, Owner, registry};
use component::{Catalog, Instance, Lent};
use component_conformance::Tasks;
use resiliency::Policies;
use telemetry::{Meter, MetricOptions};

use super::*;
use blocks::state::FOR_ACTORS;

async fn state(ttl: bool, fields: &[(&str, &str)]) -> State {
    let mut catalog = Catalog::default();
    component_builtin::register(&mut catalog).expect("a store in memory");
    let meter = Meter::new(&prometheus::Registry::new(), MetricOptions::default())
        .expect("a store in memory");
    let policies = Policies::compile(&[], meter.clone()).expect("a store in memory");
    let options = registry::Options {
        catalog: Arc::new(catalog),
        namespace: "ns".into(),
        policies: Arc::new(ArcSwap::new(policies)),
        meter,
    };
    let stores = Stores::new(options, "shop".into(), true);
    let declared = Declared {
        name: "store".into(),
        component_type: "state.in-memory".into(),
        version: "v1".into(),
        metadata: fields.iter().copied().collect(),
        names_namespace: false,
        init_timeout: Duration::from_secs(5),
        instance: Arc::new(Instance::default()),
        tasks: Arc::new(Tasks::default()),
        lent: Lent::default(),
    };
    stores.apply(declared).await.expect("a store in memory");
    State::new(Options {
        app_id: "shop".into(),
        stores,
        ttl,
    })
}

fn actor() -> ActorId {
    ActorId {
        kind: "cart".into(),
        id: "1".into(),
    }
}

fn upsert(key: &str, metadata: &[(&str, &str)]) -> Step {
    let metadata = metadata.iter();
    Step::Upsert {
        key: key.into(),
        value: "1".into(),
        etag: None,
        metadata: metadata
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
    }
}

#[tokio::test]
async fn keys_stand_below_the_actor_without_the_prefix_of_the_store() {
    let fields = [(FOR_ACTORS, "true"), ("keyPrefix", "none")];
    let state = state(false, &fields).await;
    let steps = vec![upsert("a", &[]), upsert("b", &[])];
    state.transact(&actor(), steps).await.unwrap();
    let raw = state.stores.raw("store");
    let read = GetRequest {
        key: "shop||cart||1||a".into(),
        ..GetRequest::default()
    };
    assert!(raw.get(&read).await.unwrap().is_some());
    assert_eq!(state.get(&actor(), "a").await.unwrap().unwrap().value, "1");
    let delete = Step::Delete {
        key: "a".into(),
        etag: None,
    };
    state.transact(&actor(), vec![delete]).await.unwrap();
    assert_eq!(state.get(&actor(), "a").await.unwrap(), None);
    let keys = ["a", "b"].map(str::to_owned);
    let found = state.bulk_get(&actor(), &keys).await.unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), ["b"]);
}

#[tokio::test]
async fn values_expire_where_the_feature_is_on() {
    let ttl = vec![upsert("a", &[(TTL, "60")])];
    let off = state(false, &[(FOR_ACTORS, "true")]).await;
    let refused = off.transact(&actor(), ttl.clone()).await;
    assert!(matches!(refused, Err(Error::Malformed(_))), "{refused:?}");
    let on = state(true, &[(FOR_ACTORS, "true")]).await;
    on.transact(&actor(), ttl).await.unwrap();
    let item = on.get(&actor(), "a").await.unwrap().unwrap();
    assert!(item.metadata.contains_key("ttlExpireTime"), "{item:?}");
}

#[tokio::test]
async fn a_store_must_be_for_actors_and_steps_must_have_keys() {
    let other = state(false, &[]).await;
    assert!(matches!(other.check(), Err(Error::NoStore)));
    let state = state(false, &[(FOR_ACTORS, "true")]).await;
    state.check().unwrap();
    let refused = state.transact(&actor(), vec![upsert("", &[])]).await;
    assert!(matches!(refused, Err(Error::Malformed(text)) if text == "missing key"));
}
