//! The way of a batch from broker to app: each message is read and routed for itself, each path gets one call, and only
//! what failed is tried again.

mod call;
mod entry;
mod progress;
mod rounds;

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use component::pubsub::{BulkEntry, BulkPublishRequest, Delivery, Message, Outcome, Redelivery};

use crate::{
    core::LOG,
    delivery::{GivenBack, Retry, Subscriber, settle},
    metrics::Process,
    outcome::Failure,
};
use progress::{End, Progress, apply};
use rounds::Rounds;

/// A message that its batch is through with.
type Ended = (Delivery, End);

/// What is wanted again.
struct Left {
    failed: Vec<Delivery>,
    /// Not delivered, because one before them in their order has failed.
    behind: Vec<Delivery>,
}

impl Subscriber {
    /// Delivers a batch until the outcome of every message is final, and settles it; without an outcome they go back to the
    /// broker.
    pub async fn handle_batch(
        &self,
        mut batch: Vec<Delivery>,
        redelivery: Redelivery,
    ) -> GivenBack {
        let topic = self.subscription.topic.clone();
        loop {
            // Boxed: the task is moved when it is spawned, with all the room that it may need.
            let Left { failed, behind } = Box::pin(self.deliver_batch(batch, &topic)).await;
            let attempt = failed.iter().map(|one| one.attempt).max();
            let mut left = failed;
            left.extend(behind);
            let Some(attempt) = attempt else {
                if left.is_empty() {
                    return GivenBack::new();
                }
                // What they were behind has gone to the dead letter topic.
                batch = left;
                continue;
            };
            let retry = match self.is_ending() {
                true => Retry::GiveBack,
                false => self.retry(&topic, redelivery, attempt).await,
            };
            match retry {
                Retry::GiveBack => {
                    return left.into_iter().filter_map(|one| one.order_key).collect();
                }
                Retry::Settle(outcome) => {
                    for delivery in left {
                        settle(delivery.ack, outcome, &topic).await;
                    }
                    return GivenBack::new();
                }
                Retry::Again => {
                    batch = left;
                    for delivery in &mut batch {
                        delivery.attempt = delivery.attempt.saturating_add(1);
                    }
                }
            }
        }
    }

    /// Delivers a batch once, under the policy, and settles what is final.
    async fn deliver_batch(&self, batch: Vec<Delivery>, topic: &str) -> Left {
        let began = self.core.clock.instant();
        let mut ended: Vec<Ended> = Vec::new();
        let (mut rounds, mut stuck) = (Rounds::default(), HashSet::new());
        for delivery in batch {
            let key = delivery.order_key.clone();
            if key.as_ref().is_some_and(|key| stuck.contains(key)) {
                ended.push((delivery, End::Behind));
                continue;
            }
            match self.read_entry(delivery, topic) {
                Ok((path, entry)) => rounds.add(path, entry),
                Err(end) => {
                    stuck.extend(key.filter(|_| end.1 == End::Failed));
                    ended.push(*end);
                }
            }
        }
        // Those before what cannot be read may go.
        stuck.clear();
        for by_path in rounds.in_order() {
            for (path, mut progress) in by_path {
                progress.hold_back(&stuck);
                if !progress.left.get_mut().is_empty() {
                    self.deliver_entries(topic, &path, &progress).await;
                }
                let through = progress.ended.into_inner().into_iter();
                ended.extend(through.map(|(entry, end)| (entry.delivery, end)));
                let left = progress.left.into_inner().into_iter();
                ended.extend(left.map(|entry| (entry.delivery, End::Failed)));
            }
            let failed = ended.iter().filter(|(_, end)| *end == End::Failed);
            stuck.extend(failed.filter_map(|(delivery, _)| delivery.order_key.clone()));
        }
        let elapsed = self.core.clock.instant() - began;
        self.settle_batch(topic, ended, elapsed).await
    }

    async fn deliver_entries(&self, topic: &str, path: &str, progress: &Progress) {
        let policy = self.core.brokers.inbound(self.pubsub());
        let attempt = |_| async {
            let answer = Box::pin(self.call(topic, path, progress)).await?;
            apply(progress, answer)
        };
        let classify = |failure: &Failure| {
            if self.is_ending() {
                resiliency::Outcome::Permanent
            } else {
                failure.outcome
            }
        };
        if let Err(error) = policy.run(resiliency::repeatable(attempt), classify).await {
            let problem = error.map(|failure| failure.problem);
            tracing::warn!(target: LOG, "error while delivering a batch of topic {topic}: {problem:?}");
        }
    }

    async fn settle_batch(&self, topic: &str, ended: Vec<Ended>, elapsed: Duration) -> Left {
        let mut counts = [
            (Process::Success, 0),
            (Process::Drop, 0),
            (Process::Retry, 0),
        ];
        let (mut failed, mut behind) = (Vec::new(), Vec::new());
        for (delivery, end) in ended {
            let (slot, outcome) = match end {
                End::Success => (0, Outcome::Ok),
                End::Drop => match self.drop_message(&delivery.message).await {
                    // The dead letter topic did not take it now; it may with the others, or the next time.
                    Outcome::Retry => {
                        failed.push(delivery);
                        continue;
                    }
                    outcome => (1, outcome),
                },
                End::DropSilently => (1, Outcome::Drop),
                End::Failed => {
                    failed.push(delivery);
                    continue;
                }
                End::Behind => {
                    behind.push(delivery);
                    continue;
                }
            };
            counts[slot].1 += 1;
            settle(delivery.ack, outcome, topic).await;
        }
        // A subscription that ends gives back what it could not deliver.
        let taken = !self.is_ending()
            && !failed.is_empty()
            && self.dead_letter_batch(entries(&failed)).await;
        counts[if taken { 1 } else { 2 }].1 += failed.len();
        let metrics = &self.core.metrics;
        metrics.delivered_batch(self.pubsub(), topic, &counts, elapsed);
        if taken {
            for delivery in failed.drain(..) {
                settle(delivery.ack, Outcome::Ok, topic).await;
            }
        }
        Left { failed, behind }
    }

    /// Publishes what failed to the dead letter topic; false where there is none, or it did not take them all.
    async fn dead_letter_batch(&self, entries: Vec<BulkEntry>) -> bool {
        let Some(topic) = self.subscription.dead_letter_topic.clone() else {
            return false;
        };
        let request = BulkPublishRequest {
            topic,
            entries,
            metadata: BTreeMap::new(),
        };
        self.core.dead_letter_batch(&self.broker, request).await
    }
}

/// Messages as they are published again.
fn entries(deliveries: &[Delivery]) -> Vec<BulkEntry> {
    let messages = deliveries.iter().map(|delivery| &delivery.message);
    let entry = |(index, message): (usize, &Message)| BulkEntry {
        entry_id: index.to_string(),
        data: message.data.clone(),
        content_type: message.content_type.clone().unwrap_or_default(),
        metadata: message.metadata.clone(),
    };
    messages.enumerate().map(entry).collect()
}
