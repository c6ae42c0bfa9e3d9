//! Publish, CloudEvents, subscriptions, routing, bulk, dead letter, streaming.

use std::{collections::BTreeMap, future::Future, sync::Arc};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use blocks::{Declared, LoadError, Owner};
use bytes::Bytes;
use component::{Catalog, pubsub::Outcome};
use proto::runtime::v1::TopicEventRequest;
use resiliency::Policies;
use telemetry::{Meter, trace::TraceContext, trace::Tracer};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("pubsub is not configured")]
    NotConfigured,
    #[error("pubsub name is empty")]
    NameEmpty,
    #[error("pubsub {pubsub} is not found")]
    NotFound { pubsub: String },
    #[error("topic is empty in pubsub {pubsub}")]
    TopicEmpty { pubsub: String },
    #[error("topic {topic} is not allowed for app id {app_id}")]
    Forbidden { topic: String, app_id: String },
    #[error("{problem}")]
    Metadata { problem: String },
    #[error("{problem}")]
    CloudEvent { problem: String },
    #[error("{problem}")]
    Subscription { problem: String },
    #[error("{}", component::error::chain(.0))]
    Component(#[source] component::Error),
}

pub struct Options {
    pub catalog: Arc<Catalog>,
    pub app_id: String,
    pub namespace: String,
    pub policies: Arc<ArcSwap<Policies>>,
    pub meter: Meter,
    pub tracer: Tracer,
    pub app: app_channel::AppChannel,
}

#[derive(Clone, Debug, Default)]
pub struct Publish {
    pub pubsub: String,
    pub topic: String,
    pub data: Bytes,
    pub content_type: String,
    pub metadata: BTreeMap<String, String>,
    pub trace: Option<TraceContext>,
}
#[derive(Clone, Debug, Default)]
pub struct BulkEntry {
    pub entry_id: String,
    pub data: Bytes,
    pub content_type: String,
    pub metadata: BTreeMap<String, String>,
}
#[derive(Clone, Debug, Default)]
pub struct BulkPublish {
    pub pubsub: String,
    pub topic: String,
    pub entries: Vec<BulkEntry>,
    pub metadata: BTreeMap<String, String>,
    pub trace: Option<TraceContext>,
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub entry_id: String,
    pub error: String,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionKind {
    Declarative,
    Programmatic,
    Streaming,
}
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub pubsub: String,
    pub topic: String,
    pub metadata: BTreeMap<String, String>,
    pub rules: Vec<(String, String)>,
    pub dead_letter_topic: String,
    pub kind: SubscriptionKind,
}
#[derive(Clone, Debug, Default)]
pub struct StreamRequest {
    pub pubsub: String,
    pub topic: String,
    pub metadata: BTreeMap<String, String>,
    pub dead_letter_topic: String,
}
pub struct Streaming {
    pub events: mpsc::Receiver<TopicEventRequest>,
}
impl Streaming {
    pub fn acknowledge(&self, id: &str, outcome: Outcome) {
        let _ = (id, outcome);
    }
}

#[derive(Clone)]
pub struct Engine(Arc<Options>);

impl Engine {
    pub fn new(options: Options) -> (Self, Run) {
        let engine = Self(Arc::new(options));
        (engine.clone(), Run(engine))
    }
    pub fn check(&self, _pubsub: &str, _topic: &str) -> Result<(), Error> {
        let _ = &self.0;
        Err(Error::NotConfigured)
    }
    pub async fn publish(&self, _publish: Publish) -> Result<(), Error> {
        Err(Error::NotConfigured)
    }
    pub async fn bulk_publish(&self, _publish: BulkPublish) -> Result<Vec<Failed>, Error> {
        Err(Error::NotConfigured)
    }
    pub fn subscriptions(&self) -> Vec<Listed> {
        Vec::new()
    }
    pub fn apply_subscription(&self, _subscription: crds::Subscription) -> Result<(), Error> {
        Ok(())
    }
    pub fn remove_subscription(&self, _name: &str) {}
    pub async fn start(&self) {}
    pub async fn stop(&self) {}
    pub async fn stream(&self, _request: StreamRequest) -> Result<Streaming, Error> {
        Err(Error::NotConfigured)
    }
}

pub struct Run(Engine);
impl Run {
    pub fn run(self, shutdown: CancellationToken) -> impl Future<Output = ()> + Send {
        async move {
            let _engine = self.0;
            shutdown.cancelled().await;
        }
    }
}

#[async_trait]
impl Owner for Engine {
    fn prefix(&self) -> &'static str {
        "pubsub."
    }
    async fn apply(&self, _declared: Declared) -> Result<(), LoadError> {
        Ok(())
    }
    async fn remove(&self, _name: &str) {}
    fn components(&self) -> Vec<blocks::Listed> {
        Vec::new()
    }
    async fn close(&self) {}
}
