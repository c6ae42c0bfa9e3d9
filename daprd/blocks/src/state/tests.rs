//! Stores as engines use them.

use std::time::Duration;

use arc_swap::ArcSwap;
use component::{Catalog, Instance, Lent, state::KeysLikeRequest};
use component_conformance::Tasks;
use resiliency::Policies;
use telemetry::{Meter, MetricOptions};

use super::*;

fn stores() -> Stores {
    let mut catalog = Catalog::default();
    component_builtin::register(&mut catalog).unwrap();
    let meter = Meter::new(&prometheus::Registry::new(), MetricOptions::default()).unwrap();
    let policies = Policies::compile(&[], meter.clone()).unwrap();
    let options = registry::Options {
        catalog: Arc::new(catalog),
        namespace: "ns".into(),
        policies: Arc::new(ArcSwap::new(policies)),
        meter,
    };
    Stores::new(options, "app".into())
}

fn declared(fields: &[(&str, &str)]) -> Declared {
    Declared {
        name: "store".into(),
        component_type: "state.in-memory".into(),
        version: "v1".into(),
        metadata: fields.iter().copied().collect(),
        names_namespace: false,
        init_timeout: Duration::from_secs(5),
        instance: Arc::new(Instance::default()),
        tasks: Arc::new(Tasks::default()),
        lent: Lent::default(),
    }
}

fn set(key: &str) -> SetRequest {
    SetRequest {
        key: key.to_owned(),
        value: "v".into(),
        ..SetRequest::default()
    }
}

#[tokio::test]
async fn a_raw_store_keeps_keys_as_they_are() {
    let stores = stores();
    let key = "0a".repeat(16);
    let fields = [("primaryEncryptionKey", &*key), ("actorStateStore", "true")];
    stores.apply(declared(&fields)).await.unwrap();
    let raw = stores.raw("store");
    let operations = ["app||a", "app||b"].map(|key| Operation::Upsert(set(key)));
    raw.transact(&operations, &BTreeMap::new()).await.unwrap();
    let read = GetRequest {
        key: "app||a".into(),
        ..GetRequest::default()
    };
    let item = raw.get(&read).await.unwrap().unwrap();
    assert_eq!(&item.value[..], b"v", "neither prefixed nor encrypted");
    stores.save("store", vec![set("c")]).await.unwrap();
    let request = KeysLikeRequest {
        pattern: "app||%".into(),
        ..KeysLikeRequest::default()
    };
    let page = raw.keys_like(&request).await.unwrap();
    assert_eq!(page.keys, ["app||a", "app||b", "app||c"]);
    assert_eq!(raw.delete_with_prefix("app||").await.unwrap(), 3);
    let rows = raw.bulk_get(&[read], 0).await.unwrap();
    assert!(rows[0].result.as_ref().unwrap().is_none());
}

#[tokio::test]
async fn a_raw_store_tells_what_it_is_and_when_that_changes() {
    let stores = stores();
    let mut raw = stores.raw("store");
    assert!(matches!(raw.metadata(), Err(Error::NotConfigured { .. })));
    let fields = [("actorStateStore", "true"), ("outboxPublishTopic", "t")];
    stores.apply(declared(&fields)).await.unwrap();
    raw.changed().await;
    let metadata = raw.metadata().unwrap();
    assert_eq!(metadata.text("outboxpublishtopic"), Some("t"));
    assert!(raw.capabilities().unwrap().contains(Capability::Etag));
    let for_actors = |it: &Metadata| it.boolean(&["actorStateStore"]) == Some(true);
    assert_eq!(stores.names(for_actors), ["store"]);

    let nothing = tokio::time::timeout(Duration::ZERO, raw.changed()).await;
    assert!(nothing.is_err(), "nothing has changed since");
    stores.apply(declared(&[])).await.unwrap();
    raw.changed().await;
    assert!(stores.names(for_actors).is_empty());
    stores.remove("store").await;
    raw.changed().await;
    assert!(raw.metadata().is_err());
}
