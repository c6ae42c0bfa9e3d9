//! How components come to the engine, are replaced and go.

use async_trait::async_trait;
use blocks::{Declared, LoadError, Owner};

use super::Engine;
use crate::{
    brokers::{Broker, NAMESPACED},
    delivery::Mode,
    scopes::Scopes,
};

/// A broker is replaced with intake paused, so that nothing is consumed twice (architecture 5.5).
#[async_trait]
impl Owner for Engine {
    fn prefix(&self) -> &'static str {
        "pubsub."
    }

    async fn apply(&self, declared: Declared) -> Result<(), LoadError> {
        let inner = &self.0;
        let options = &inner.options;
        let mut lines = inner.lines.lock().await;
        let pause = |mode: Mode| {
            for open in lines.open.get(&declared.name).into_iter().flatten() {
                open.mode.send_replace(mode);
            }
        };
        pause(Mode::Pause);
        let component_type = declared.type_below(self.prefix());
        let opening =
            options
                .catalog
                .pubsub
                .open(&component_type, &declared.version, declared.open());
        let component = match declared.within_limit(opening).await {
            Ok(component) => component,
            Err(error) => {
                pause(Mode::Run);
                return Err(error);
            }
        };
        let capabilities = component.capabilities().names();
        let prefix = match declared.metadata.boolean(&[NAMESPACED]) {
            Some(true) => options.namespace.clone(),
            _ => String::new(),
        };
        let broker = Broker::new(
            declared.listed(capabilities.collect()),
            component,
            Scopes::parse(&declared.metadata, &options.app_id),
            prefix,
        );
        let old = inner.brokers.put(broker);
        if lines.active {
            inner.ask(&mut lines).await;
        }
        inner
            .reconcile(&mut lines, &declared.name, Mode::Drain)
            .await;
        drop(lines);
        if let Some(old) = old {
            old.close().await;
        }
        Ok(())
    }

    async fn remove(&self, name: &str) {
        let inner = &self.0;
        let mut lines = inner.lines.lock().await;
        let Some(old) = inner.brokers.take(name) else {
            return;
        };
        inner.reconcile(&mut lines, name, Mode::Drain).await;
        for (_, _, sink) in inner.book.lock().streams(Some(name)) {
            sink.close();
        }
        drop(lines);
        old.close().await;
    }

    fn components(&self) -> Vec<blocks::Listed> {
        self.0.brokers.listed()
    }

    async fn close(&self) {
        self.shut_down().await;
        for name in self.0.brokers.names() {
            if let Some(broker) = self.0.brokers.take(&name) {
                broker.close().await;
            }
        }
    }
}
