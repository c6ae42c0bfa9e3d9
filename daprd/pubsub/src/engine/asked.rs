//! What the app says that it subscribes to.

use std::collections::BTreeMap;

use resiliency::{Builtin, Outcome, repeatable};

use super::Inner;
use crate::{core::LOG, subscription::Subscription};

impl Inner {
    /// Asks the app what it subscribes to, once. An app that cannot be asked is asked again when it next becomes healthy.
    pub(super) async fn ask(&self) {
        if self.core.brokers.is_empty() {
            return;
        }
        if !self.programmatic {
            if self.asked.set(()).is_ok() {
                tracing::warn!(
                    target: LOG,
                    "Skipping programmatic subscription loading (see 'disable-init-endpoints' flag/annotation)"
                );
            }
            return;
        }
        let asking = self.asked.get_or_try_init(async || {
            let options = &self.core.options;
            let policies = options.registry.policies.load();
            let policy = policies.builtin(Builtin::InitializationRetries);
            let attempt = |_| options.app.list_subscriptions();
            let asked = policy
                .run(repeatable(attempt), |_| Outcome::Retryable)
                .await?;
            let subscriptions = read_programmatic(asked);
            self.declarations.lock().set_programmatic(subscriptions);
            Ok::<_, resiliency::policy::Error<app_channel::Error>>(())
        });
        if let Err(error) = asking.await {
            let error = component::error::chain(&error);
            tracing::error!(target: LOG, "error getting topic list from app: {error}");
        }
    }
}

/// What the app asks for, without what cannot be subscribed to.
fn read_programmatic(asked: Vec<app_channel::ProgrammaticSubscription>) -> Vec<Subscription> {
    let mut subscriptions = Vec::with_capacity(asked.len());
    let mut topics: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for one in asked {
        match Subscription::programmatic(one) {
            Ok(one) if one.rules.is_empty() => {
                tracing::warn!(
                    target: LOG,
                    "topic {} has an empty routes. removing from subscriptions list",
                    one.topic
                );
            }
            Ok(one) => {
                let of = topics.entry(one.pubsub.clone()).or_default();
                of.push(one.topic.clone());
                subscriptions.push(one);
            }
            Err(error) => {
                let error = component::error::chain(&error);
                tracing::error!(target: LOG, "a subscription of the app is left out: {error}");
            }
        }
    }
    for (pubsub, topics) in topics {
        tracing::info!(
            target: LOG,
            "app is subscribed to the following topics: [{topics:?}] through pubsub={pubsub}"
        );
    }
    subscriptions
}
