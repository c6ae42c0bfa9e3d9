//! The transactional outbox (contract 9.7): what a transaction writes to a state store is published if and only if the
//! transaction is committed, whatever dies in between.
//!
//! Store and broker share no transaction, so the store is the witness. For each write an event goes to an internal topic
//! first; then the write is committed together with a marker of the event's id. The relay (`relay.rs`) takes the event
//! from the internal topic, publishes it to the topic of subscribers once it finds the marker, acknowledges it, and only
//! then removes the marker. Wherever the sidecar dies, the broker still has the event, or the marker says that it is out.

mod event;
mod relay;
#[cfg(test)]
mod tests;
mod turns;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use blocks::state;
use component::{
    Metadata,
    state::{Operation, SetRequest},
};
use parking_lot::Mutex;
use telemetry::trace::TraceContext;

use crate::{Engine, Options, cloud_event::Parts};

pub(crate) use turns::Turns;

/// A transaction of the API.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    pub store: String,
    pub operations: Vec<Operation>,
    pub metadata: BTreeMap<String, String>,
    /// Whether the values are JSON, whatever their content type says.
    pub json_values: bool,
    /// The trace that the events carry on.
    pub trace: Option<TraceContext>,
}

/// Why a transaction failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store refused it, or failed.
    #[error(transparent)]
    State(#[from] state::Error),
    /// Its events could not be kept, so it was not tried.
    #[error(transparent)]
    Publish(#[from] crate::Error),
}

/// Transactions whose writes are published, where the store is configured so. Clones are the same.
#[derive(Clone)]
pub struct Outbox(Engine);

impl Outbox {
    pub(crate) fn new(engine: Engine) -> Self {
        Self(engine)
    }

    /// Applies all operations or none; of a store with an outbox, what was written reaches its topic afterwards.
    ///
    /// # Errors
    /// As [`state::Stores::transact`]; with an outbox also those of a publish.
    pub async fn transact(&self, transaction: Transaction) -> Result<(), Error> {
        let options = &self.0.core().options;
        let Transaction {
            store,
            operations,
            metadata,
            ..
        } = transaction;
        let Some(config) = options.state.said(&store, Config::read)? else {
            return Ok(options.state.transact(&store, operations, metadata).await?);
        };
        // Q-outbox-limit: the markers count.
        let count = event::committed(&operations);
        let operations = options.state.kept(&store, operations, count).await?;
        let (mut operations, projections) = event::split(operations);
        // Compat: Q-outbox-encrypted: what the sidecar has sealed is said as it is, and no JSON any more.
        let json_values = transaction.json_values && !options.state.is_encrypted(&store);
        let topic = config.internal_topic(options);
        self.0.relay_begun(&config.via, &topic).await;

        let core = self.0.core();
        let trace = transaction.trace.as_ref();
        let trace_parent = trace.map(TraceContext::traceparent).unwrap_or_default();
        let (mut markers, mut under_way) = (Vec::new(), Vec::new());
        for write in writes(&operations) {
            let marker = event::new_marker();
            let parts = Parts {
                app_id: &options.app_id,
                pubsub: &config.pubsub,
                topic: &config.topic,
                content_type: "",
                trace_parent: &trace_parent,
                trace_state: trace.and_then(TraceContext::tracestate).unwrap_or_default(),
            };
            let said = projections.get(&write.key).unwrap_or(write);
            let payload = event::Payload::of(said, json_values);
            let event = payload.event(parts, &marker, &write.metadata, core.clock.now());
            under_way.push(core.under_way.begin(&marker));
            core.publish_event(&config.via, &topic, event).await?;
            markers.push(event::mark(marker));
        }
        operations.append(&mut markers);
        let raw = options.state.raw(&store);
        Ok(raw.transact(&operations, &metadata).await?)
    }
}

fn writes(operations: &[Operation]) -> impl Iterator<Item = &SetRequest> {
    operations.iter().filter_map(|operation| match operation {
        Operation::Upsert(write) => Some(write),
        Operation::Delete(_) => None,
    })
}

/// What the metadata of a store say of its outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Config {
    /// Where subscribers are.
    pubsub: String,
    topic: String,
    /// The component of the internal topic.
    via: String,
    /// Whether an event is given up whose transaction was not committed in time; else it is looked for for ever.
    discards: bool,
}

impl Config {
    /// Nothing where the store has no outbox.
    fn read(metadata: &Metadata) -> Option<Self> {
        let topic = metadata.text("outboxPublishTopic")?;
        let pubsub = metadata.text("outboxPublishPubsub")?;
        let via = metadata.text("outboxPubsub").unwrap_or(pubsub);
        let discards = metadata.boolean(&["outboxDiscardWhenMissingState"]);
        Some(Self {
            pubsub: pubsub.to_owned(),
            topic: topic.to_owned(),
            via: via.to_owned(),
            discards: discards.unwrap_or_default(),
        })
    }

    /// The topic between the transaction and the relay. Sidecars of the same app share it, those of upstream too.
    fn internal_topic(&self, options: &Options) -> String {
        let namespace = match options.registry.namespace.as_str() {
            "" => NO_NAMESPACE,
            given => given,
        };
        format!("{namespace}{}{}outbox", options.app_id, self.topic)
    }
}

/// What stands for the namespace where there is none.
const NO_NAMESPACE: &str = "default";

/// The stores with an outbox.
fn configured(stores: &state::Stores) -> Vec<(String, Config)> {
    let names = stores.names(|metadata| Config::read(metadata).is_some());
    let read = |name: String| {
        let config = stores.said(&name, Config::read).ok().flatten()?;
        Some((name, config))
    };
    names.into_iter().filter_map(read).collect()
}

/// Component and topic of each internal topic. Stores that share one have one relay. Q-outbox-shared
pub(crate) fn internal_topics(options: &Options) -> BTreeSet<(String, String)> {
    let outboxes = configured(&options.state).into_iter();
    outboxes
        .map(|(_, config)| {
            let topic = config.internal_topic(options);
            (config.via, topic)
        })
        .collect()
}

/// The markers of transactions that this sidecar is carrying out. It has an entry for each of their writes, which requests
/// limit.
#[derive(Clone, Default)]
pub(crate) struct UnderWay(Arc<Mutex<HashSet<String>>>);

impl UnderWay {
    /// Says so until what it gives is dropped.
    fn begin(&self, marker: &str) -> Until {
        self.0.lock().insert(marker.to_owned());
        Until {
            all: self.clone(),
            marker: marker.to_owned(),
        }
    }

    fn contains(&self, marker: &str) -> bool {
        self.0.lock().contains(marker)
    }
}

struct Until {
    all: UnderWay,
    marker: String,
}

impl Drop for Until {
    fn drop(&mut self) {
        self.all.0.lock().remove(&self.marker);
    }
}
