//! The servers of a life: the internal one for other sidecars, the two APIs, and the public port.

use std::{convert::Infallible, sync::Arc};

use ::invoke::Invoker;
use anyhow::Result;
use api::{Api, grpc, http, layers::ApiToken};
use futures::FutureExt;
use telemetry::{ErrorCodes, GrpcMetrics, HttpMetrics, grpc_metrics};
use tower::Layer;

use super::{Runtime, ground::Ground, parts::MAX_PEER_HEADERS};
use crate::{middleware::Middleware, servers};

/// RPCs between sidecars that stream, whose messages the size metrics leave out.
const INTERNAL_STREAMS: [&str; 2] = [
    "/dapr.proto.internals.v1.ServiceInvocation/CallLocalStream",
    "/dapr.proto.internals.v1.ServiceInvocation/CallActorStream",
];

impl Runtime<'_> {
    /// Serves other sidecars, from before the components are loaded.
    pub(super) fn serve_internal(
        &self,
        ground: &mut Ground,
        invoker: &Invoker,
        actors: &actors::Engine,
    ) {
        let ready = self.daemon.health().target("grpc-internal-server");
        let serving = grpc::Serving {
            max_message: self.max_message(),
            errors: ErrorCodes::new(&ground.meter, ground.compiled.record_error_codes),
        };
        let actors = Arc::new(actors.clone());
        let internal = grpc::Internal::new(invoker.internal(), actors, serving);
        let metrics = GrpcMetrics::new(&ground.meter);
        for listener in std::mem::take(&mut ground.internal) {
            let mut options = servers::options(self.settings);
            options.tls = ground.security.server();
            options.http1 = false;
            options.max_header_bytes = options.max_header_bytes.max(MAX_PEER_HEADERS);
            let handler = internal.clone();
            let service = tower::service_fn(move |request| {
                let answer = handler.clone().handle(request);
                answer.map(Ok::<_, Infallible>)
            });
            let layer = metrics.server_layer(grpc_metrics::unary_but(INTERNAL_STREAMS));
            let service = layer.layer(service);
            self.servers
                .spawn("internal gRPC server", listener, options, service);
        }
        ready.ready();
    }

    /// Serves the app, on both APIs, and the probes of the platform.
    pub(super) async fn serve_api(
        &self,
        ground: &Ground,
        api: &Arc<Api>,
        invoker: &Invoker,
        middleware: &Middleware,
    ) -> Result<()> {
        self.serve_grpc(ground, api, invoker).await?;
        let settings = self.settings;
        let metrics = HttpMetrics::new(&ground.meter, &ground.compiled.http_metrics)?;
        let server = |public| {
            http::Server::new(http::Options {
                api: Arc::clone(api),
                access: ground.compiled.access.clone(),
                token: self.api_token(),
                log: ground.compiled.api_log,
                pipeline: middleware.api(),
                origins: values::list::owned(&settings.allowed_origins),
                max_body: settings.max_body_size.unwrap_or_default(),
                tracer: ground.tracer.clone(),
                public,
            })
        };
        let mut listeners: Vec<_> = servers::listen_api(settings, settings.http_port, "HTTP")
            .await?
            .into_iter()
            .map(|listener| (listener, false))
            .collect();
        if let Some(port) = settings.public_port {
            let addresses = [settings.public_listen_address.clone()];
            let public = servers::listen(&addresses, port, "public HTTP").await?;
            listeners.extend(public.into_iter().map(|listener| (listener, true)));
        }
        for (listener, public) in listeners {
            let mut options = servers::options(settings);
            options.http2 = settings.h2c;
            let server = server(public);
            let service = tower::service_fn(move |request| {
                let answer = server.clone().handle(request);
                answer.map(Ok::<_, Infallible>)
            });
            let service = metrics.server_layer().layer(service);
            self.servers
                .spawn("HTTP server", listener, options, service);
        }
        Ok(())
    }

    async fn serve_grpc(&self, ground: &Ground, api: &Arc<Api>, invoker: &Invoker) -> Result<()> {
        let settings = self.settings;
        let ready = self.daemon.health().target("grpc-api-server");
        let server = grpc::Server::new(grpc::Options {
            api: Arc::clone(api),
            invoker: invoker.clone(),
            access: ground.compiled.access.clone(),
            token: self.api_token(),
            log: ground.compiled.api_log,
            tracer: ground.tracer.clone(),
        });
        let metrics = GrpcMetrics::new(&ground.meter);
        for listener in servers::listen_api(settings, settings.grpc_port, "gRPC").await? {
            let mut options = servers::options(settings);
            // gRPC metadata carry more than HTTP heads do (contract 1.2).
            options.max_header_bytes = options.max_header_bytes.max(MAX_PEER_HEADERS);
            let handler = server.clone();
            let service = tower::service_fn(move |request| {
                let answer = handler.clone().handle(request);
                answer.map(Ok::<_, Infallible>)
            });
            let layer = metrics.server_layer(grpc_metrics::unary_but(api::operations::streams()));
            let service = layer.layer(service);
            self.servers
                .spawn("gRPC server", listener, options, service);
        }
        ready.ready();
        Ok(())
    }

    fn api_token(&self) -> ApiToken {
        let token = self.settings.api_token.as_ref();
        ApiToken::new(token.map(|token| token.expose().to_owned()))
    }
}
