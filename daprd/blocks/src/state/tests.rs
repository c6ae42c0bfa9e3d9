//! What the block asks of a store.

use arc_swap::ArcSwap;
use component::state::{Concurrency, Consistency};
use parking_lot::Mutex;
use resiliency::Policies;
use telemetry::{Meter, MetricOptions};

use super::*;

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
    fn capabilities(&self) -> &'static [Capability] {
        &[]
    }

    async fn get(&self, _: GetRequest) -> component::Result<Option<Item>> {
        self.called("get").map(|()| None)
    }

    async fn set(&self, _: SetRequest) -> component::Result<()> {
        self.called("set")
    }

    async fn delete(&self, _: DeleteRequest) -> component::Result<()> {
        self.called("delete")
    }

    async fn bulk_set(&self, _: Vec<SetRequest>) -> component::Result<()> {
        self.called("bulk_set")
    }

    async fn bulk_delete(&self, _: Vec<DeleteRequest>) -> component::Result<()> {
        self.called("bulk_delete")
    }

    async fn bulk_get(&self, _: Vec<GetRequest>, _: usize) -> component::Result<Vec<BulkItem>> {
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
    let stores = Stores::new(options, "app".to_owned());
    let component = Arc::new(Calling::default());
    let listed = Listed {
        name: "store".to_owned(),
        component_type: "state.fake".to_owned(),
        version: "v1".to_owned(),
        capabilities: Vec::new(),
    };
    let keeping = Keeping {
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
