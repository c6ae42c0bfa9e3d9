//! Metadata operations: what this sidecar is and has loaded.

use std::collections::BTreeMap;

use ::actors::{RuntimeStatus, Status};
use ::pubsub::SubscriptionKind;
use blocks::Listed;
use parking_lot::Mutex;
use proto::runtime::v1::{
    ActiveActorsCount, ActorRuntime, AppConnectionHealthProperties, AppConnectionProperties,
    GetMetadataRequest, GetMetadataResponse, MetadataHttpEndpoint, MetadataScheduler,
    MetadataWorkflows, PubsubSubscription, PubsubSubscriptionRule, PubsubSubscriptionRules,
    PubsubSubscriptionType, RegisteredComponents, SetMetadataRequest,
    actor_runtime::ActorRuntimeStatus,
};

use super::{Api, Operation, Route, rpc};
use crate::{ApiError, CallContext, http::metadata as codec, reason::general};

pub static ROWS: &[Operation] = &[
    Operation {
        name: "GetMetadata",
        group: "metadata",
        rpcs: &[rpc!("GetMetadata", "v1", metadata)],
        routes: &[Route {
            methods: &["GET"],
            path: "/v1.0/metadata",
            codec: |api, call| Box::pin(codec::get(api, call)),
        }],
        health_check: false,
        public: true,
    },
    Operation::new(
        "PutMetadata",
        "metadata",
        &[rpc!("SetMetadata", "v1", set_metadata)],
        &[Route {
            methods: &["PUT"],
            path: "/v1.0/metadata/{key}",
            codec: |api, call| Box::pin(codec::put(api, call)),
        }],
    ),
];

/// Most values that callers may set; a sidecar is no store.
const MOST_EXTENDED: usize = 1_000;

/// The extended attribute that names components which should run and could not be opened.
pub const FAILED_COMPONENTS: &str = "daprFailedComponents";

/// Values set by `PutMetadata`.
#[derive(Default)]
pub struct Extended(Mutex<BTreeMap<String, String>>);

/// How the app is connected.
#[derive(Clone, Debug)]
pub struct AppConnection {
    pub port: u16,
    pub protocol: String,
    pub address: String,
    /// 0: unlimited.
    pub max_concurrency: i32,
    pub health: Option<AppHealth>,
}

/// How the app's health is probed.
#[derive(Clone, Debug)]
pub struct AppHealth {
    /// Only for HTTP apps.
    pub path: String,
    /// Go duration.
    pub interval: String,
    /// Go duration.
    pub timeout: String,
    pub threshold: i32,
}

/// What the sidecar has loaded. The program implements it, because only it knows all parts.
pub trait Inventory: Send + Sync {
    fn runtime_version(&self) -> String;
    fn enabled_features(&self) -> Vec<String>;
    fn components(&self) -> Vec<Listed>;
    /// What should run and could not be opened, as `name (type/version)`.
    fn failed_components(&self) -> Vec<String>;
    fn subscriptions(&self) -> Vec<::pubsub::Listed>;
    fn http_endpoints(&self) -> Vec<String>;
    fn resiliencies(&self) -> Vec<String>;
    fn mcp_servers(&self) -> Vec<String>;
    fn access_policies(&self) -> Vec<String>;
    fn app_connection(&self) -> Option<AppConnection>;
    /// Addresses of the schedulers that are known.
    fn schedulers(&self) -> Vec<String>;
}

impl Api {
    /// Everything that callers may know of this sidecar (contract 2.6).
    pub async fn metadata(
        &self,
        _call: &CallContext,
        _request: GetMetadataRequest,
    ) -> Result<GetMetadataResponse, ApiError> {
        let inventory = &self.options.inventory;
        let version = inventory.runtime_version();
        let mut extended = self.extended.0.lock().clone();
        extended.insert("daprRuntimeVersion".to_owned(), version.clone());
        // Q-component-retry: there only while a component fails, so that clients see what they always have.
        let failed = inventory.failed_components();
        if !failed.is_empty() {
            extended.insert(FAILED_COMPONENTS.to_owned(), failed.join(", "));
        }
        let actors = actor_runtime(self.options.actors.status());
        Ok(GetMetadataResponse {
            id: self.options.app_id.clone(),
            registered_components: inventory.components().into_iter().map(component).collect(),
            extended_metadata: extended,
            subscriptions: inventory
                .subscriptions()
                .into_iter()
                .map(subscription)
                .collect(),
            http_endpoints: inventory
                .http_endpoints()
                .into_iter()
                .map(|name| MetadataHttpEndpoint { name })
                .collect(),
            app_connection_properties: inventory.app_connection().map(app_connection),
            runtime_version: version,
            enabled_features: inventory.enabled_features(),
            active_actors_count: actors.active_actors.clone(),
            actor_runtime: Some(actors),
            resiliencies: inventory
                .resiliencies()
                .into_iter()
                .map(|name| proto::runtime::v1::MetadataResiliency { name })
                .collect(),
            mcp_servers: inventory
                .mcp_servers()
                .into_iter()
                .map(|name| proto::runtime::v1::MetadataMcpServer { name })
                .collect(),
            workflow_access_policies: inventory
                .access_policies()
                .into_iter()
                .map(|name| proto::runtime::v1::MetadataWorkflowAccessPolicy { name })
                .collect(),
            workflows: Some(MetadataWorkflows {
                connected_workers: i32::try_from(self.options.workflow.workers().count())
                    .unwrap_or(i32::MAX),
            }),
            scheduler: Some(inventory.schedulers())
                .filter(|addresses| !addresses.is_empty())
                .map(|connected_addresses| MetadataScheduler {
                    connected_addresses,
                }),
        })
    }

    /// Sets a value that [`Api::metadata`] shows.
    pub async fn set_metadata(
        &self,
        _call: &CallContext,
        request: SetMetadataRequest,
    ) -> Result<(), ApiError> {
        let mut extended = self.extended.0.lock();
        if extended.len() >= MOST_EXTENDED && !extended.contains_key(&request.key) {
            return Err(ApiError::new(
                &general::BAD_REQUEST,
                format!("invalid request: no more than {MOST_EXTENDED} metadata values may be set"),
            ));
        }
        extended.insert(request.key, request.value);
        Ok(())
    }
}

fn actor_runtime(status: Status) -> ActorRuntime {
    let runtime_status = match status.runtime {
        RuntimeStatus::Initializing => ActorRuntimeStatus::Initializing,
        RuntimeStatus::Disabled => ActorRuntimeStatus::Disabled,
        RuntimeStatus::Running => ActorRuntimeStatus::Running,
    };
    let active = status.active.into_iter();
    let active = active.map(|(r#type, count)| ActiveActorsCount {
        r#type,
        count: i32::try_from(count).unwrap_or(i32::MAX),
    });
    ActorRuntime {
        runtime_status: runtime_status.into(),
        active_actors: active.collect(),
        host_ready: status.host_ready,
        placement: status.placement,
    }
}

fn component(listed: Listed) -> RegisteredComponents {
    RegisteredComponents {
        name: listed.name,
        r#type: listed.component_type,
        version: listed.version,
        capabilities: listed.capabilities.into_iter().map(str::to_owned).collect(),
    }
}

fn subscription(listed: ::pubsub::Listed) -> PubsubSubscription {
    let kind = match listed.kind {
        SubscriptionKind::Declarative => PubsubSubscriptionType::Declarative,
        SubscriptionKind::Programmatic => PubsubSubscriptionType::Programmatic,
        SubscriptionKind::Streaming => PubsubSubscriptionType::Streaming,
    };
    let rules = listed
        .rules
        .into_iter()
        .map(|(r#match, path)| PubsubSubscriptionRule { r#match, path })
        .collect();
    PubsubSubscription {
        pubsub_name: listed.pubsub,
        topic: listed.topic,
        metadata: listed.metadata,
        rules: Some(PubsubSubscriptionRules { rules }),
        dead_letter_topic: listed.dead_letter_topic,
        r#type: kind.into(),
    }
}

fn app_connection(app: AppConnection) -> AppConnectionProperties {
    AppConnectionProperties {
        port: i32::from(app.port),
        protocol: app.protocol,
        channel_address: app.address,
        max_concurrency: app.max_concurrency,
        health: app.health.map(|health| AppConnectionHealthProperties {
            health_check_path: health.path,
            health_probe_interval: health.interval,
            health_probe_timeout: health.timeout,
            health_threshold: health.threshold,
        }),
    }
}
