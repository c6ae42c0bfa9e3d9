//! A broker in a process of its own.

mod flow;
mod subscription;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use component::{
    Component, Error, ErrorKind, Open, PubSub, Result, Spawn,
    pubsub::{
        BulkPublishRequest, BulkResult, Capabilities, Capability, Deliveries, PublishRequest,
        SubscribeRequest, publish_each,
    },
};
use proto::components::v1::{self as pb, pub_sub_client::PubSubClient};

use crate::{
    failure,
    handle::{Handle, declared},
    socket::{Caller, Socket},
};
use flow::Flow;

/// The broker behind one component resource. Several may share a socket.
pub struct Pluggable {
    handle: Arc<Handle<PubSubClient<Caller>>>,
    flow: Arc<Flow>,
    name: String,
    capabilities: Capabilities,
    tasks: Arc<dyn Spawn>,
}

impl Pluggable {
    /// Hands the metadata over and asks what the broker can do.
    ///
    /// # Errors
    /// The broker's; or the name of the component does not fit into a header.
    pub async fn open(socket: Socket, open: Open) -> Result<Self> {
        let handle = Arc::new(Handle::open(socket, &open).await?);
        let features = handle.features().await?;
        Ok(Self {
            flow: Arc::new(Flow::new(Arc::clone(&handle))),
            handle,
            name: open.name,
            capabilities: declared(&features),
            tasks: open.tasks,
        })
    }
}

#[async_trait]
impl Component for Pluggable {
    async fn ping(&self) -> Result<()> {
        self.handle.ping().await
    }

    async fn close(&self) {
        self.handle.close().await;
    }
}

impl Drop for Pluggable {
    fn drop(&mut self) {
        self.handle.end();
    }
}

#[async_trait]
impl PubSub for Pluggable {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    async fn publish(&self, request: &PublishRequest) -> Result<()> {
        let request = pb::PublishRequest {
            data: request.data.clone(),
            pubsub_name: self.name.clone(),
            topic: request.topic.clone(),
            metadata: request.metadata.clone(),
            ..pb::PublishRequest::default()
        };
        let answer = self.handle.client().await?.publish(request).await;
        answer.map(drop).map_err(failure::plain)
    }

    async fn bulk_publish(&self, request: &BulkPublishRequest) -> Result<Vec<BulkResult>> {
        if !self.capabilities.contains(Capability::BulkPublish) {
            return Ok(publish_each(self, request).await);
        }
        let entries = request.entries.iter().map(|entry| pb::BulkMessageEntry {
            entry_id: entry.entry_id.clone(),
            event: entry.data.clone(),
            content_type: entry.content_type.clone(),
            metadata: entry.metadata.clone(),
        });
        let bulk = pb::BulkPublishRequest {
            entries: entries.collect(),
            pubsub_name: self.name.clone(),
            topic: request.topic.clone(),
            metadata: request.metadata.clone(),
        };
        let answer = self.handle.client().await?.bulk_publish(bulk).await;
        let failed = answer.map_err(failure::plain)?.into_inner().failed_entries;
        Ok(results(request, failed))
    }

    async fn subscribe(&self, request: SubscribeRequest) -> Result<Deliveries> {
        let (deliveries, run) = subscription::open(&self.handle, &self.flow, request).await?;
        let run = self.handle.hold(run);
        self.tasks.spawn(&self.name, Box::pin(run));
        Ok(deliveries)
    }
}

/// A result per entry, in order: those that the broker does not name have been published.
fn results(
    request: &BulkPublishRequest,
    failed: Vec<pb::BulkPublishResponseFailedEntry>,
) -> Vec<BulkResult> {
    let failed = failed
        .into_iter()
        .map(|entry| (entry.entry_id, entry.error));
    let mut failed: BTreeMap<String, String> = failed.collect();
    let mut result = |entry_id: &String| match failed.remove(entry_id) {
        Some(problem) => Err(Error::new(ErrorKind::Internal, problem)),
        None => Ok(()),
    };
    let entries = request.entries.iter().map(|entry| BulkResult {
        result: result(&entry.entry_id),
        entry_id: entry.entry_id.clone(),
    });
    entries.collect()
}
