//! Which subscriptions are begun and ended when what is wanted changes.

use arc_swap::ArcSwap;
use async_trait::async_trait;
use component::{
    Component, PubSub, Result,
    pubsub::{Capabilities, Deliveries, PublishRequest, SubscribeRequest},
};
use resiliency::Policies;
use telemetry::{Meter, MetricOptions};

use super::*;
use crate::{
    StreamRequest,
    brokers::{self, Topics},
    scopes::Scopes,
};

struct Nothing;

impl Component for Nothing {}

#[async_trait]
impl PubSub for Nothing {
    fn capabilities(&self) -> Capabilities {
        Capabilities::EMPTY
    }

    async fn publish(&self, _: &PublishRequest) -> Result<()> {
        Ok(())
    }

    async fn subscribe(&self, _: SubscribeRequest) -> Result<Deliveries> {
        std::future::pending().await
    }
}

fn broker() -> Arc<Broker> {
    let meter = Meter::new(&prometheus::Registry::new(), MetricOptions::default()).unwrap();
    let policies = Policies::compile(&[], meter.clone()).unwrap();
    let brokers = brokers::new(blocks::registry::Options {
        catalog: Arc::default(),
        namespace: String::new(),
        policies: Arc::new(ArcSwap::new(policies)),
        meter,
    });
    let listed = blocks::Listed {
        name: "bus".into(),
        component_type: "pubsub.nothing".into(),
        version: "v1".into(),
        capabilities: Vec::new(),
    };
    let topics = Topics {
        scopes: Scopes::parse(&component::Metadata::default(), "app"),
        prefix: String::new(),
    };
    assert!(brokers.swap(listed, Arc::new(Nothing), topics).is_none());
    brokers.find("bus").ok().unwrap()
}

fn wanted(broker: &Arc<Broker>, topic: &str) -> Wanted {
    let request = StreamRequest {
        pubsub: "bus".into(),
        topic: topic.into(),
        ..StreamRequest::default()
    };
    Wanted {
        key: Key::App {
            pubsub: "bus".into(),
            topic: topic.into(),
        },
        broker: Arc::clone(broker),
        subscription: Arc::new(Subscription::streaming(request)),
        target: Target::App,
    }
}

/// What `reconcile` has asked to open: topic, and how many it is to wait for.
type Begun = Vec<(String, usize)>;

fn reconcile(consumers: &mut Consumers, wanted: Vec<Wanted>, how: Mode) -> Begun {
    let mut begun = Vec::new();
    consumers.reconcile(
        wanted,
        |_| End {
            mode: how,
            is_withdrawn: false,
        },
        |wanted, before| {
            begun.push((wanted.subscription.topic.clone(), before.len()));
            Open {
                key: wanted.key,
                broker: wanted.broker,
                subscription: wanted.subscription,
                control: Control {
                    mode: watch::Sender::new(Mode::Run),
                    phase: watch::Sender::new(Phase::Opening).subscribe(),
                    withdrawn: CancellationToken::new(),
                    ended: CancellationToken::new(),
                },
            }
        },
    );
    begun
}

fn mode(control: &Control) -> Mode {
    *control.mode.borrow()
}

#[test]
fn only_what_changes_is_opened_and_ended() {
    let (mut consumers, broker) = (Consumers::default(), broker());
    let both = || vec![wanted(&broker, "a"), wanted(&broker, "b")];
    let begun = reconcile(&mut consumers, both(), Mode::Drain);
    assert_eq!(begun, [("a".into(), 0), ("b".into(), 0)]);
    assert!(reconcile(&mut consumers, both(), Mode::Drain).is_empty());
    let one = vec![wanted(&broker, "b")];
    assert!(reconcile(&mut consumers, one, Mode::Drain).is_empty());
    assert_eq!(consumers.open.len(), 1);
    assert_eq!(mode(&consumers.ending[0].control), Mode::Drain);
}

#[test]
fn a_new_one_waits_for_all_that_came_before_it() {
    let mut consumers = Consumers::default();
    reconcile(&mut consumers, vec![wanted(&broker(), "a")], Mode::Drain);
    let replaced = vec![wanted(&broker(), "a"), wanted(&broker(), "other")];
    let begun = reconcile(&mut consumers, replaced, Mode::Drain);
    assert_eq!(begun, [("a".into(), 1), ("other".into(), 0)]);
    let begun = reconcile(&mut consumers, vec![wanted(&broker(), "a")], Mode::Drain);
    assert_eq!(begun, [("a".into(), 2)]);
    consumers
        .ending
        .iter()
        .for_each(|one| one.control.ended.cancel());
    let begun = reconcile(&mut consumers, vec![wanted(&broker(), "a")], Mode::Drain);
    assert_eq!(begun, [("a".into(), 1)]);
}

#[test]
fn one_that_ended_by_itself_is_opened_again() {
    let (mut consumers, broker) = (Consumers::default(), broker());
    reconcile(&mut consumers, vec![wanted(&broker, "a")], Mode::Drain);
    consumers.open[0].control.ended.cancel();
    let begun = reconcile(&mut consumers, vec![wanted(&broker, "a")], Mode::Drain);
    assert_eq!(begun, [("a".into(), 0)]);
}

#[test]
fn an_end_is_hastened_and_never_taken_back() {
    let (mut consumers, broker) = (Consumers::default(), broker());
    reconcile(&mut consumers, vec![wanted(&broker, "a")], Mode::Drain);
    reconcile(&mut consumers, Vec::new(), Mode::Drain);
    let ending = &consumers.ending[0].control;
    ending.set(Mode::Run);
    assert_eq!(mode(ending), Mode::Drain);
    consumers.hasten(Mode::Leave);
    assert_eq!(mode(&consumers.ending[0].control), Mode::Leave);
}
