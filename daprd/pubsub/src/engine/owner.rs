//! How components come to the engine, are replaced and go.

use async_trait::async_trait;
use blocks::{
    Declared, LoadError, Owner,
    registry::{AnyRegistry, retire},
};

use super::Engine;
use crate::{brokers::Topics, delivery::Mode, scopes::Scopes};

/// A broker is in use until the one that replaces it is open. Then its subscriptions end, and each begins at the new one
/// once it has ended at the old one, so that nothing is consumed twice.
#[async_trait]
impl Owner for Engine {
    fn registry(&self) -> &dyn AnyRegistry {
        &self.0.core.brokers
    }

    async fn apply(&self, declared: Declared) -> Result<(), LoadError> {
        let inner = &self.0;
        let options = &inner.core.options;
        let component = inner.core.brokers.open(&declared).await?;
        let capabilities = component.capabilities().names();
        let prefix = match declared.names_namespace {
            true => options.registry.namespace.clone(),
            false => String::new(),
        };
        let listed = declared.listed(capabilities.collect());
        let topics = Topics {
            scopes: Scopes::parse(&declared.metadata, &options.app_id),
            prefix,
        };
        let old = inner.core.brokers.swap(listed, component, topics);
        inner.reconcile(Mode::Drain);
        let active = inner.consumers.lock().active;
        if active {
            inner.ask().await;
            inner.reconcile(Mode::Drain);
        }
        let changes = inner.consumers.lock().changes(Some(&declared.name));
        changes.settled().await;
        if let Some(old) = old {
            retire(old).await;
        }
        Ok(())
    }

    async fn remove(&self, name: &str) {
        let inner = &self.0;
        let Some(old) = inner.core.brokers.take(name) else {
            return;
        };
        inner.reconcile(Mode::Drain);
        let changes = inner.consumers.lock().changes(Some(name));
        changes.settled().await;
        for (_, _, session) in inner.declarations.lock().streams(Some(name)) {
            session.close();
        }
        retire(old).await;
    }

    async fn close(&self) {
        self.shut_down().await;
        self.0.core.brokers.close().await;
    }
}
