//! Resources from the operator of the cluster, over mTLS.

use std::time::Duration;

use anyhow::{Context, Result};
use crds::{Configuration, Kind};
use futures::{Stream, StreamExt, stream::SelectAll};
use proto::operator::v1::{
    ComponentUpdateRequest, ConfigurationUpdateRequest, GetConfigurationRequest,
    HttpEndpointUpdateRequest, ListComponentsRequest, ListHttpEndpointsRequest,
    ListResiliencyRequest, ListSubscriptionsRequest, ResiliencyUpdateRequest, ResourceEventType,
    SubscriptionUpdateRequest, operator_client::OperatorClient,
};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel};

use super::{Change, Resources, known::Known};

/// One call may take this long, and is tried this often: the operator may be restarting (contract 5.3).
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_ATTEMPTS: u32 = 100;

/// Pause between two attempts, and before broken streams are opened again.
const PAUSE: Duration = Duration::from_millis(500);

/// Largest message of the operator, in bytes: a list of all resources of a namespace.
const MAX_MESSAGE: usize = 64 << 20;

/// The operator, asked on behalf of one app.
#[derive(Clone)]
pub struct Operator {
    client: OperatorClient<Channel>,
    namespace: String,
    configuration: Option<String>,
}

impl Operator {
    pub fn new(channel: Channel, namespace: String, configuration: Option<String>) -> Self {
        Self {
            client: OperatorClient::new(channel).max_decoding_message_size(MAX_MESSAGE),
            namespace,
            configuration,
        }
    }

    /// The Configuration that the pod names; without a name the defaults.
    pub async fn configuration(&self) -> Result<Configuration> {
        let Some(name) = &self.configuration else {
            return Ok(Configuration::default());
        };
        let request = GetConfigurationRequest {
            name: name.clone(),
            namespace: self.namespace.clone(),
        };
        let reply = retried("configuration", || {
            let mut client = self.client.clone();
            let request = request.clone();
            async move { client.get_configuration(request).await }
        });
        let bytes = reply.await?.configuration;
        if bytes.is_empty() {
            tracing::error!("configuration {name} does not exist in this namespace; defaults hold");
            return Ok(Configuration::default());
        }
        parse(&bytes)
    }

    /// Everything that this app loads.
    pub async fn list(&self) -> Result<Resources> {
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
        Ok(Resources {
            components: parse_all(&components.await?.components)?,
            subscriptions: parse_all(&subscriptions.await?.subscriptions)?,
            resiliencies: parse_all(&resiliencies.await?.resiliencies)?,
            http_endpoints: parse_all(&http_endpoints.await?.http_endpoints)?,
        })
    }

    /// Sends what changes, until shutdown. After every break of a stream the whole list is compared, so that nothing that
    /// happened meanwhile is lost.
    pub async fn watch(
        self,
        first: Resources,
        changes: mpsc::Sender<Change>,
        reconcile: Duration,
        shutdown: CancellationToken,
    ) -> Result<()> {
        let mut known = Known::of(first);
        let work = async {
            loop {
                if let Err(error) = self.follow(&changes, reconcile).await {
                    tracing::debug!("the operator's streams ended: {error:#}");
                }
                tokio::time::sleep(PAUSE).await;
                let Ok(resources) = self.list().await else {
                    continue;
                };
                let now = Known::of(resources);
                for change in known.changes(&now) {
                    if changes.send(change).await.is_err() {
                        return;
                    }
                }
                known = now;
            }
        };
        shutdown.run_until_cancelled(work).await;
        Ok(())
    }

    /// Passes events on until a stream breaks or a full comparison is due.
    async fn follow(&self, changes: &mpsc::Sender<Change>, reconcile: Duration) -> Result<()> {
        let mut events = self.streams().await?;
        let due = tokio::time::sleep(reconcile);
        tokio::pin!(due);
        loop {
            let event = tokio::select! {
                () = &mut due => return Ok(()),
                event = events.next() => event,
            };
            let Some(event) = event else {
                return Ok(());
            };
            if let Some(change) = event? {
                changes.send(change).await.context("nobody takes changes")?;
            }
        }
    }

    async fn streams(&self) -> Result<SelectAll<Events>> {
        let namespace = || self.namespace.clone();
        let mut client = self.client.clone();
        let mut all = SelectAll::new();
        let components = client
            .component_update(ComponentUpdateRequest {
                namespace: namespace(),
            })
            .await?
            .into_inner()
            .map(|event| {
                let event = event?;
                changed(
                    &event.component,
                    event.r#type(),
                    Change::Component,
                    Change::ComponentGone,
                )
            });
        all.push(ended(components));
        let subscriptions = client
            .subscription_update(SubscriptionUpdateRequest {
                namespace: namespace(),
            })
            .await?
            .into_inner()
            .map(|event| {
                let event = event?;
                let (apply, gone) = (Change::Subscription, Change::SubscriptionGone);
                changed(&event.subscription, event.r#type(), apply, gone)
            });
        all.push(ended(subscriptions));
        let endpoints = client
            .http_endpoint_update(HttpEndpointUpdateRequest {
                namespace: namespace(),
            })
            .await?
            .into_inner()
            .map(|event| {
                event
                    .map(|_| Some(Change::Restart("HTTPEndpoint")))
                    .map_err(Into::into)
            });
        all.push(ended(endpoints));
        let resiliencies = client
            .resiliency_update(ResiliencyUpdateRequest {
                namespace: namespace(),
            })
            .await?
            .into_inner()
            .map(|event| {
                event
                    .map(|_| Some(Change::Restart("Resiliency")))
                    .map_err(Into::into)
            });
        all.push(ended(resiliencies));
        let configurations = client
            .configuration_update(ConfigurationUpdateRequest {
                namespace: namespace(),
            })
            .await?
            .into_inner()
            .map(|event| {
                event
                    .map(|_| Some(Change::Restart("Configuration")))
                    .map_err(Into::into)
            });
        all.push(ended(configurations));
        Ok(all)
    }
}

type Events = futures::stream::BoxStream<'static, Result<Option<Change>>>;

/// A stream whose end is an error, so that the end of one ends all.
fn ended(stream: impl Stream<Item = Result<Option<Change>>> + Send + 'static) -> Events {
    let end = futures::stream::once(async { anyhow::bail!("the stream ended") });
    stream.chain(end).boxed()
}

fn changed<K: Kind>(
    bytes: &[u8],
    event: ResourceEventType,
    apply: fn(K) -> Change,
    gone: fn(String) -> Change,
) -> Result<Option<Change>> {
    let resource: K = parse(bytes)?;
    Ok(Some(match event {
        ResourceEventType::Deleted => gone(resource.name().to_owned()),
        _ => apply(resource),
    }))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).with_context(|| {
        format!(
            "the operator sent a malformed {}",
            std::any::type_name::<T>()
        )
    })
}

fn parse_all<T: DeserializeOwned>(list: &[impl AsRef<[u8]>]) -> Result<Vec<T>> {
    list.iter().map(|bytes| parse(bytes.as_ref())).collect()
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

fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::PermissionDenied | Code::Unauthenticated | Code::InvalidArgument
    )
}
