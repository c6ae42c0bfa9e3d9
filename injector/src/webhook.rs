//! The webhook: HTTPS in, one decision a request, no question to the cluster on the way.

mod body;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use daemon::{Refusals, Target};
use http::{StatusCode, header};
use k8s_openapi::api::core::v1::Pod;
use security::TrustBundle;
use settings::injection;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use transport::{Listener, PeerGate, ServerOptions};

use crate::config::Config;
use crate::listers::Listers;
use crate::metrics::{Failure, Metrics, shown};
use crate::patch::{self, Injection, Surroundings};
use crate::requester::Requesters;
use crate::review::{self, Answer, Request};
use body::Memory;

/// Everything a decision needs; cheap to clone.
#[derive(Clone)]
pub struct Webhook(Arc<Parts>);

struct Parts {
    config: Config,
    requesters: Requesters,
    listers: Listers,
    anchors: watch::Receiver<Arc<TrustBundle>>,
    metrics: Metrics,
    memory: Memory,
    refusals: Refusals,
}

/// How a review of a pod ends.
enum Decision {
    /// Not ours: allowed as it is.
    Pass,
    /// Allowed as it is, but counted as a failure.
    Skip,
    Patch(Injection),
    Refuse(String),
}

impl Webhook {
    pub fn new(
        config: Config,
        requesters: Requesters,
        listers: Listers,
        anchors: watch::Receiver<Arc<TrustBundle>>,
        metrics: Metrics,
    ) -> Self {
        Self(Arc::new(Parts {
            config,
            requesters,
            listers,
            anchors,
            memory: Memory::new(),
            refusals: Refusals::new("no sidecar"),
            metrics,
        }))
    }

    /// Serves until shutdown.
    pub async fn serve(
        self,
        listener: Listener,
        tls: Arc<rustls::ServerConfig>,
        health: Target,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let metrics = self.0.metrics.clone();
        let options = ServerOptions {
            tls: Some(tls),
            // An API server's certificate names no workload.
            identify: false,
            max_connections: MAX_CONNECTIONS,
            peers: Some(PeerGate::new(CONNECTIONS_PER_PEER, move || {
                metrics.peer_refused("connections");
            })),
            max_concurrent_streams: MAX_STREAMS,
            ..ServerOptions::default()
        };
        tracing::info!("sidecar injector is listening, patching Dapr-enabled pods");
        health.ready();
        transport::serve(listener, options, self.router(), shutdown).await;
        tracing::info!("sidecar injector is shutting down");
        Ok(())
    }

    /// The one route.
    pub fn router(self) -> Router {
        Router::new()
            .route("/mutate", post(mutate))
            .with_state(self)
    }

    /// The answer to a review, and its counting.
    fn answer(&self, body: &[u8]) -> serde_json::Result<Answer> {
        let metrics = &self.0.metrics;
        let (types, request) = review::parse(body);
        let request = match request {
            Ok(request) => request,
            Err(error) => {
                let message = told(error);
                let refusals = &self.0.refusals;
                refusals.note("somebody", "review", &message, None);
                metrics.failed("", Failure::Patch);
                return Ok(Answer::refuse(types, "", message));
            }
        };
        let pod = request.pod();
        let app_id = match &pod {
            Ok(Some(pod)) => shown(&patch::app_id_of(pod)).to_owned(),
            _ => String::new(),
        };
        match self.decide(&request, pod) {
            Decision::Pass => Ok(Answer::allow(types, &request.uid)),
            Decision::Skip => {
                metrics.failed(&app_id, Failure::PodPatch);
                Ok(Answer::allow(types, &request.uid))
            }
            Decision::Refuse(message) => {
                let who = format!("app {app_id:?} in namespace {:?}", request.namespace);
                self.0.refusals.note(&who, "pod", &message, None);
                metrics.failed(&app_id, Failure::Patch);
                Ok(Answer::refuse(types, &request.uid, message))
            }
            Decision::Patch(injection) => {
                for warning in &injection.warnings {
                    tracing::warn!("app {app_id:?}: {warning}");
                }
                if !injection.operations.is_empty() {
                    tracing::info!(
                        "sidecar for app {app_id:?} in namespace {:?}",
                        request.namespace
                    );
                    metrics.succeeded(&app_id);
                }
                let answer = Answer::patch(
                    types,
                    &request.uid,
                    &injection.operations,
                    injection.warnings,
                );
                answer.inspect_err(|_| metrics.failed(&app_id, Failure::Response))
            }
        }
    }

    fn decide(&self, request: &Request<'_>, pod: Result<Option<Pod>, review::Error>) -> Decision {
        let parts = &self.0;
        if request.kind.kind != "Pod" {
            let kind = format!("{:?}", shown(&request.kind.kind));
            let reason = "invalid kind for review";
            parts.refusals.note(&kind, "kind", reason, None);
            return Decision::Skip;
        }
        // A pod that cannot be read is judged by its requester first, as one that opted in.
        match &pod {
            Ok(None) => return Decision::Pass,
            Ok(Some(pod)) if !injection::is_wanted(pod.metadata.annotations.as_ref()) => {
                return Decision::Pass;
            }
            _ => {}
        }
        if !parts.requesters.allow(&request.user_info) {
            let name = request.user_info.username.as_deref().unwrap_or_default();
            let who = format!("service account {:?}", shown(name));
            let reason = "it is not on the list of allowed controller accounts";
            parts.refusals.note(&who, "requester", reason, None);
            return Decision::Skip;
        }
        match pod {
            Ok(None) => Decision::Pass,
            Ok(Some(pod)) => self.inject(request, &pod),
            Err(error) => Decision::Refuse(told(error)),
        }
    }

    fn inject(&self, request: &Request<'_>, pod: &Pod) -> Decision {
        let parts = &self.0;
        let components = if patch::wants_components(pod) {
            parts
                .listers
                .components(&request.namespace, &patch::app_id_of(pod))
        } else {
            Vec::new()
        };
        let around = Surroundings {
            namespace: request.namespace.clone(),
            mtls: parts.listers.mtls(),
            trust_anchors: String::from_utf8_lossy(parts.anchors.borrow().pem()).into_owned(),
            components,
            native_sidecars: parts.listers.native_sidecars(),
        };
        match patch::build(pod, &around, &parts.config) {
            Ok(injection) => Decision::Patch(injection),
            Err(error) => Decision::Refuse(told(error)),
        }
    }
}

/// An error with its causes, as answers and the log show it; it may quote what the review says.
fn told(error: impl Into<anyhow::Error>) -> String {
    let mut text = format!("{:#}", error.into());
    if let Some((end, _)) = text.char_indices().nth(MAX_MESSAGE) {
        text.truncate(end);
    }
    text
}

async fn mutate(State(webhook): State<Webhook>, request: http::Request<Body>) -> Response {
    let parts = &webhook.0;
    parts.metrics.request();
    let answer = |body: &axum::body::Bytes| {
        let answer = webhook.answer(body);
        match answer.and_then(|answer| serde_json::to_vec(&answer)) {
            Ok(answer) => ([(header::CONTENT_TYPE, JSON)], answer).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        }
    };
    parts.memory.read(request, answer).await
}

/// Characters of a message.
const MAX_MESSAGE: usize = 1024;
const JSON: &str = "application/json";
/// Connections at a time. An API server makes one or two.
const MAX_CONNECTIONS: usize = 1024;
/// Of them, so many from one address.
const CONNECTIONS_PER_PEER: usize = 64;
/// Reviews at a time on one connection.
const MAX_STREAMS: u32 = 250;

#[cfg(test)]
mod tests;
