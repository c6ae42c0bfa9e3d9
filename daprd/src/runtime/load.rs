//! Opens what the resources name: the resolver, the components, the subscriptions.

use std::sync::Arc;

use ::pubsub::Engine;
use anyhow::{Context, Result};
use arc_swap::ArcSwapOption;
use component::{NameResolver, Open, catalog::FIRST_VERSION};
use crds::{Component, component::Spec};
use settings::Mode;

use super::{Runtime, ground::Ground};
use crate::{
    components::{KUBERNETES_STORE, Loader},
    middleware::Middleware,
    names,
    reload::{Reload, Restart},
};

impl Runtime<'_> {
    pub(super) async fn open_resolver(
        &self,
        ground: &Ground,
        resolver: &ArcSwapOption<Arc<dyn NameResolver>>,
    ) {
        let configured = ground.configuration.spec.name_resolution.as_ref();
        let open = |name: &str, metadata| {
            let (instance, tasks) = (Arc::clone(&ground.instance), Arc::clone(&ground.tasks));
            Open::new(name, metadata, instance, tasks, ground.lent.clone())
        };
        match names::open(&ground.catalog, configured, self.settings.mode, open).await {
            Ok(opened) => resolver.store(Some(Arc::new(opened))),
            Err(error) => tracing::error!(
                "failed to init name resolution: {}",
                component::error::chain(&error)
            ),
        }
    }

    pub(super) async fn load(
        &self,
        ground: &Ground,
        loader: &Loader,
        pubsub: &Engine,
        middleware: &Middleware,
    ) -> Result<()> {
        let kubernetes = self.settings.mode == Mode::Kubernetes;
        let builtin = (kubernetes && self.settings.builtin_secret_store).then(kubernetes_secrets);
        let components = ground.desired.components().cloned();
        loader
            .load(builtin.into_iter().chain(components))
            .await
            .context("failed to load components")?;
        let missing = middleware.missing();
        if !missing.is_empty() {
            // They may still come, by a reload.
            tracing::error!(
                "middleware components of the pipelines are not loaded, requests go on without them: {}",
                missing.join(", ")
            );
        }
        for subscription in ground.desired.subscriptions() {
            pubsub.apply_subscription(subscription.clone())?;
        }
        Ok(())
    }

    /// Keeps the components as they are wanted.
    pub(super) fn keep_components(&self, loader: &Arc<Loader>) {
        let (loader, shutdown) = (Arc::clone(loader), self.daemon.shutdown());
        self.spawn("components", async move { loader.run(shutdown).await });
    }

    /// Tells the operator how the components are, in a cluster.
    pub(super) fn report_components(&self, ground: &Ground, loader: &Arc<Loader>) {
        let Some(reporter) = ground.reporter.clone() else {
            return;
        };
        let (loader, shutdown) = (Arc::clone(loader), self.daemon.shutdown());
        let changes = loader.changes();
        self.spawn("component reports", async move {
            reporter.run(|| loader.states(), changes, shutdown).await;
        });
    }

    /// Follows what changes, if that is switched on and there is something to follow.
    pub(super) fn watch_resources(
        &self,
        ground: &Ground,
        loader: &Arc<Loader>,
        pubsub: &Engine,
        workflow: &::workflow::Engine,
        mcp: &::mcp::Servers,
    ) -> Option<Restart> {
        if !ground.compiled.hot_reload {
            return None;
        }
        let reload = Reload {
            loader: Arc::clone(loader),
            pubsub: pubsub.clone(),
            workflow: workflow.clone(),
            mcp: mcp.clone(),
        };
        let reconcile = self.settings.hot_reload_reconcile_interval;
        let (source, desired) = (ground.source.clone(), ground.desired.clone());
        Some(reload.start(source, desired, reconcile, self.daemon))
    }
}

/// The store of the cluster's secrets, which every sidecar in a cluster has (contract 10.5).
fn kubernetes_secrets() -> Component {
    let spec = Spec {
        component_type: format!("secretstores.{KUBERNETES_STORE}"),
        version: FIRST_VERSION.to_owned(),
        // Q-builtin-secrets: nobody has asked for it, and a pod without a service account's token does without.
        ignore_errors: true,
        ..Spec::default()
    };
    Component::new(KUBERNETES_STORE, spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As outside of a cluster, there is no token: an error that nobody ignores would end the sidecar.
    #[test]
    fn the_store_that_nobody_asked_for_ends_no_sidecar() {
        let builtin = kubernetes_secrets();
        assert_eq!(builtin.spec.component_type, "secretstores.kubernetes");
        assert!(builtin.spec.ignore_errors);
    }
}
