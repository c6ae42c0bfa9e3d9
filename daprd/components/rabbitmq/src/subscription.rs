//! One subscription: takes what the server pushes, hands it over as there is room, and tells the server what became of it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use component::{
    Error, ErrorKind, Result,
    pubsub::{
        Ack, Acknowledge, Backoff, Closed, Deliveries, Delivery, DeliverySender, Ended, Message,
        Outcome, Redelivery, SubscribeRequest, deliveries,
    },
};
use futures::{FutureExt, StreamExt, future::BoxFuture};
use lapin::{
    Acker, Consumer,
    options::{BasicAckOptions, BasicNackOptions, BasicRejectOptions},
    types::{AMQPValue, ShortString},
};
use tokio_util::sync::CancellationToken;

use crate::{
    client::{ANSWER_TIMEOUT, Client, within},
    pubsub::Options,
    session::{Queue, QueueType, Session},
};

/// Pause before a message goes back to a classic queue, which sends it again at once and counts nothing.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Opens a subscription; the future takes messages until it is over.
///
/// # Errors
/// Wrong metadata, or the server's.
pub async fn open(
    client: &Client,
    options: &Arc<Options>,
    request: SubscribeRequest,
) -> Result<(Deliveries, impl Future<Output = ()> + Send + 'static)> {
    let queue = Queue::read(&request, options)?;
    let limits = options
        .prefetch
        .map_or(request.limits, |most| request.limits.at_most(most.into()));
    let (sender, deliveries) = deliveries(limits, redelivery(&queue, options));
    let connection = client.consuming().await?;
    let session = Session::open(connection, queue, options, sender.limits().messages).await?;
    let consumer = session.consume().await?;
    let subscription = Subscription {
        side: Side {
            session: Arc::new(session),
            options: Arc::clone(options),
            topic: request.topic,
            sender,
        },
        consumer: Some(consumer),
        handing: None,
    };
    Ok((deliveries, subscription.run(client.closed())))
}

fn redelivery(queue: &Queue, options: &Options) -> Redelivery {
    match queue.kind {
        _ if options.auto_ack => Redelivery::Never,
        _ if !options.requeue => Redelivery::Reject,
        // What goes back would come after what the server has sent ahead.
        _ if queue.single_active => Redelivery::InPlace(Backoff::DEFAULT),
        QueueType::Classic => Redelivery::Broker(Backoff::constant(RETRY_PAUSE)),
        // Compat: Q-rabbitmq-limit: each time counts.
        QueueType::Quorum => Redelivery::Broker(Backoff::DEFAULT),
    }
}

/// The server on one side, the sidecar on the other.
struct Side {
    session: Arc<Session>,
    options: Arc<Options>,
    topic: String,
    sender: DeliverySender,
}

struct Subscription {
    side: Side,
    /// Nothing while paused, unless the queue needs a consumer to exist.
    consumer: Option<Consumer>,
    /// A message that waits for room.
    handing: Option<BoxFuture<'static, Result<(), Closed>>>,
}

enum Event {
    Paused(bool),
    HandedOver,
    Taken(Option<lapin::Result<Box<lapin::message::Delivery>>>),
}

impl Subscription {
    async fn run(mut self, closed: CancellationToken) {
        let sender = self.side.sender.clone();
        let ended = tokio::select! {
            biased;
            () = closed.cancelled() => Some(Ended::Closed),
            () = sender.closed() => None,
            error = self.take() => Some(Ended::Failed(error)),
        };
        self.side.session.end();
        if let Some(reason) = ended {
            sender.end(reason);
        }
        self.handing = None;
        // From a quorum queue, what was sent ahead goes back as the channel closes: see `Settle::release`.
        let goes_back = self.side.session.queue.kind == QueueType::Quorum;
        if let Some(consumer) = self.consumer.take().filter(|_| !goes_back) {
            // The channel says what is wrong where this fails, and then gives everything back.
            let _ = self.side.stop(consumer).await;
        }
    }

    /// Until it fails.
    async fn take(&mut self) -> Error {
        let mut pauses = self.side.sender.clone();
        loop {
            let event = {
                let paused = pauses.is_paused();
                let (consumer, handing) = (&mut self.consumer, &mut self.handing);
                tokio::select! {
                    biased;
                    Ok(paused) = pauses.pause_changed() => Event::Paused(paused),
                    () = next_of(handing) => Event::HandedOver,
                    taken = next_from(consumer), if handing.is_none() && !paused => {
                        Event::Taken(taken.map(|one| one.map(Box::new)))
                    }
                }
            };
            let outcome = match event {
                Event::Paused(paused) => self.pause(paused).await,
                Event::HandedOver => {
                    self.handing = None;
                    Ok(())
                }
                Event::Taken(Some(Ok(message))) => self.hand_over(*message).await,
                // Whatever it says of it: what was declared was fine when the channel was opened.
                Event::Taken(Some(Err(error))) => Err(Error::unavailable(
                    "rabbitmq has closed a channel",
                    error.to_string(),
                )),
                Event::Taken(None) => Err(Error::new(
                    ErrorKind::Unavailable,
                    "rabbitmq has ended a subscription: the queue was deleted, or moved",
                )),
            };
            if let Err(error) = outcome {
                return error;
            }
        }
    }

    async fn pause(&mut self, paused: bool) -> Result<()> {
        if paused {
            match self.consumer.take() {
                Some(consumer) if self.side.keeps_consumer() => self.consumer = Some(consumer),
                Some(consumer) => self.side.stop(consumer).await?,
                None => {}
            }
        } else if self.consumer.is_none() {
            self.consumer = Some(self.side.session.consume().await?);
        }
        Ok(())
    }

    async fn hand_over(&mut self, taken: lapin::message::Delivery) -> Result<()> {
        let delivery = self.side.delivery(taken).await?;
        let sender = self.side.sender.clone();
        self.handing = Some(async move { sender.send(delivery).await }.boxed());
        Ok(())
    }
}

impl Side {
    /// A queue that goes away with its last consumer, and one that counts what is given back, keep theirs:
    /// what the server has sent ahead then waits here.
    fn keeps_consumer(&self) -> bool {
        self.options.deleted_when_unused || self.session.queue.kind == QueueType::Quorum
    }

    /// Ends taking messages, and gives back what was sent ahead.
    async fn stop(&self, mut consumer: Consumer) -> Result<()> {
        self.session.cancel(consumer.tag()).await?;
        let ahead = async {
            while let Some(Ok(message)) = consumer.next().await {
                drop(self.settle(message.acker));
            }
        };
        // The stream ends once the server has confirmed that it sends no more.
        let _ = tokio::time::timeout(ANSWER_TIMEOUT, ahead).await;
        Ok(())
    }

    fn settle(&self, acker: Acker) -> Ack {
        Ack::new(Settle {
            acker,
            requeue: self.options.requeue,
            session: Arc::clone(&self.session),
            closed: self.sender.clone(),
        })
    }

    async fn delivery(&self, taken: lapin::message::Delivery) -> Result<Delivery> {
        let attempt = attempt(&taken);
        let metadata = match self.options.properties {
            true => properties(&taken),
            false => BTreeMap::new(),
        };
        let message = Message {
            topic: self.topic.clone(),
            data: Bytes::from(taken.data),
            content_type: None,
            metadata,
        };
        let ack = self.settle(taken.acker);
        let ack = match self.options.auto_ack {
            true => {
                ack.settle(Outcome::Ok).await?;
                Ack::none()
            }
            false => ack,
        };
        let mut delivery = Delivery::new(message, ack);
        delivery.attempt = attempt;
        if self.session.queue.single_active {
            delivery = delivery.in_order_of(self.session.queue.name.as_str());
        }
        Ok(delivery)
    }
}

async fn next_of(handing: &mut Option<BoxFuture<'static, Result<(), Closed>>>) {
    match handing {
        // That it is closed is noticed elsewhere, and the message is given back then.
        Some(handing) => drop(handing.await),
        None => std::future::pending().await,
    }
}

async fn next_from(
    consumer: &mut Option<Consumer>,
) -> Option<lapin::Result<lapin::message::Delivery>> {
    match consumer {
        Some(consumer) => consumer.next().await,
        None => std::future::pending().await,
    }
}

/// Which delivery of the message it is: quorum queues count those before, classic ones only tell whether there were any.
fn attempt(taken: &lapin::message::Delivery) -> u32 {
    let headers = taken.properties.headers().as_ref();
    let before = headers.and_then(|headers| headers.inner().get("x-delivery-count"));
    match before.and_then(whole) {
        Some(before) => u32::try_from(before).unwrap_or_default().saturating_add(1),
        None => 1 + u32::from(taken.redelivered),
    }
}

fn whole(value: &AMQPValue) -> Option<i64> {
    match value {
        AMQPValue::ShortShortInt(number) => Some((*number).into()),
        AMQPValue::ShortShortUInt(number) => Some((*number).into()),
        AMQPValue::ShortInt(number) => Some((*number).into()),
        AMQPValue::ShortUInt(number) => Some((*number).into()),
        AMQPValue::LongInt(number) => Some((*number).into()),
        AMQPValue::LongUInt(number) => Some((*number).into()),
        AMQPValue::LongLongInt(number) => Some(*number),
        _ => None,
    }
}

/// Properties and headers as metadata. Headers that are no text, number or truth are left out.
fn properties(taken: &lapin::message::Delivery) -> BTreeMap<String, String> {
    let properties = &taken.properties;
    let named = [
        ("messageid", properties.message_id()),
        ("correlationid", properties.correlation_id()),
        ("type", properties.kind()),
        ("contenttype", properties.content_type()),
    ];
    let named = named.into_iter().filter_map(|(name, value)| {
        let value = value.as_ref().map(ShortString::as_str)?;
        Some((name.to_owned(), value.to_owned()))
    });
    let headers = properties
        .headers()
        .iter()
        .flat_map(|headers| headers.inner());
    let headers =
        headers.filter_map(|(name, value)| Some((name.as_str().to_owned(), header(value)?)));
    let all = named.chain(headers).filter(|(_, value)| !value.is_empty());
    all.map(|(name, value)| (format!("metadata.{name}"), value))
        .collect()
}

fn header(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.as_str().to_owned()),
        AMQPValue::ByteArray(bytes) => Some(String::from_utf8_lossy(bytes.as_slice()).into_owned()),
        AMQPValue::Boolean(truth) => Some(truth.to_string()),
        AMQPValue::Float(number) => Some(number.to_string()),
        AMQPValue::Double(number) => Some(number.to_string()),
        AMQPValue::Timestamp(seconds) => Some(seconds.to_string()),
        other => whole(other).map(|number| number.to_string()),
    }
}

/// Settles one message. It owns the channel, which is open as long as anything on it is to be settled.
struct Settle {
    acker: Acker,
    requeue: bool,
    session: Arc<Session>,
    closed: DeliverySender,
}

#[async_trait]
impl Acknowledge for Settle {
    async fn settle(self: Box<Self>, outcome: Outcome) -> Result<()> {
        let acker = &self.acker;
        let told = async {
            match outcome {
                Outcome::Ok => acker.ack(BasicAckOptions::default()).await,
                Outcome::Retry => acker.nack(nack(self.requeue)).await,
                Outcome::Drop => acker.reject(BasicRejectOptions { requeue: false }).await,
            }
        };
        match within(ANSWER_TIMEOUT, "error settling a message of rabbitmq", told).await? {
            true => Ok(()),
            // The library sends nothing on a channel that has closed, and takes that for fine.
            false => Err(Error::new(
                ErrorKind::Unavailable,
                "the channel of the message is closed: rabbitmq delivers it again",
            )),
        }
    }

    /// Back to its place in the queue. A quorum queue counts that as a delivery, and gives up what has too many; so where the
    /// subscription ends anyway, its messages go back as the channel closes, which only older servers count as well.
    fn release(self: Box<Self>) {
        let over = self.session.is_over() || self.closed.is_closed();
        if over && self.session.queue.kind == QueueType::Quorum {
            return;
        }
        // The first step hands it to the thread of the connection; nobody waits for the rest.
        let _ = self.acker.nack(nack(true)).now_or_never();
    }
}

fn nack(requeue: bool) -> BasicNackOptions {
    BasicNackOptions {
        multiple: false,
        requeue,
    }
}
