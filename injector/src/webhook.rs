//! The webhook: HTTPS in, one decision a request, no question to the cluster on the way.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use daemon::Target;
use http::{HeaderMap, StatusCode, header};
use k8s_openapi::api::core::v1::Pod;
use security::TrustBundle;
use settings::injection;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use transport::{Listener, ServerOptions};

use crate::config::Config;
use crate::listers::Listers;
use crate::metrics::{Failure, Metrics};
use crate::patch::{self, Injection, Surroundings};
use crate::requester::Requesters;
use crate::review::{self, Answer, Request};

/// Everything a decision needs; cheap to clone.
#[derive(Clone)]
pub struct Webhook(Arc<Parts>);

struct Parts {
    config: Config,
    requesters: Requesters,
    listers: Listers,
    anchors: watch::Receiver<Arc<TrustBundle>>,
    metrics: Metrics,
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
        let options = ServerOptions {
            tls: Some(tls),
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
            .layer(DefaultBodyLimit::max(MAX_REVIEW_BYTES))
            .with_state(self)
    }

    /// The answer to a review, and its counting.
    fn answer(&self, body: &[u8]) -> serde_json::Result<Answer> {
        let metrics = &self.0.metrics;
        let (types, request) = review::parse(body);
        let request = match request {
            Ok(request) => request,
            Err(error) => {
                tracing::error!("{error}");
                metrics.failed("", Failure::Patch);
                return Ok(Answer::refuse(types, "", error.to_string()));
            }
        };
        let pod = request.object.map_or_else(
            || Ok(Pod::default()),
            |object| serde_json::from_str(object.get()),
        );
        let app_id = pod.as_ref().map(patch::app_id_of).unwrap_or_default();
        match self.decide(&request, pod) {
            Decision::Pass => Ok(Answer::allow(types, &request.uid)),
            Decision::Skip => {
                metrics.failed(&app_id, Failure::PodPatch);
                Ok(Answer::allow(types, &request.uid))
            }
            Decision::Refuse(message) => {
                tracing::error!("no sidecar for app {app_id:?}: {message}");
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

    fn decide(&self, request: &Request<'_>, pod: serde_json::Result<Pod>) -> Decision {
        let parts = &self.0;
        if request.kind.kind != "Pod" {
            tracing::error!("invalid kind for review: {:?}", request.kind.kind);
            return Decision::Skip;
        }
        // A pod that cannot be read is judged by its requester first, as one that opted in.
        if pod
            .as_ref()
            .is_ok_and(|pod| !injection::is_wanted(pod.metadata.annotations.as_ref()))
        {
            return Decision::Pass;
        }
        if !parts.requesters.allow(&request.user_info) {
            let name = request.user_info.username.as_deref().unwrap_or_default();
            tracing::error!(
                "service account {name:?} is not on the list of allowed controller accounts"
            );
            return Decision::Skip;
        }
        let pod = match pod {
            Ok(pod) => pod,
            Err(error) => return Decision::Refuse(format!("cannot read the pod: {error}")),
        };
        let components = if patch::wants_components(&pod) {
            parts
                .listers
                .components(&request.namespace, &patch::app_id_of(&pod))
        } else {
            Vec::new()
        };
        let around = Surroundings {
            namespace: request.namespace.clone(),
            mtls: parts.listers.mtls(),
            trust_anchors: String::from_utf8_lossy(parts.anchors.borrow().pem()).into_owned(),
            components,
        };
        match patch::build(&pod, &around, &parts.config) {
            Ok(injection) => Decision::Patch(injection),
            Err(error) => Decision::Refuse(error.to_string()),
        }
    }
}

async fn mutate(
    State(webhook): State<Webhook>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    webhook.0.metrics.request();
    let body = match body {
        Ok(body) if body.is_empty() => {
            return (StatusCode::BAD_REQUEST, "empty body\n").into_response();
        }
        Ok(body) => body,
        Err(rejection) => return rejection.into_response(),
    };
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    if kind.split(';').next().unwrap_or_default().trim() != JSON {
        let message = "invalid Content-Type, expected `application/json`\n";
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, message).into_response();
    }
    match webhook
        .answer(&body)
        .and_then(|answer| serde_json::to_vec(&answer))
    {
        Ok(answer) => ([(header::CONTENT_TYPE, JSON)], answer).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

const JSON: &str = "application/json";
/// Largest review: a pod of the largest size that etcd takes, twice, with room around it.
const MAX_REVIEW_BYTES: usize = 8 << 20;

#[cfg(test)]
mod tests;
