//! The injector's own registration: the API server must trust its certificate, so the trust anchors go into the
//! `caBundle` of its MutatingWebhookConfiguration, at start and whenever they change (contract 4.1, 4.7).

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use daemon::Target;
use http::{Method, Request, header};
use kube::Client;
use security::TrustBundle;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Keeps the registration up to date until shutdown. What fails is tried again, because without it no pod gets a
/// sidecar; `health` is ready from the first success on.
pub async fn run(
    client: Client,
    mut anchors: watch::Receiver<Arc<TrustBundle>>,
    health: Target,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut pause = FIRST_PAUSE;
    loop {
        let bundle = anchors.borrow_and_update().clone();
        let request = patch(bundle.pem())?;
        let Some(answer) = shutdown
            .run_until_cancelled(client.request_text(request))
            .await
        else {
            return Ok(());
        };
        let changed = match answer {
            Ok(_) => {
                tracing::info!("trust anchors are in the webhook configuration {REGISTRATION}");
                health.ready();
                pause = FIRST_PAUSE;
                shutdown.run_until_cancelled(anchors.changed()).await
            }
            Err(error) => {
                tracing::error!(
                    "cannot patch the webhook configuration {REGISTRATION}, again in {pause:?}: {error}"
                );
                let waited = tokio::time::timeout(pause, anchors.changed());
                let changed = shutdown.run_until_cancelled(waited).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                changed.map(|changed| changed.unwrap_or(Ok(())))
            }
        };
        match changed {
            Some(Ok(())) => {}
            // No sender, no change ever again; and shutdown.
            Some(Err(_)) => {
                shutdown.cancelled().await;
                return Ok(());
            }
            None => return Ok(()),
        }
    }
}

/// Q-cabundle-add: `add` also replaces, and unlike `replace` it works where Helm has left the field out.
fn patch(pem: &[u8]) -> anyhow::Result<Request<Vec<u8>>> {
    let body = json!([{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": STANDARD.encode(pem)}]);
    Request::builder()
        .method(Method::PATCH)
        .uri(format!(
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{REGISTRATION}"
        ))
        .header(header::CONTENT_TYPE, "application/json-patch+json")
        .header(header::ACCEPT, "application/json")
        .body(body.to_string().into_bytes())
        .context("webhook patch request")
}

const REGISTRATION: &str = "dapr-sidecar-injector";
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use http::Response;
    use kube::client::Body;

    #[tokio::test(start_paused = true)]
    async fn a_failed_patch_is_repeated_and_a_change_is_followed() {
        let (service, mut api) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let (sender, anchors) = watch::channel(Arc::new(TrustBundle::default()));
        let health = daemon::Health::default();
        let target = health.target("webhook-configuration");
        let shutdown = CancellationToken::new();
        let client = Client::new(service, "default");
        let part = run(client, anchors, target, shutdown.clone());
        let script = async {
            let (request, reply) = api.next_request().await.expect("a patch");
            assert_eq!(request.method(), Method::PATCH);
            assert!(
                request
                    .uri()
                    .path()
                    .ends_with("/mutatingwebhookconfigurations/dapr-sidecar-injector")
            );
            assert_eq!(
                request.headers()[header::CONTENT_TYPE],
                "application/json-patch+json"
            );
            reply.send_response(Response::builder().status(500).body(Body::empty()).unwrap());
            let (_, reply) = api.next_request().await.expect("a second try");
            assert!(!health.is_ready());
            reply.send_response(Response::new(Body::from(b"{}".to_vec())));
            while !health.is_ready() {
                tokio::task::yield_now().await;
            }
            sender.send_modify(|_| ());
            let (_, reply) = api.next_request().await.expect("the change");
            reply.send_response(Response::new(Body::from(b"{}".to_vec())));
            shutdown.cancel();
        };
        let (ended, ()) = tokio::join!(part, script);
        ended.unwrap();
    }
}
