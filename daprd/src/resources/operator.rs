//! Resources from the operator of the cluster, over mTLS.

mod read;
mod streams;
#[cfg(test)]
mod tests;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use crds::{
    Component, Configuration, HttpEndpoint, McpServer, Resiliency, Subscription,
    WorkflowAccessPolicy,
};
use futures::StreamExt;
use proto::operator::v1::{
    GetConfigurationRequest, ListComponentsRequest, ListHttpEndpointsRequest,
    ListMcpServersRequest, ListResiliencyRequest, ListSubscriptionsRequest,
    ListWorkflowAccessPolicyRequest, operator_client::OperatorClient,
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Request, Status, metadata::MetadataValue, service::interceptor::InterceptedService,
    transport::Channel,
};

use self::{
    read::{add, parse},
    streams::{News, STREAMS},
};
use super::{
    Change,
    desired::{Desired, Listing},
};

/// One call may take this long, and is tried this often: the operator may be restarting (contract 5.3).
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_ATTEMPTS: u32 = 100;

/// Pause between two attempts, and before broken streams are opened again.
const PAUSE: Duration = Duration::from_millis(500);

/// The pause before lists that could not be read are read again.
const LIST_RETRY: Duration = Duration::from_secs(5);

/// The operator watches on behalf of a stream by this long after it was called, also where it answers only with the first
/// event.
const OPENING: Duration = Duration::from_secs(1);

/// Largest message of the operator, in bytes: a list of all resources of a namespace.
const MAX_MESSAGE: usize = 64 << 20;

/// The header that asks an operator of ours for the versions of objects; others send them anyway.
const VERSIONED: &str = "dapr-resource-versions";

/// A client that asks for versions.
type Client = OperatorClient<InterceptedService<Channel, fn(Request<()>) -> Interception>>;

type Interception = Result<Request<()>, Status>;

fn ask_for_versions(mut request: Request<()>) -> Interception {
    let yes = MetadataValue::from_static("true");
    request.metadata_mut().insert(VERSIONED, yes);
    Ok(request)
}

/// The operator, asked on behalf of one app.
#[derive(Clone)]
pub struct Operator {
    client: Client,
    namespace: String,
    configuration: Option<String>,
}

impl Operator {
    pub fn new(channel: Channel, namespace: String, configuration: Option<String>) -> Self {
        let ask: fn(Request<()>) -> Interception = ask_for_versions;
        let client = OperatorClient::with_interceptor(channel, ask);
        Self {
            client: client.max_decoding_message_size(MAX_MESSAGE),
            namespace,
            configuration,
        }
    }

    /// The Configuration that the pod names; without a name the defaults.
    ///
    /// # Errors
    /// Where the operator does not give it.
    pub async fn configuration(&self) -> Result<Configuration> {
        let found = self.own_configuration().await?;
        if let (None, Some(name)) = (&found, &self.configuration) {
            tracing::error!("configuration {name} does not exist in this namespace; defaults hold");
        }
        Ok(found.unwrap_or_default())
    }

    async fn own_configuration(&self) -> Result<Option<Configuration>> {
        let reply = retried("configuration", || self.get_configuration()).await?;
        reply.map_or(Ok(None), |bytes| parse(&bytes).map(Some))
    }

    /// The same, asked once.
    async fn ask_configuration(&self) -> Result<Option<Configuration>> {
        let reply = self.get_configuration().await?.into_inner();
        reply.map_or(Ok(None), |bytes| parse(&bytes).map(Some))
    }

    async fn get_configuration(&self) -> Result<tonic::Response<Option<Bytes>>, Status> {
        let Some(name) = &self.configuration else {
            return Ok(tonic::Response::new(None));
        };
        let request = GetConfigurationRequest {
            name: name.clone(),
            namespace: self.namespace.clone(),
        };
        let reply = self.client.clone().get_configuration(request).await?;
        Ok(reply.map(|reply| Some(reply.configuration).filter(|bytes| !bytes.is_empty())))
    }

    /// Everything that the namespace has but the Configuration, for whatever app it is.
    pub async fn list(&self) -> Result<Listing> {
        let namespace = || self.namespace.clone();
        let client = || self.client.clone();
        let components = retried("components", || {
            let (mut client, namespace) = (client(), namespace());
            async move {
                client
                    .list_components(ListComponentsRequest { namespace })
                    .await
            }
        });
        let subscriptions = retried("subscriptions", || {
            let (mut client, namespace) = (client(), namespace());
            async move {
                let request = ListSubscriptionsRequest { namespace };
                client.list_subscriptions_v2(request).await
            }
        });
        let resiliencies = retried("resiliencies", || {
            let (mut client, namespace) = (client(), namespace());
            async move {
                client
                    .list_resiliency(ListResiliencyRequest { namespace })
                    .await
            }
        });
        let http_endpoints = retried("HTTP endpoints", || {
            let (mut client, namespace) = (client(), namespace());
            async move {
                let request = ListHttpEndpointsRequest { namespace };
                client.list_http_endpoints(request).await
            }
        });
        let mcp_servers = retried("MCP servers", || {
            let (mut client, namespace) = (client(), namespace());
            async move {
                let request = ListMcpServersRequest { namespace };
                or_none(client.list_mcp_servers(request).await)
            }
        });
        let policies = retried("workflow access policies", || {
            let (mut client, namespace) = (client(), namespace());
            async move {
                let request = ListWorkflowAccessPolicyRequest { namespace };
                or_none(client.list_workflow_access_policy(request).await)
            }
        });
        let mut listing = Listing::default();
        add::<Component>(&mut listing, &components.await?.components);
        add::<Subscription>(&mut listing, &subscriptions.await?.subscriptions);
        add::<Resiliency>(&mut listing, &resiliencies.await?.resiliencies);
        add::<HttpEndpoint>(&mut listing, &http_endpoints.await?.http_endpoints);
        add::<McpServer>(&mut listing, &mcp_servers.await?.mcp_servers);
        add::<WorkflowAccessPolicy>(&mut listing, &policies.await?.policies);
        Ok(listing)
    }

    /// Sends what changes, until shutdown. The streams are opened first, and the list is read behind them, so that nothing is
    /// lost in between; what both tell is merged by version. A list is compared again at every interval.
    ///
    /// # Errors
    /// None so far.
    pub async fn watch(
        self,
        mut desired: Desired,
        changes: mpsc::Sender<Change>,
        reconcile: Duration,
        shutdown: CancellationToken,
    ) -> Result<()> {
        let work = async {
            while !changes.is_closed() {
                if let Err(error) = self.follow(&mut desired, &changes, reconcile).await {
                    tracing::debug!("the operator's streams ended: {error:#}");
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        shutdown.run_until_cancelled(work).await;
        Ok(())
    }

    /// Passes on what lists and events change, until a stream breaks.
    async fn follow(
        &self,
        desired: &mut Desired,
        changes: &mpsc::Sender<Change>,
        reconcile: Duration,
    ) -> Result<()> {
        desired.reconnect();
        let mut news = self.streams();
        let mut opened = 0;
        let mut due = tokio::time::interval_at(Instant::now() + OPENING, reconcile);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let found = tokio::select! {
                // Streams that open at the same time ask for one list.
                biased;
                item = news.next() => match item {
                    Some(item) => match item? {
                        News::Opened => {
                            opened += 1;
                            if opened >= STREAMS {
                                due.reset_immediately();
                            }
                            continue;
                        }
                        News::Event(event) => desired.take(event).into_iter().collect(),
                    },
                    None => bail!("the streams ended"),
                },
                _ = due.tick() => {
                    // Whatever opens from now on has to be listed behind.
                    opened = STREAMS;
                    tracing::debug!("Running scheduled MCPServer reconcile");
                    let listed = tokio::time::timeout(CALL_TIMEOUT, self.whole_list()).await;
                    match listed.unwrap_or_else(|_| bail!("no answer in time")) {
                        Ok(listing) => {
                            desired.warn_of(&listing);
                            desired.replace(listing)
                        }
                        // A list that fails, for a Secret that is not there perhaps, holds up nothing that the streams tell.
                        Err(problem) => {
                            tracing::warn!("the operator's lists are not read: {problem:#}. They are tried again");
                            due.reset_after(LIST_RETRY);
                            Vec::new()
                        }
                    }
                }
            };
            for change in found {
                changes.send(change).await.context("nobody takes changes")?;
            }
        }
    }

    /// Everything that the namespace has. Where the Configuration cannot be read, what is known of it stays: it may be
    /// gone, of which its stream tells.
    async fn whole_list(&self) -> Result<Listing> {
        let mut listing = self.list().await?;
        match tokio::time::timeout(CALL_TIMEOUT, self.ask_configuration()).await {
            Ok(Ok(found)) => listing.configuration = Some(found.unwrap_or_default()),
            Ok(Err(error)) => tracing::debug!("the configuration is not read again: {error:#}"),
            Err(_) => tracing::debug!("the operator does not answer for the configuration"),
        }
        Ok(listing)
    }
}

/// Calls until the operator answers; refusals are final.
async fn retried<T, F, Fut>(what: &str, call: F) -> Result<T>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<tonic::Response<T>, Status>>,
{
    let mut last = None;
    for _ in 0..CALL_ATTEMPTS {
        match tokio::time::timeout(CALL_TIMEOUT, call()).await {
            Ok(Ok(reply)) => return Ok(reply.into_inner()),
            Ok(Err(status)) if is_final(status.code()) => {
                return Err(status).with_context(|| format!("the operator refuses the {what}"));
            }
            Ok(Err(status)) => last = Some(status),
            Err(_) => last = Some(Status::deadline_exceeded("no answer in time")),
        }
        tracing::debug!("the operator does not answer for the {what}: {last:?}");
        tokio::time::sleep(PAUSE).await;
    }
    let status = last.unwrap_or_else(|| Status::unavailable("never asked"));
    Err(status).with_context(|| format!("the operator does not answer for the {what}"))
}

/// An operator that is too old for a kind has none of it.
fn or_none<T: Default>(
    answer: Result<tonic::Response<T>, Status>,
) -> Result<tonic::Response<T>, Status> {
    match answer {
        Err(status) if status.code() == Code::Unimplemented => {
            Ok(tonic::Response::new(T::default()))
        }
        answer => answer,
    }
}

fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::PermissionDenied | Code::Unauthenticated | Code::InvalidArgument
    )
}
