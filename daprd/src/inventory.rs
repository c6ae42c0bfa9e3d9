//! What the metadata API shows of this sidecar.

use std::sync::Arc;

use api::operations::metadata::{AppConnection, AppHealth, Inventory as Asked};
use blocks::Listed;
use pubsub::Engine;
use settings::Resolved;
use values::GoDuration;

use crate::components::Loader;

/// The parts that are asked.
pub struct Inventory {
    pub loader: Arc<Loader>,
    pub pubsub: Engine,
    pub http_endpoints: Vec<String>,
    pub resiliencies: Vec<String>,
    pub workflow: workflow::Engine,
    pub mcp: mcp::Servers,
    pub enabled_features: Vec<String>,
    pub app: Option<AppConnection>,
    pub jobs: jobs::Engine,
}

impl Asked for Inventory {
    fn runtime_version(&self) -> String {
        daemon::version().to_owned()
    }

    fn enabled_features(&self) -> Vec<String> {
        self.enabled_features.clone()
    }

    fn components(&self) -> Vec<Listed> {
        self.loader.components()
    }

    fn failed_components(&self) -> Vec<String> {
        self.loader.failed()
    }

    fn subscriptions(&self) -> Vec<pubsub::Listed> {
        self.pubsub.subscriptions()
    }

    fn http_endpoints(&self) -> Vec<String> {
        self.http_endpoints.clone()
    }

    fn resiliencies(&self) -> Vec<String> {
        self.resiliencies.clone()
    }

    fn mcp_servers(&self) -> Vec<String> {
        self.mcp.names()
    }

    fn access_policies(&self) -> Vec<String> {
        self.workflow.access_policies()
    }

    fn app_connection(&self) -> Option<AppConnection> {
        self.app.clone()
    }

    fn schedulers(&self) -> Vec<String> {
        self.jobs.addresses()
    }
}

/// How the app is connected, from the settings.
pub fn app_connection(settings: &Resolved) -> Option<AppConnection> {
    let app = &settings.app;
    let duration = |it| GoDuration::from(it).to_string();
    Some(AppConnection {
        port: app.port?,
        protocol: app.protocol.to_string(),
        address: app.address.clone(),
        max_concurrency: app
            .max_concurrency
            .and_then(|most| i32::try_from(most).ok())
            .unwrap_or_default(),
        health: app.health.map(|health| AppHealth {
            path: if app.protocol.is_grpc() {
                String::new()
            } else {
                app.health_path.clone()
            },
            interval: duration(health.interval),
            timeout: duration(health.timeout),
            threshold: i32::try_from(health.threshold).unwrap_or(i32::MAX),
        }),
    })
}
