//! The connection of the subscriptions: what it brings goes into the session, and from there to each of them.

use std::sync::Arc;

use async_trait::async_trait;
use component::{
    Error, ErrorKind, Result, Spawn,
    pubsub::{Ack, Acknowledge, Delivery, DeliverySender, Ended, Message, Outcome},
};
use rumqttc::{QoS, SubscribeNoticeError};
use tokio::time::{Instant, timeout};

use super::inbox::{Inbox, refused};
use crate::{
    filter::Filter,
    link::{Link, Options, PATIENCE},
    metadata::Settings,
    session::Taken,
};

/// All subscriptions of a component.
pub struct Consumer {
    inbox: Arc<Inbox>,
    link: Link,
    qos: QoS,
    is_clean: bool,
}

impl Consumer {
    /// Connects as soon as there is a subscription.
    pub fn start(settings: &Settings, name: &str, tasks: &Arc<dyn Spawn>) -> Arc<Self> {
        let clean = settings.clean_session;
        let inbox = Arc::new(Inbox::new(clean, settings.qos));
        let options = Options::new(settings, &settings.consumer, clean);
        let link = Link::start(name, options, Arc::clone(&inbox), tasks);
        let (closing, unclaimed) = (link.closing(), Arc::clone(&inbox));
        let component = name.to_owned();
        tasks.spawn(
            name,
            Box::pin(async move {
                let abandoning = unclaimed.abandon(&component);
                closing.run_until_cancelled(abandoning).await;
            }),
        );
        Arc::new(Self {
            inbox,
            link,
            qos: settings.qos,
            is_clean: clean,
        })
    }

    /// Subscribes; on return the server keeps messages for it.
    ///
    /// # Errors
    /// The server's, or where it does not answer.
    pub async fn subscribe(
        &self,
        filter: Filter,
        forget: bool,
        sender: &DeliverySender,
    ) -> Result<Subscription> {
        if self.link.is_closed() {
            return Err(Error::new(ErrorKind::Unavailable, "component is closed"));
        }
        let subscription = Subscription {
            number: self.inbox.open(&filter, sender.clone()),
            inbox: Arc::clone(&self.inbox),
            filter,
            forget,
        };
        let attempts = self.ask(&subscription.filter);
        let outcome = timeout(PATIENCE, attempts).await;
        outcome.unwrap_or_else(|_| {
            let text = format!("mqtt: no answer to a subscription within {PATIENCE:?}");
            Err(Error::new(ErrorKind::Unavailable, text))
        })?;
        Ok(subscription)
    }

    async fn ask(&self, filter: &Filter) -> Result<()> {
        let surrenders = self.link.surrenders();
        loop {
            self.link.check_since(surrenders)?;
            let client = self.link.client().await?;
            let connection = self.inbox.connections();
            let Ok(notice) = client.subscribe_tracked(filter.text(), self.qos).await else {
                // The connection has ended meanwhile.
                continue;
            };
            match notice.wait_async().await {
                Ok(_) if self.inbox.confirm(filter, connection) => return Ok(()),
                Err(SubscribeNoticeError::V4SubAckFailure(_)) => {
                    return Err(refused(&format!("{:?}", filter.text())).error());
                }
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// Whether nothing outlives a connection.
    pub fn is_clean(&self) -> bool {
        self.is_clean
    }

    /// Since when subscriptions miss what is published, because they have lost their connection.
    pub fn lost(&self) -> Option<Instant> {
        self.inbox.lost_since()
    }

    /// Until none does.
    pub async fn restored(&self) {
        self.inbox.restored().await;
    }

    /// Has the next connection made at once.
    pub fn hurry(&self) {
        self.link.hurry();
    }

    /// Ends all subscriptions, writes what was settled, and leaves.
    pub async fn close(&self) {
        self.inbox.end_all(|| Ended::Closed);
        self.link.close().await;
        self.inbox.close();
    }
}

/// A subscription in the session; left when it is dropped.
pub struct Subscription {
    inbox: Arc<Inbox>,
    filter: Filter,
    number: u64,
    /// The server is to forget it, once nobody else here has it.
    forget: bool,
}

impl Subscription {
    /// Hands messages over until it is closed.
    pub async fn forward(mut self, sender: DeliverySender) {
        self.hand_over(sender.clone()).await;
        // Q-mqtt-withdrawn
        self.forget |= sender.is_withdrawn();
    }

    async fn hand_over(&self, mut sender: DeliverySender) {
        loop {
            let taken = tokio::select! {
                biased;
                () = sender.closed() => return,
                taken = self.inbox.take(&self.filter) => taken,
            };
            let delivery = self.delivery(taken);
            if sender.wanted().await.is_err() || sender.send(delivery).await.is_err() {
                return;
            }
        }
    }

    fn delivery(&self, taken: Taken) -> Delivery {
        let settle = Settle {
            inbox: Arc::clone(&self.inbox),
            number: taken.number,
        };
        let retained = ("retained".to_owned(), taken.retained.to_string());
        let message = Message {
            topic: taken.topic.clone(),
            data: taken.payload,
            content_type: None,
            metadata: [retained].into(),
        };
        Delivery::new(message, Ack::new(settle)).in_order_of(taken.topic)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.inbox.leave(self.number, &self.filter, self.forget);
    }
}

/// Settles one message.
struct Settle {
    inbox: Arc<Inbox>,
    number: u64,
}

#[async_trait]
impl Acknowledge for Settle {
    /// Whatever the outcome: a message is wanted again only where the server keeps none, and forgets it.
    async fn settle(self: Box<Self>, _: Outcome) -> Result<()> {
        self.inbox.settle(self.number)
    }

    fn release(self: Box<Self>) {
        self.inbox.release(self.number);
    }
}
