//! The MCP servers of a life, whose tools are workflows.

use std::{path::PathBuf, sync::Arc};

use ::mcp::{Options, Servers, Values};
use ::workflow::Workers;
use anyhow::Result;
use async_trait::async_trait;
use blocks::secrets;
use crds::NameValuePair;
use futures::{FutureExt, future::try_join_all};
use settings::Mode;

use super::{Runtime, ground::Ground};
use crate::{components::Resolver, tasks::Contained};

impl Runtime<'_> {
    /// No server yet.
    pub(super) fn mcp(
        &self,
        ground: &Ground,
        secrets: &secrets::Stores,
        workers: &Workers,
    ) -> Servers {
        let settings = self.settings;
        Servers::new(Options {
            workers: workers.clone(),
            values: Arc::new(Resolved(self.resolver(ground, secrets))),
            lent: ground.lent.clone(),
            spawn: Arc::new(Contained(self.daemon.clone())),
            max_message: settings.max_body_size.unwrap_or(MOST_MESSAGE),
            kubernetes: settings.mode == Mode::Kubernetes,
            directory: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            actors: !settings.placement_addresses.is_empty(),
        })
    }

    /// Asks for those that there are. What is answered waits until they are connected, or have failed.
    pub(super) fn connect_mcp(
        &self,
        ground: &Ground,
        servers: &Servers,
    ) -> impl Future<Output = Result<()>> + Send + use<> {
        let all = ground.desired.mcp_servers().cloned();
        let connecting: Vec<_> = all.map(|server| servers.apply(server)).collect();
        try_join_all(connecting).map(|connected| connected.map(drop).map_err(Into::into))
    }
}

/// Values as the resources of components have them.
struct Resolved(Resolver);

#[async_trait]
impl Values for Resolved {
    async fn value(&self, pair: &NameValuePair, store: Option<&str>) -> Result<String, String> {
        let resolved = self.0.resolve(pair, store).await;
        resolved.map_err(|error| format!("{error:#}"))
    }
}

/// Largest message of a server where bodies have no limit, in bytes.
const MOST_MESSAGE: usize = 64 << 20;
