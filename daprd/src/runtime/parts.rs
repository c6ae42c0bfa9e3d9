//! The parts that are made from the settings and the ground.

use std::sync::Arc;

use ::invoke::{Escapes, Invoker, access_control::AccessControl};
use anyhow::Result;
use app_channel::{AppChannel, HealthOptions, Probe, Protocol};
use arc_swap::ArcSwapOption;
use blocks::{Owner, secrets};
use component::NameResolver;
use peers::Pool;
use settings::{App, AppProtocol, Mode};
use telemetry::{GrpcMetrics, HttpMetrics};
use values::Template;

use super::{Runtime, ground::Ground};
use crate::{
    components::{self, Loader, Resolver},
    identity,
    middleware::Middleware,
};

/// Largest head of a call between sidecars, in bytes: SDKs that proxy put their own metadata there.
pub const MAX_PEER_HEADERS: usize = 64 << 10;

/// The feature of the Configuration with which escapes in the paths of apps arrive as they were written.
const KEPT_ESCAPES: &str = "InvokeEscapedPaths";

impl Runtime<'_> {
    pub(super) fn app_channel(
        &self,
        ground: &Ground,
        middleware: &Middleware,
    ) -> Result<(AppChannel, Probe)> {
        let App {
            id,
            port,
            address,
            protocol,
            max_concurrency,
            health,
            health_path,
            ..
        } = self.settings.app.clone();
        Ok(AppChannel::new(app_channel::Options {
            app_id: id,
            port,
            address,
            protocol: match protocol {
                AppProtocol::Http => Protocol::Http,
                AppProtocol::Https => Protocol::Https,
                AppProtocol::H2c => Protocol::H2c,
                AppProtocol::Grpc => Protocol::Grpc,
                AppProtocol::Grpcs => Protocol::Grpcs,
            },
            token: self
                .settings
                .app_api_token
                .as_ref()
                .map(|token| token.expose().to_owned()),
            max_concurrency,
            pipeline: middleware.app(),
            max_message: self.max_message(),
            health: health.map(|health| HealthOptions {
                path: health_path,
                interval: health.interval,
                timeout: health.timeout,
                threshold: health.threshold,
            }),
            http_metrics: HttpMetrics::new(&ground.meter, &ground.compiled.http_metrics)?,
            grpc_metrics: GrpcMetrics::new(&ground.meter),
        }))
    }

    pub(super) fn loader(
        &self,
        ground: &Ground,
        owners: Vec<Arc<dyn Owner>>,
        secrets: &secrets::Stores,
    ) -> Loader {
        Loader::new(components::Options {
            owners,
            catalog: Arc::clone(&ground.catalog),
            resolver: self.resolver(ground, secrets),
            configuration: ground.configuration.clone(),
            daemon: self.daemon.clone(),
            meter: ground.meter.clone(),
        })
    }

    /// What values of resources are resolved by.
    pub(super) fn resolver(&self, ground: &Ground, secrets: &secrets::Stores) -> Resolver {
        let settings = self.settings;
        Resolver {
            secrets: secrets.clone(),
            template: Template {
                pod_name: settings.pod_name.clone(),
                namespace: settings.namespace.clone(),
                app_id: settings.app.id.clone(),
            },
            instance: Arc::clone(&ground.instance),
            lent: ground.lent.clone(),
            kubernetes: settings.mode == Mode::Kubernetes,
            env_keys: settings.env_keys.clone(),
            strict_wasm: ground
                .configuration
                .spec
                .wasm
                .as_ref()
                .is_some_and(|wasm| wasm.strict_sandbox),
        }
    }

    /// The connections to other sidecars.
    pub(super) fn peers(
        &self,
        ground: &Ground,
        resolver: &Arc<ArcSwapOption<Arc<dyn NameResolver>>>,
    ) -> Pool {
        let settings = self.settings;
        let peers = Pool::new(peers::Options {
            security: ground.security.clone(),
            max_idle: settings.tuning.grpc_max_conn_idle,
            collect_interval: settings.tuning.grpc_conn_collector_interval,
            max_header_bytes: MAX_PEER_HEADERS,
            metrics: GrpcMetrics::new(&ground.meter),
            unreachable: {
                let resolver = Arc::clone(resolver);
                Arc::new(move |address: &str| {
                    if let Some(resolver) = &*resolver.load() {
                        resolver.doubt(address);
                    }
                })
            },
        });
        self.spawn("peers", peers.clone().run(self.daemon.shutdown()));
        peers
    }

    pub(super) fn invoker(
        &self,
        ground: &Ground,
        app: &AppChannel,
        resolver: Arc<ArcSwapOption<Arc<dyn NameResolver>>>,
        peers: Pool,
    ) -> Result<Invoker> {
        let settings = self.settings;
        let access = ground.configuration.spec.access_control.as_ref();
        Ok(Invoker::new(::invoke::Options {
            app_id: settings.app.id.clone(),
            namespace: identity::namespace(settings),
            host_address: ground.instance.host_address.clone(),
            host_name: std::env::var("HOSTNAME").unwrap_or_default(),
            internal_port: ground.instance.internal_port,
            resolver,
            peers,
            app: app.clone(),
            policies: Arc::clone(&ground.policies),
            access_control: AccessControl::compile(access, !settings.app.protocol.is_grpc())?,
            escapes: match ground.configuration.spec.feature_enabled(KEPT_ESCAPES) {
                true => Escapes::Kept,
                false => Escapes::Decoded,
            },
            meter: ground.meter.clone(),
            max_message: self.max_message(),
        }))
    }

    /// Largest message of gRPC, either way: the largest body, or what counts as no limit.
    pub(super) fn max_message(&self) -> usize {
        self.settings.max_body_size.unwrap_or(usize::MAX)
    }
}
