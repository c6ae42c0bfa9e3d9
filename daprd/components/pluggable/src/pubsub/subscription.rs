//! One subscription: takes what the component sends, hands it over as there is room, and tells what became of it.
//!
//! Compat: Q-pluggable-order: the next message is taken once the one before it is settled, apart from batches.

use std::sync::Arc;

use async_trait::async_trait;
use component::{
    Error, Result,
    pubsub::{
        Ack, Acknowledge, Backoff, Closed, Deliveries, Delivery, DeliverySender, Ended, Message,
        Outcome, Redelivery, SubscribeRequest, deliveries,
    },
};
use futures::{FutureExt, future::BoxFuture};
use proto::components::v1::{
    AckMessageError, PullMessagesRequest, PullMessagesResponse, Topic, pub_sub_client::PubSubClient,
};

use super::flow::{Flow, Place};
use crate::{
    exchange::{Exchange, Settling},
    handle::Handle,
    socket::{Caller, MOST_MESSAGE},
};

/// What a component is told of a message that it is to deliver again.
const WANTED_AGAIN: &str = "the app wants the message again";

/// Opens a subscription; the future takes messages until it is over.
///
/// # Errors
/// The component's.
pub async fn open(
    handle: &Arc<Handle<PubSubClient<Caller>>>,
    flow: &Arc<Flow>,
    request: SubscribeRequest,
) -> Result<(Deliveries, impl Future<Output = ()> + Send + 'static)> {
    let limits = match request.batch {
        Some(_) => request.limits,
        None => request.limits.at_most(1),
    };
    let (sender, deliveries) = deliveries(limits, Redelivery::Broker(Backoff::NONE));
    let topic = Topic {
        name: request.topic.clone(),
        metadata: request.metadata,
    };
    let first = PullMessagesRequest {
        topic: Some(topic),
        ..PullMessagesRequest::default()
    };
    let caller = handle.caller().await?;
    let capacity = sender.limits().messages;
    let exchange = Exchange::open(Some(first), capacity, |requests| {
        async move {
            let client = PubSubClient::new(caller);
            let mut client = client.max_decoding_message_size(MOST_MESSAGE);
            client.pull_messages(requests).await
        }
        .boxed()
    });
    let subscription = Subscription {
        exchange: exchange.await?,
        sender,
        topic: request.topic,
        ordered: request.batch.is_none(),
        handing: None,
    };
    Ok((
        deliveries,
        run(subscription, Arc::clone(handle), Arc::clone(flow)),
    ))
}

async fn run(
    mut subscription: Subscription,
    handle: Arc<Handle<PubSubClient<Caller>>>,
    flow: Arc<Flow>,
) {
    let mut place = Place::take(flow).await;
    let sender = subscription.sender.clone();
    let ended = tokio::select! {
        biased;
        () = handle.closed() => Some(Ended::Closed),
        () = sender.closed() => None,
        error = subscription.take(&mut place) => Some(Ended::Failed(error)),
    };
    let has_failed = matches!(ended, Some(Ended::Failed(_)));
    if let Some(reason) = ended {
        sender.end(reason);
    }
    if !has_failed {
        subscription.exchange.leave().await;
    }
    place.leave().await;
}

struct Subscription {
    exchange: Exchange<PullMessagesRequest, PullMessagesResponse>,
    sender: DeliverySender,
    topic: String,
    ordered: bool,
    /// A message that waits for room, or for the end of a pause.
    handing: Option<BoxFuture<'static, Result<(), Closed>>>,
}

impl Subscription {
    /// Until it fails.
    async fn take(&mut self, place: &mut Place) -> Error {
        let mut pauses = self.sender.clone();
        let given_back = self.exchange.given_back();
        tokio::pin!(given_back);
        loop {
            let is_paused = self.sender.is_paused();
            tokio::select! {
                error = &mut given_back => return error,
                // That it is closed is noticed elsewhere.
                Ok(paused) = pauses.pause_changed() => place.pause(paused).await,
                _ = next_of(&mut self.handing), if !is_paused => self.handing = None,
                received = self.exchange.next(), if self.handing.is_none() => match received {
                    Ok(message) => self.hand_over(message),
                    Err(error) => return error,
                },
            }
        }
    }

    fn hand_over(&mut self, received: PullMessagesResponse) {
        let topic = match received.topic_name.is_empty() {
            true => self.topic.clone(),
            false => received.topic_name,
        };
        let message = Message {
            topic,
            data: received.data,
            content_type: Some(received.content_type).filter(|text| !text.is_empty()),
            metadata: received.metadata,
        };
        let settle = Settle {
            settling: self.exchange.settling(),
            id: received.id,
        };
        let mut delivery = Delivery::new(message, Ack::new(settle));
        if self.ordered {
            delivery = delivery.in_order_of(&*self.topic);
        }
        let sender = self.sender.clone();
        self.handing = Some(async move { sender.send(delivery).await }.boxed());
    }
}

async fn next_of(handing: &mut Option<BoxFuture<'static, Result<(), Closed>>>) {
    match handing {
        // That it is closed is noticed elsewhere.
        Some(handing) => drop(handing.await),
        None => std::future::pending().await,
    }
}

/// Settles one message.
struct Settle {
    settling: Settling<PullMessagesRequest>,
    id: String,
}

#[async_trait]
impl Acknowledge for Settle {
    async fn settle(self: Box<Self>, outcome: Outcome) -> Result<()> {
        let again = || AckMessageError {
            message: WANTED_AGAIN.to_owned(),
        };
        let request = PullMessagesRequest {
            topic: None,
            ack_message_id: self.id,
            ack_error: (outcome == Outcome::Retry).then(again),
        };
        self.settling.tell(request).await
    }

    /// Dropping it says so.
    fn release(self: Box<Self>) {}
}
