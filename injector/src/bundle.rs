//! The injector's own registration: the API server must trust its certificate, so the trust anchors go into the
//! `caBundle` of its MutatingWebhookConfiguration, at start, whenever they change, and on a period, because whoever
//! applies the chart again takes them out (contract 4.1, 4.7).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use daemon::Target;
use http::{Method, Request, header};
use kube::Client;
use kubernetes::registration::{self, Outcome};
use security::TrustBundle;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Keeps the registration up to date until shutdown. What fails is tried again, because without it no pod gets a
/// sidecar; `health` is ready from the first success on.
pub async fn run(
    client: Client,
    anchors: watch::Receiver<Arc<TrustBundle>>,
    health: Target,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let what = format!("the webhook configuration {REGISTRATION}");
    let assert = async |bundle: Arc<TrustBundle>| {
        client.request_text(patch(bundle.pem())?).await?;
        Ok(Outcome::Registered)
    };
    registration::keep(&what, anchors, assert, || health.ready(), &shutdown).await;
    Ok(())
}

/// Q-cabundle-add: `add` also replaces, and unlike `replace` it works where Helm has left the field out.
fn patch(pem: &[u8]) -> Result<Request<Vec<u8>>, kube::Error> {
    let body = json!([{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": STANDARD.encode(pem)}]);
    Request::builder()
        .method(Method::PATCH)
        .uri(format!(
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{REGISTRATION}"
        ))
        .header(header::CONTENT_TYPE, "application/json-patch+json")
        .header(header::ACCEPT, "application/json")
        .body(body.to_string().into_bytes())
        .map_err(kube::Error::HttpError)
}

const REGISTRATION: &str = "dapr-sidecar-injector";

#[cfg(test)]
mod tests {
    use super::*;
    use kubernetes::registration::PERIOD;
    use kubernetes_fake::{Fake, Fault, On};
    use serde_json::Value;

    const REGISTRATIONS: &str =
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

    fn chart() -> Value {
        json!({"metadata": {"name": REGISTRATION}, "webhooks": [{"clientConfig": {"service": {"name": REGISTRATION}}}]})
    }

    fn bundle(fake: &Fake) -> Value {
        let there = fake
            .object(REGISTRATIONS, "", REGISTRATION)
            .expect("a registration");
        there["webhooks"][0]["clientConfig"]["caBundle"].clone()
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_patch_is_repeated_and_an_overwritten_one_as_well() {
        let fake = Fake::new();
        fake.put(REGISTRATIONS, chart());
        fake.fault(On::verb("patch").times(2), Fault::Status(500));
        let (_sender, anchors) = watch::channel(Arc::new(TrustBundle::default()));
        let health = daemon::Health::default();
        let target = health.target("webhook-configuration");
        let shutdown = CancellationToken::new();
        let part = run(
            kubernetes::client::over(fake.service()),
            anchors,
            target,
            shutdown.clone(),
        );
        let script = async {
            assert!(!health.is_ready());
            fake.until("ready", |_| health.is_ready()).await;
            assert_eq!(bundle(&fake), "");
            fake.put(REGISTRATIONS, chart());
            fake.fault(On::verb("patch").times(1), Fault::Hang);
            tokio::time::sleep(PERIOD * 4).await;
            assert_eq!(bundle(&fake), "");
            shutdown.cancel();
        };
        let (ended, ()) = tokio::join!(part, script);
        ended.expect("no error");
    }
}
