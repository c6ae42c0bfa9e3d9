//! What passes between a broker and its subscriber, and what does not.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::poll;

use super::*;
use crate::pubsub::{Ack, Acknowledge, Backoff, Message, Outcome};

/// Counts what is released.
struct Count(Arc<AtomicUsize>);

#[async_trait]
impl Acknowledge for Count {
    async fn settle(self: Box<Self>, _: Outcome) -> crate::Result<()> {
        Ok(())
    }

    fn release(self: Box<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn message(bytes: usize) -> Delivery {
    let message = Message {
        data: vec![0; bytes].into(),
        ..Message::default()
    };
    Delivery::new(message, Ack::none())
}

fn subscription(messages: usize, bytes: usize) -> (DeliverySender, Deliveries) {
    deliveries(
        Limits { messages, bytes },
        Redelivery::Broker(Backoff::NONE),
    )
}

#[tokio::test]
async fn a_message_waits_until_the_outcome_of_another_makes_room() {
    for (messages, bytes) in [(2, 1000), (1000, 20)] {
        let (sender, mut deliveries) = subscription(messages, bytes);
        sender.send(message(10)).await.unwrap();
        sender.send(message(10)).await.unwrap();
        let mut third = Box::pin(sender.send(message(10)));
        let first = deliveries.next().await.unwrap();
        assert!(poll!(&mut third).is_pending(), "taken is not settled");
        first.ack.settle(Outcome::Ok).await.unwrap();
        third.await.unwrap();
    }
}

#[tokio::test]
async fn what_is_larger_than_the_budget_goes_alone() {
    let (sender, mut deliveries) = subscription(100, 20);
    sender.send(message(50)).await.unwrap();
    let mut small = Box::pin(sender.send(message(1)));
    assert!(poll!(&mut small).is_pending());
    drop(deliveries.next().await.unwrap());
    small.await.unwrap();
}

#[tokio::test]
async fn a_batch_stays_together_and_is_settled_in_parts() {
    let (sender, mut deliveries) = subscription(3, 1000);
    sender
        .send_batch((0..3).map(message).collect())
        .await
        .unwrap();
    let mut batch = deliveries.next_batch().await.unwrap();
    assert_eq!(batch.len(), 3);
    let mut next = Box::pin(sender.send(message(1)));
    assert!(poll!(&mut next).is_pending());
    drop(batch.pop());
    next.await.unwrap();
    assert_eq!(deliveries.next_batch().await.unwrap().len(), 1);
    // Larger than ever fits: it goes when nothing else is under way.
    drop(batch);
    sender
        .send_batch((0..9).map(message).collect())
        .await
        .unwrap();
    assert_eq!(deliveries.next().await.unwrap().message.data.len(), 0);
    assert_eq!(deliveries.next_batch().await.unwrap().len(), 8, "the rest");
}

#[tokio::test]
async fn an_end_has_a_reason_and_comes_last() {
    let (sender, mut deliveries) = subscription(3, 1000);
    sender.send(message(1)).await.unwrap();
    sender.clone().end(Ended::Rebalanced);
    assert!(deliveries.next().await.is_ok());
    assert!(matches!(deliveries.next().await, Err(Ended::Rebalanced)));
    drop(sender);
    assert!(matches!(deliveries.next().await, Err(Ended::Failed(_))));
}

#[tokio::test]
async fn closing_and_giving_up_release_what_is_not_settled() {
    let (sender, mut deliveries) = subscription(1, 1000);
    let released = Arc::new(AtomicUsize::new(0));
    let counted = || Delivery {
        ack: Ack::new(Count(Arc::clone(&released))),
        ..message(1)
    };
    sender.send(counted()).await.unwrap();
    let waiting = Box::pin(sender.send(counted()));
    drop(waiting);
    assert_eq!(released.load(Ordering::SeqCst), 1, "never handed over");
    let first = deliveries.next().await.unwrap();
    let waiting = sender.send(counted());
    drop(deliveries);
    assert_eq!(waiting.await, Err(Closed));
    assert_eq!(released.load(Ordering::SeqCst), 2, "closed meanwhile");
    first.ack.settle(Outcome::Ok).await.unwrap();
    assert_eq!(released.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_pause_is_seen_and_leaves_nothing() {
    let (mut sender, deliveries) = subscription(1, 1000);
    sender.wanted().await.unwrap();
    deliveries.pause(true);
    assert_eq!(sender.pause_changed().await, Ok(true));
    assert!(sender.is_paused() && !sender.is_closed());
    let mut other = sender.clone();
    let mut wanted = Box::pin(other.wanted());
    assert!(poll!(&mut wanted).is_pending());
    deliveries.pause(false);
    wanted.await.unwrap();
    assert_eq!(sender.pause_changed().await, Ok(false));
    drop(deliveries);
    assert_eq!(sender.pause_changed().await, Err(Closed));
}
