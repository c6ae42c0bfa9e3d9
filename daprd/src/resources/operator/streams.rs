//! What the operator tells as it happens: a stream for each kind.

use std::time::Duration;

use anyhow::{Result, bail};
use crds::{Component, HttpEndpoint, McpServer, Resiliency, Subscription, WorkflowAccessPolicy};
use futures::{
    StreamExt, TryStreamExt, future,
    stream::{self, BoxStream, SelectAll},
};
use proto::operator::v1::{
    ComponentUpdateRequest, ConfigurationUpdateRequest, HttpEndpointUpdateRequest,
    McpServerUpdateRequest, ResiliencyUpdateRequest, SubscriptionUpdateRequest,
    WorkflowAccessPolicyUpdateRequest,
};
use tonic::{Code, Status};

use super::{
    Operator,
    read::{configured, happened},
};
use crate::resources::desired::Event;

/// An event that comes this soon after the answer has come with it.
const WITH_ANSWER: Duration = Duration::from_millis(100);

/// The streams of a sidecar: one for each kind that it follows.
pub(super) const STREAMS: usize = 7;

impl Operator {
    /// A stream for each kind, opened side by side: an operator may answer a call only with the first event.
    pub(super) fn streams(&self) -> SelectAll<BoxStream<'static, Result<News>>> {
        let namespace = || self.namespace.clone();
        let mut all = SelectAll::new();
        let mut client = self.client.clone();
        let request = ComponentUpdateRequest {
            namespace: namespace(),
        };
        let components = async move { client.component_update(request).await };
        all.push(opened(components, |event| {
            happened::<Component>(&event.component, event.r#type())
        }));
        let mut client = self.client.clone();
        let request = SubscriptionUpdateRequest {
            namespace: namespace(),
        };
        let subscriptions = async move { client.subscription_update(request).await };
        all.push(opened(subscriptions, |event| {
            happened::<Subscription>(&event.subscription, event.r#type())
        }));
        let mut client = self.client.clone();
        let request = HttpEndpointUpdateRequest {
            namespace: namespace(),
        };
        let endpoints = async move { client.http_endpoint_update(request).await };
        all.push(opened(endpoints, |event| {
            happened::<HttpEndpoint>(&event.http_endpoints, event.r#type())
        }));
        let mut client = self.client.clone();
        let request = McpServerUpdateRequest {
            namespace: namespace(),
        };
        let mcp_servers = async move { client.mcp_server_update(request).await };
        all.push(opened(mcp_servers, |event| {
            happened::<McpServer>(&event.mcp_server, event.r#type())
        }));
        let mut client = self.client.clone();
        let request = WorkflowAccessPolicyUpdateRequest {
            namespace: namespace(),
        };
        let policies = async move { client.workflow_access_policy_update(request).await };
        all.push(opened(policies, |event| {
            happened::<WorkflowAccessPolicy>(&event.policy, event.r#type())
        }));
        let mut client = self.client.clone();
        let request = ResiliencyUpdateRequest {
            namespace: namespace(),
        };
        let resiliencies = async move { client.resiliency_update(request).await };
        all.push(opened(resiliencies, |event| {
            happened::<Resiliency>(&event.resiliency, event.r#type())
        }));
        let mut client = self.client.clone();
        let request = ConfigurationUpdateRequest {
            namespace: namespace(),
        };
        let configurations = async move { client.configuration_update(request).await };
        let own = self.configuration.clone();
        all.push(opened(configurations, move |event| {
            configured(&event.configuration, event.r#type(), own.as_deref())
        }));
        all
    }
}

/// What a stream tells.
pub(super) enum News {
    /// The operator watches: what happens from now on is told, what was before is in the lists.
    Opened,
    Event(Event),
}

/// A stream once the operator has answered the call, event by event. Its end is an error, so that the end of one ends all.
/// An operator that is too old for the call has nothing to tell: the lists at every interval have to do.
fn opened<M: Send + 'static>(
    call: impl Future<Output = Result<tonic::Response<tonic::Streaming<M>>, Status>> + Send + 'static,
    read: impl Fn(M) -> Result<Option<Event>> + Clone + Send + 'static,
) -> BoxStream<'static, Result<News>> {
    let events = async move {
        let mut events = match call.await {
            Ok(answer) => answer.into_inner(),
            Err(status) if status.code() == Code::Unimplemented => {
                let opened = stream::once(async { Ok(News::Opened) });
                return anyhow::Ok(opened.chain(stream::pending()).boxed());
            }
            Err(status) => return Err(status.into()),
        };
        // An operator that answers with the first event has been watching since it was called: the list behind that has
        // been read, or will be.
        let first = match tokio::time::timeout(WITH_ANSWER, events.next()).await {
            Err(_) => Some(News::Opened),
            Ok(Some(event)) => read(event?)?.map(News::Event),
            Ok(None) => None,
        };
        let events = events.map(move |event| read(event?));
        let events = events.try_filter_map(|event| future::ready(Ok(event.map(News::Event))));
        Ok(stream::iter(first.map(Ok)).chain(events).boxed())
    };
    let end = stream::once(async { bail!("the stream ended") });
    stream::once(events).try_flatten().chain(end).boxed()
}
