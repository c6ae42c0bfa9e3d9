//! Subscriptions on a store that is a fake: what becomes of them when it is replaced, ended and drained.

use std::{pin::pin, time::Duration};

use app_channel::Protocol;
use arc_swap::ArcSwap;
use component::{
    Component, Instance, Lent, Metadata, Registration as Registered,
    configuration::{Item, UpdateSender, Updates, updates},
};
use component_conformance::Tasks;
use resiliency::Policies;
use telemetry::{GrpcMetrics, HttpMetrics, Meter, MetricOptions, http_metrics::HttpOptions};

use super::*;

/// Tells everybody who follows what it is told.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<Vec<UpdateSender>>>);

#[async_trait]
impl Component for Store {
    async fn close(&self) {
        self.0.lock().clear();
    }
}

fn items(value: &str) -> Items {
    let item = Item {
        value: value.to_owned(),
        ..Item::default()
    };
    Items::from([("k".to_owned(), item)])
}

#[async_trait]
impl Configuration for Store {
    async fn get(&self, _: &Request) -> component::Result<Items> {
        Ok(items("current"))
    }

    async fn subscribe(&self, _: &Request) -> component::Result<Updates> {
        let (sender, updates) = updates(1);
        self.0.lock().push(sender);
        Ok(updates)
    }
}

impl Store {
    async fn tell(&self, value: &str) {
        let senders = self.0.lock().clone();
        for sender in senders {
            assert!(sender.send(items(value)).await, "nobody follows");
        }
    }
}

/// An engine whose every opened store is this one.
fn engine(store: &Store) -> Engine {
    let store = store.clone();
    let mut catalog = component::Catalog::default();
    let fake = Registered::new("test", "fake", component::Fields::default());
    let added = catalog.configuration.add(fake, move |_| {
        let store = store.clone();
        async move { Ok(Arc::new(store) as Arc<dyn Configuration>) }
    });
    added.unwrap();
    let meter = Meter::new(&prometheus::Registry::new(), MetricOptions::default()).unwrap();
    let (app, _) = AppChannel::new(app_channel::Options {
        app_id: "app".into(),
        port: None,
        address: "127.0.0.1".into(),
        protocol: Protocol::Http,
        token: None,
        max_concurrency: None,
        pipeline: Arc::default(),
        max_message: 4 << 20,
        health: None,
        http_metrics: HttpMetrics::new(&meter, &HttpOptions::default()).unwrap(),
        grpc_metrics: GrpcMetrics::new(&meter),
    });
    let policies = Policies::compile(&[], meter.clone()).unwrap();
    Engine::new(Options {
        registry: registry::Options {
            catalog: Arc::new(catalog),
            namespace: "ns".into(),
            policies: Arc::new(ArcSwap::new(policies)),
            meter,
        },
        app,
        spawn: Arc::new(Tasks::default()),
    })
}

fn declared() -> Declared {
    Declared {
        name: "settings".into(),
        component_type: "configuration.fake".into(),
        version: "v1".into(),
        metadata: Metadata::default(),
        names_namespace: false,
        init_timeout: Duration::from_secs(5),
        instance: Arc::new(Instance::default()),
        tasks: Arc::new(Tasks::default()),
        lent: Lent::default(),
    }
}

async fn next(followed: &mut Followed) -> String {
    let next = tokio::time::timeout(Duration::from_secs(60), followed.next()).await;
    next.expect("in time").expect("a change")["k"].value.clone()
}

#[tokio::test(start_paused = true)]
async fn a_subscription_goes_on_with_the_component_that_replaces_its_own() {
    let store = Store::default();
    let engine = engine(&store);
    let missing = engine.follow("settings", Request::default()).await;
    assert!(matches!(missing.err(), Some(Error::NotConfigured)));
    engine.apply(declared()).await.unwrap();
    let mut followed = engine.follow("settings", Request::default()).await.unwrap();
    store.tell("1").await;
    assert_eq!(next(&mut followed).await, "1");

    // Meanwhile there is none of that name, and what may have changed by then is told.
    engine.remove("settings").await;
    {
        let waits = tokio::time::timeout(Duration::from_secs(5), followed.next());
        assert!(waits.await.is_err(), "something was told");
    }
    engine.apply(declared()).await.unwrap();
    assert_eq!(next(&mut followed).await, "current");
    store.tell("2").await;
    assert_eq!(next(&mut followed).await, "2");
}

#[tokio::test]
async fn a_subscription_ends_once_and_its_place_is_free() {
    let store = Store::default();
    let engine = engine(&store);
    engine.apply(declared()).await.unwrap();
    let mut all = Vec::new();
    for _ in 0..MOST_SUBSCRIPTIONS {
        all.push(engine.follow("settings", Request::default()).await.unwrap());
    }
    let more = engine.follow("settings", Request::default()).await;
    assert!(matches!(more.err(), Some(Error::TooMany { .. })));
    let mut first = all.swap_remove(0);
    let id = first.id().to_owned();
    let other = engine.end(Some("other"), &id).await;
    assert!(matches!(other, Err(Error::NotFound { .. })));
    engine.end(Some("settings"), &id).await.unwrap();
    assert_eq!(first.next().await, None);
    drop(first);
    let again = engine.end(None, &id).await;
    assert!(matches!(again, Err(Error::NoSubscription { .. })));
    engine.follow("settings", Request::default()).await.unwrap();
}

#[tokio::test]
async fn a_sidecar_that_ends_ends_what_is_followed() {
    let store = Store::default();
    let engine = engine(&store);
    engine.apply(declared()).await.unwrap();
    let no_app = engine.follow_for_app("settings", Request::default()).await;
    assert!(matches!(no_app, Err(Error::NoApp)));
    let mut followed = engine.follow("settings", Request::default()).await.unwrap();
    let mut waits = pin!(followed.next());
    assert!(futures::poll!(&mut waits).is_pending());
    engine.drain().await;
    assert_eq!(waits.await, None);
    let late = engine.follow("settings", Request::default()).await;
    assert!(matches!(late.err(), Some(Error::Closed)));
}
