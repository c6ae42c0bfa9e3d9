//! Stores as engines use them.

use std::time::Duration;

use arc_swap::ArcSwap;
use component::{
    Catalog, Instance, Lent,
    state::{Concurrency, Consistency, KeysLikeRequest},
};
use component_conformance::Tasks;
use parking_lot::Mutex;
use resiliency::Policies;
use telemetry::{Meter, MetricOptions};

use super::*;
use crate::Listed;

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
    Stores::new(options, "app".into(), true)
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

#[tokio::test]
async fn actors_have_one_store() {
    let stores = stores();
    let named = |name: &str, fields: &[(&str, &str)]| Declared {
        name: name.to_owned(),
        ..declared(fields)
    };
    let theirs = [("ActorStateStore", "yes")];
    stores.apply(named("one", &theirs)).await.unwrap();
    stores.apply(named("one", &theirs)).await.expect("the same");
    stores
        .apply(named("other", &[]))
        .await
        .expect("another one");
    let error = stores.apply(named("two", &theirs)).await.unwrap_err();
    let text = "detected duplicate actor state store: one and two";
    assert!(component::error::chain(&error).contains(text), "{error:?}");
    assert!(stores.check("two").is_err());
    stores.apply(named("one", &[])).await.unwrap();
    stores
        .apply(named("two", &theirs))
        .await
        .expect("now they have none");
}

/// Keeps the names of its calls.
#[derive(Default)]
struct Calling(Mutex<Vec<&'static str>>);

impl Calling {
    fn called(&self, name: &'static str) -> component::Result<()> {
        self.0.lock().push(name);
        Ok(())
    }
}

#[async_trait]
impl component::Component for Calling {}

#[async_trait]
impl StateStore for Calling {
    fn capabilities(&self) -> component::state::Capabilities {
        component::state::Capabilities::EMPTY
    }

    async fn get(&self, _: &GetRequest) -> component::Result<Option<Item>> {
        self.called("get").map(|()| None)
    }

    async fn set(&self, _: &SetRequest) -> component::Result<()> {
        self.called("set")
    }

    async fn delete(&self, _: &DeleteRequest) -> component::Result<()> {
        self.called("delete")
    }

    async fn bulk_set(&self, _: &[SetRequest]) -> component::Result<()> {
        self.called("bulk_set")
    }

    async fn bulk_delete(&self, _: &[DeleteRequest]) -> component::Result<()> {
        self.called("bulk_delete")
    }

    async fn bulk_get(&self, _: &[GetRequest], _: usize) -> component::Result<Vec<BulkItem>> {
        self.called("bulk_get").map(|()| Vec::new())
    }
}

fn save(key: &str) -> SetRequest {
    SetRequest {
        key: key.to_owned(),
        value: "v".into(),
        etag: None,
        metadata: BTreeMap::new(),
        concurrency: Concurrency::Unspecified,
        consistency: Consistency::Unspecified,
        content_type: None,
    }
}

fn delete(key: &str) -> DeleteRequest {
    DeleteRequest {
        key: key.to_owned(),
        etag: None,
        metadata: BTreeMap::new(),
        concurrency: Concurrency::Unspecified,
        consistency: Consistency::Unspecified,
    }
}

fn get(key: &str) -> GetRequest {
    GetRequest {
        key: key.to_owned(),
        metadata: BTreeMap::new(),
        consistency: Consistency::Unspecified,
    }
}

/// As in upstream, where it holds for writes and not for reads.
#[tokio::test]
async fn writing_one_item_in_bulk_is_the_single_call() {
    let meter = Meter::new(&prometheus::Registry::new(), MetricOptions::default()).unwrap();
    let policies = Policies::compile(&[], meter.clone()).unwrap();
    let options = registry::Options {
        catalog: Arc::default(),
        namespace: String::new(),
        policies: Arc::new(ArcSwap::new(policies)),
        meter,
    };
    let stores = Stores::new(options, "app".to_owned(), false);
    let component = Arc::new(Calling::default());
    let listed = Listed {
        name: "store".to_owned(),
        component_type: "state.fake".to_owned(),
        version: "v1".to_owned(),
        capabilities: Vec::new(),
    };
    let keeping = Keeping {
        metadata: component::Metadata::default(),
        prefix: KeyPrefix::parse(None, "store", "app", "").unwrap(),
        encryption: None,
    };
    let registry = &stores.0.registry;
    registry.replace(listed, component.clone(), keeping).await;
    stores.save("store", vec![save("a")]).await.unwrap();
    let two = vec![save("a"), save("b")];
    stores.save("store", two).await.unwrap();
    let one = vec![delete("a")];
    stores.bulk_delete("store", one).await.unwrap();
    let two = vec![delete("a"), delete("b")];
    stores.bulk_delete("store", two).await.unwrap();
    stores.bulk_get("store", vec![get("a")], 0).await.unwrap();
    let expected = ["set", "bulk_set", "delete", "bulk_delete", "bulk_get"];
    assert_eq!(*component.0.lock(), expected);
}
