//! Resources from the operator of the cluster, over mTLS.

#[cfg(test)]
mod tests;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use crds::{Component, Configuration, HttpEndpoint, Kind, Resiliency, Resource, Subscription};
use futures::{
    StreamExt, TryStreamExt, future,
    stream::{self, BoxStream, SelectAll},
};
use proto::operator::v1::{
    ComponentUpdateRequest, ConfigurationUpdateRequest, GetConfigurationRequest,
    HttpEndpointUpdateRequest, ListComponentsRequest, ListHttpEndpointsRequest,
    ListResiliencyRequest, ListSubscriptionsRequest, ResiliencyUpdateRequest, ResourceEventType,
    SubscriptionUpdateRequest, operator_client::OperatorClient,
};
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel};

use super::{
    Change,
    desired::{Desired, Event, Listing, Remark, Written},
};

/// One call may take this long, and is tried this often: the operator may be restarting (contract 5.3).
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_ATTEMPTS: u32 = 100;

/// Pause between two attempts, and before broken streams are opened again.
const PAUSE: Duration = Duration::from_millis(500);

/// An event that comes this soon after the answer has come with it.
const WITH_ANSWER: Duration = Duration::from_millis(100);

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
        let Some(name) = &self.configuration else {
            return Ok(None);
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
            return Ok(None);
        }
        parse(&bytes).map(Some)
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
        let mut listing = Listing::default();
        add::<Component>(&mut listing, &components.await?.components);
        add::<Subscription>(&mut listing, &subscriptions.await?.subscriptions);
        add::<Resiliency>(&mut listing, &resiliencies.await?.resiliencies);
        add::<HttpEndpoint>(&mut listing, &http_endpoints.await?.http_endpoints);
        Ok(listing)
    }

    /// Sends what changes, until shutdown. A list is compared at once, whenever a stream has been opened, so that nothing is
    /// lost that happened while there was none, and then at every interval.
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
        let mut news = self.streams();
        let mut due = tokio::time::interval(reconcile);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let found = tokio::select! {
                // Streams that open at the same time ask for one list.
                biased;
                item = news.next() => match item {
                    Some(item) => match item? {
                        News::Opened => {
                            due.reset_immediately();
                            continue;
                        }
                        News::Event(event) => desired.take(event).into_iter().collect(),
                    },
                    None => bail!("the streams ended"),
                },
                // The first tick is at once.
                _ = due.tick() => {
                    let mut listing = self.list().await?;
                    listing.configuration = Some(self.own_configuration().await?.unwrap_or_default());
                    desired.warn_of(&listing);
                    desired.replace(listing)
                }
            };
            for change in found {
                changes.send(change).await.context("nobody takes changes")?;
            }
        }
    }

    /// A stream for each kind, opened side by side: an operator may answer a call only with the first event.
    fn streams(&self) -> SelectAll<BoxStream<'static, Result<News>>> {
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
enum News {
    /// The operator watches: what happens from now on is told, what was before is in the lists.
    Opened,
    Event(Event),
}

/// A stream once the operator has answered the call, event by event. Its end is an error, so that the end of one ends all.
fn opened<M: Send + 'static>(
    call: impl Future<Output = Result<tonic::Response<tonic::Streaming<M>>, Status>> + Send + 'static,
    read: impl Fn(M) -> Result<Option<Event>> + Clone + Send + 'static,
) -> BoxStream<'static, Result<News>> {
    let events = async move {
        let mut events = call.await?.into_inner();
        // An operator that answers with the first event has been watching since it was called, which was when the list
        // at the start was taken.
        let first = match tokio::time::timeout(WITH_ANSWER, events.next()).await {
            Err(_) => Some(News::Opened),
            Ok(Some(event)) => read(event?)?.map(News::Event),
            Ok(None) => None,
        };
        let events = events.map(move |event| read(event?));
        let events = events.try_filter_map(|event| future::ready(Ok(event.map(News::Event))));
        anyhow::Ok(stream::iter(first.map(Ok)).chain(events))
    };
    let end = stream::once(async { bail!("the stream ended") });
    stream::once(events).try_flatten().chain(end).boxed()
}

/// What an event says. One that cannot be read is an error: the list that follows finds out what it was about.
fn happened<K: Kind + Into<Resource>>(
    bytes: &[u8],
    event: ResourceEventType,
) -> Result<Option<Event>> {
    let resource: K = parse(bytes)?;
    let name = resource.name().to_owned();
    Ok(Some(match event {
        ResourceEventType::Deleted => Event::Gone((K::KIND, name)),
        _ => Event::Is(Box::new(Written {
            resource: resource.into(),
            origin: origin::<K>(&name),
        })),
    }))
}

/// Only the Configuration that the pod names concerns this sidecar.
fn configured(bytes: &[u8], event: ResourceEventType, own: Option<&str>) -> Result<Option<Event>> {
    let found: Configuration = parse(bytes)?;
    if own != Some(found.name()) {
        return Ok(None);
    }
    let configuration = match event {
        ResourceEventType::Deleted => Configuration::default(),
        _ => found,
    };
    Ok(Some(Event::Configuration(Box::new(configuration))))
}

/// Adds a list of one kind; what cannot be read is named, and what was known of it stays.
fn add<K: Kind + Into<Resource>>(listing: &mut Listing, list: &[impl AsRef<[u8]>]) {
    for bytes in list.iter().map(AsRef::as_ref) {
        match parse::<K>(bytes) {
            Ok(resource) => listing.written.push(Written {
                origin: origin::<K>(resource.name()),
                resource: resource.into(),
            }),
            Err(error) => {
                let origin = origin::<K>(&name_in(bytes));
                listing.remarks.insert(Remark {
                    line: format!("a resource is not loaded: {origin}: {error:#}"),
                    edition: String::from_utf8_lossy(bytes).into_owned(),
                });
                listing.unread.insert(origin);
            }
        }
    }
}

fn origin<K: Kind>(name: &str) -> String {
    format!("{} {name:?}", K::KIND)
}

/// The name of a resource that does not have the shape of its kind.
fn name_in(bytes: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    let name = value.pointer("/metadata/name");
    name.and_then(serde_json::Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn parse<K: Kind>(bytes: &[u8]) -> Result<K> {
    serde_json::from_slice(bytes)
        .with_context(|| format!("the operator sent a malformed {}", K::KIND))
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
