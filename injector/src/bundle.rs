//! The injector's own registration: the API server must trust its certificate, so the trust anchors go into the
//! `caBundle` of its MutatingWebhookConfiguration, at start, whenever they change, and when somebody has written there, because
//! whoever applies the chart again takes them out (contract 4.1, 4.7). Upstream's chart allows nothing but to patch: there the
//! period has to do.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use daemon::Target;
use http::{Method, Request, header};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::{PartialObjectMeta, Patch, PatchParams};
use kube::{Api, Client};
use kubernetes::client::status;
use kubernetes::registration::{self, Look, Outcome};
use kubernetes::{Cluster, Reflector};
use security::TrustBundle;
use serde_json::json;
use tokio::sync::{Notify, watch};
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
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let assert = async |bundle: Arc<TrustBundle>, look| match api.get(REGISTRATION).await {
        Ok(there) => apply(&api, &there, &bundle, look).await,
        Err(error) if status(&error) == Some(403) => blind(&client, bundle.pem()).await,
        Err(error) => Err(error),
    };
    let (ready, edited) = (|| health.ready(), Notify::new());
    let keep = registration::keep(&what, anchors, &edited, assert, ready, &shutdown);
    let cluster = Cluster::new(client.clone(), "");
    let reflector = Reflector::new(&what, &cluster, |cluster| {
        Api::<PartialObjectMeta<MutatingWebhookConfiguration>>::all(cluster.client())
    });
    let reflector = reflector.fields(&format!("metadata.name={REGISTRATION}"));
    tokio::join!(keep, registration::follow(&reflector, &edited, &shutdown));
    Ok(())
}

/// Says whom to trust, under the injector's own name, where it is not said yet.
async fn apply(
    api: &Api<MutatingWebhookConfiguration>,
    there: &MutatingWebhookConfiguration,
    anchors: &TrustBundle,
    look: Look,
) -> Result<Outcome, kube::Error> {
    let webhook = there.webhooks.as_ref().and_then(|all| all.first());
    // Items of the list are known by their names.
    let Some(webhook) = webhook.filter(|webhook| !webhook.name.is_empty()) else {
        return blind(&api.clone().into_client(), anchors.pem()).await;
    };
    let bundle = webhook.client_config.ca_bundle.as_ref();
    let wanted = match bundle {
        Some(bundle) => anchors.to_register(&bundle.0, look == Look::Settled),
        None => Some(anchors.clone()),
    };
    let Some(wanted) = wanted else {
        return Ok(Outcome::Registered);
    };
    let wanted = STANDARD.encode(wanted.pem());
    let wanted = Patch::Apply(json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": REGISTRATION},
        "webhooks": [{"name": webhook.name, "clientConfig": {"caBundle": wanted}}],
    }));
    let attempt = async |force| {
        let params = PatchParams {
            force,
            ..PatchParams::apply(FIELD_MANAGER)
        };
        api.patch(REGISTRATION, &params, &wanted).await
    };
    kubernetes::apply(
        &format!("the webhook configuration {REGISTRATION}"),
        attempt,
    )
    .await?;
    Ok(Outcome::Corrected)
}

/// The same without reading what is there.
async fn blind(client: &Client, pem: &[u8]) -> Result<Outcome, kube::Error> {
    client.request_text(patch(pem)?).await?;
    Ok(Outcome::Registered)
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
/// Under which name the injector applies.
const FIELD_MANAGER: &str = "dapr-injector";

#[cfg(test)]
mod tests {
    use super::*;
    use kubernetes::registration::PERIOD;
    use kubernetes_fake::{Fake, Fault, On};
    use serde_json::Value;
    use std::time::Duration;

    const REGISTRATIONS: &str =
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

    fn chart() -> Value {
        json!({"metadata": {"name": REGISTRATION}, "webhooks": [
            {"name": WEBHOOK, "clientConfig": {"service": {"name": REGISTRATION}}},
            {"name": "other", "clientConfig": {"service": {"name": "other"}}},
        ]})
    }

    const WEBHOOK: &str = "sidecar-injector.dapr.io";

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

    fn authority() -> Arc<TrustBundle> {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().expect("a key");
        let root = params.self_signed(&key).expect("a root");
        Arc::new(TrustBundle::from_pem(root.pem().as_bytes()).expect("anchors"))
    }

    /// While an authority is replaced, replicas of before and after it serve side by side, and are both trusted.
    #[tokio::test(start_paused = true)]
    async fn replicas_of_two_authorities_do_not_write_against_each_other() {
        let fake = Fake::new();
        fake.put(REGISTRATIONS, chart());
        let trusted = || {
            let pem = bundle(&fake);
            let pem = STANDARD.decode(pem.as_str().unwrap_or_default());
            TrustBundle::from_pem(&pem.expect("base64")).map(|trusted| trusted.certificates().len())
        };
        let health = daemon::Health::default();
        let replica = |name: &'static str, anchors: &watch::Sender<Arc<TrustBundle>>| {
            let shutdown = CancellationToken::new();
            let client = kubernetes::client::over(fake.service());
            let target = health.target(name);
            let part = run(client, anchors.subscribe(), target, shutdown.clone());
            (part, shutdown)
        };
        let [before, after] = [(); 2].map(|()| watch::channel(authority()).0);
        let (old, old_ends) = replica("old", &before);
        let (new, new_ends) = replica("new", &after);
        let script = async {
            fake.until("both are trusted", |_| {
                trusted().is_ok_and(|count| count == 2)
            })
            .await;
            let writes = |fake: &Fake| {
                fake.lines()
                    .iter()
                    .filter(|line| line.starts_with("PATCH"))
                    .count()
            };
            // Silence says that all are content, not that one has gone.
            let written = writes(&fake);
            tokio::time::sleep(registration::SETTLING - PERIOD).await;
            assert_eq!((writes(&fake), trusted().ok()), (written, Some(2)));
            // Where that is tried later, the other one puts it right at once, and it is tried seldom.
            let (mut seconds, hours) = (0, 6);
            for _ in 0..hours * 60 * 60 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                seconds += usize::from(trusted().ok() != Some(2));
            }
            assert!(seconds <= hours * 6, "{seconds} of {hours} hours");
            assert!(writes(&fake) - written <= hours * 8);
            old_ends.cancel();
            tokio::time::sleep(registration::LONGEST_SETTLING + PERIOD * 2).await;
            assert_eq!(
                bundle(&fake),
                STANDARD.encode(after.borrow().pem()),
                "the new one alone"
            );
            new_ends.cancel();
        };
        let (old, new, ()) = tokio::join!(old, new, script);
        old.and(new).expect("no error");
    }

    #[tokio::test(start_paused = true)]
    async fn an_edit_is_put_right_at_once_and_with_fewer_rights_in_time() {
        use kubernetes::registration::EDIT_PAUSE;
        for (may_read, within) in [(true, EDIT_PAUSE * 2), (false, PERIOD * 2)] {
            let fake = Fake::new();
            fake.put(REGISTRATIONS, chart());
            if !may_read {
                for verb in ["get", "list", "watch"] {
                    fake.fault(On::verb(verb), Fault::Status(403));
                }
            }
            let (_sender, anchors) = watch::channel(Arc::new(TrustBundle::default()));
            let health = daemon::Health::default();
            let target = health.target("webhook-configuration");
            let shutdown = CancellationToken::new();
            let client = kubernetes::client::over(fake.service());
            let part = run(client, anchors, target, shutdown.clone());
            let script = async {
                fake.until("registered", |fake| bundle(fake) == "").await;
                // Its own events have passed.
                tokio::time::sleep(EDIT_PAUSE * 5).await;
                let mut edited = chart();
                edited["webhooks"][0]["clientConfig"]["caBundle"] = json!("b3RoZXI=");
                edited["webhooks"][0]["timeoutSeconds"] = json!(3);
                fake.put(REGISTRATIONS, edited);
                tokio::time::sleep(within).await;
                assert_eq!(bundle(&fake), "");
                let there = fake.object(REGISTRATIONS, "", REGISTRATION).expect("there");
                assert_eq!(there["webhooks"][0]["timeoutSeconds"], 3, "not ours");
                assert!(there["webhooks"][1]["clientConfig"]["caBundle"].is_null());
                let field = format!("webhooks.[name={WEBHOOK}].clientConfig.caBundle");
                let managers = fake.managers(REGISTRATIONS, "", REGISTRATION, &field);
                let ours = if may_read { FIELD_MANAGER } else { "unknown" };
                assert_eq!(managers, [ours]);
                shutdown.cancel();
            };
            let (ended, ()) = tokio::join!(part, script);
            ended.expect("no error");
        }
    }
}
