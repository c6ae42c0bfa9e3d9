//! The registry with a catalog of its own, whose stores open, fail and end as a test says.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use component::{Error, SecretStore, secrets::Secret};
use telemetry::MetricOptions;

use super::*;

static KIND: Kind<dyn SecretStore> = Kind {
    prefix: "secretstores.",
    calls: Some(Called {
        metrics: Some("secret"),
        policies: ComponentKind::Secretstore,
    }),
    family: |catalog| &catalog.secrets,
};

#[derive(Default)]
struct Store {
    closed: Arc<AtomicBool>,
}

#[async_trait]
impl Component for Store {
    async fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }
}

#[async_trait]
impl SecretStore for Store {
    fn capabilities(&self) -> component::secrets::Capabilities {
        Default::default()
    }

    async fn secret(&self, name: &str, _: &BTreeMap<String, String>) -> component::Result<Secret> {
        assert!(name != "panic", "as asked");
        Ok(Secret::from([(name.to_owned(), name.to_owned())]))
    }

    async fn all(
        &self,
        _: &BTreeMap<String, String>,
    ) -> component::Result<BTreeMap<String, Secret>> {
        Err(Error::unsupported("listing"))
    }
}

fn registry() -> Registry<dyn SecretStore> {
    let meter = Meter::new(&prometheus::Registry::new(), MetricOptions::default()).unwrap();
    let policies = Policies::compile(&[], meter.clone()).unwrap();
    Registry::new(
        &KIND,
        Options {
            catalog: Arc::default(),
            namespace: "ns".to_owned(),
            policies: Arc::new(ArcSwap::new(policies)),
            meter,
        },
    )
}

fn listed(name: &str) -> Listed {
    Listed {
        name: name.to_owned(),
        component_type: "secretstores.test".to_owned(),
        version: "v1".to_owned(),
        capabilities: Vec::new(),
    }
}

#[tokio::test]
async fn a_missing_component_says_whether_there_are_others() {
    let registry = registry();
    assert_eq!(registry.find("a").err(), Some(Missing::NotConfigured));
    registry
        .replace(listed("a"), Arc::new(Store::default()), ())
        .await;
    assert_eq!(registry.find("b").err(), Some(Missing::NotFound));
    assert!(registry.find("a").is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_replaced_component_is_closed_after_its_last_call() {
    let registry = registry();
    let store = Store::default();
    let closed = Arc::clone(&store.closed);
    registry.replace(listed("a"), Arc::new(store), ()).await;
    let in_use = registry.find("a").unwrap();
    let mut changes = registry.changes();
    let replacing = registry.replace(listed("a"), Arc::new(Store::default()), ());
    let calling = async {
        changes.changed().await.unwrap();
        assert!(!closed.load(Ordering::SeqCst), "it still has a call");
        drop(in_use);
    };
    futures::future::join(replacing, calling).await;
    assert!(closed.load(Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_never_ends_does_not_keep_a_component_open() {
    let registry = registry();
    let store = Store::default();
    let closed = Arc::clone(&store.closed);
    registry.replace(listed("a"), Arc::new(store), ()).await;
    let _in_use = registry.find("a").unwrap();
    registry.close().await;
    assert!(closed.load(Ordering::SeqCst));
    assert!(registry.is_empty());
}

#[tokio::test]
async fn a_panic_is_the_error_of_its_call() {
    let registry = registry();
    registry
        .replace(listed("a"), Arc::new(Store::default()), ())
        .await;
    let loaded = registry.find("a").unwrap();
    let none = BTreeMap::new();
    let call = |name: &'static str| registry.call(&loaded, "get", || loaded.secret(name, &none));
    let error = call("panic").await.unwrap_err();
    assert_eq!(error.message(), "component a panicked in get");
    assert_eq!(call("b").await.unwrap()["b"], "b");
}
