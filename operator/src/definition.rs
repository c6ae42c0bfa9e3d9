//! The Subscription CRD, which has to say where its conversion webhook is and whom to trust (contract 5.2).
//! As long as it does, the API server cannot serve objects of the old version without the operator; so an
//! uninstallation takes the webhook out of the CRD first, or namespaces with such objects could not be deleted.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use security::TrustBundle;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::webhook;

/// Name of the CRD.
const NAME: &str = "subscriptions.dapr.io";

/// The Service before the webhook.
const SERVICE: &str = "dapr-webhook";

/// The pause before another attempt, also while there is no CRD.
const RETRY: Duration = Duration::from_secs(10);

/// The pause while the operator is not allowed to change the CRD.
const FORBIDDEN_RETRY: Duration = Duration::from_secs(5 * 60);

/// The CRD, in as far as it is known here.
pub struct Definition {
    api: Api<DynamicObject>,
}

impl Definition {
    pub fn new(client: Client) -> Self {
        let resource = ApiResource {
            group: "apiextensions.k8s.io".to_owned(),
            version: "v1".to_owned(),
            api_version: "apiextensions.k8s.io/v1".to_owned(),
            kind: "CustomResourceDefinition".to_owned(),
            plural: "customresourcedefinitions".to_owned(),
        };
        Self {
            api: Api::all_with(client, &resource),
        }
    }

    /// Keeps the CRD pointing to the webhook in `namespace`, with the current trust anchors, until shutdown.
    /// Calls `ready` once it does, or once it is clear that there is no CRD or that it is not ours to change.
    pub async fn keep(
        &self,
        namespace: &str,
        mut anchors: watch::Receiver<Arc<TrustBundle>>,
        shutdown: &CancellationToken,
        ready: impl Fn(),
    ) {
        let keep = async {
            loop {
                let bundle = anchors.borrow_and_update().clone();
                match self.point(namespace, bundle.pem()).await {
                    Ok(true) => {
                        ready();
                        if anchors.changed().await.is_err() {
                            return std::future::pending().await;
                        }
                    }
                    Ok(false) => {
                        tracing::warn!(
                            "there is no CRD {NAME}, its conversion webhook waits for it"
                        );
                        ready();
                        tokio::time::sleep(RETRY).await;
                    }
                    // An installation for one namespace may not touch CRDs; someone else has to.
                    Err(kube::Error::Api(status)) if status.is_forbidden() => {
                        tracing::warn!("not allowed to set the conversion webhook of CRD {NAME}");
                        ready();
                        tokio::time::sleep(FORBIDDEN_RETRY).await;
                    }
                    Err(error) => {
                        tracing::error!(%error, "cannot set the conversion webhook of CRD {NAME}");
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
        };
        shutdown.run_until_cancelled(keep).await;
    }

    /// Whether there is a CRD, which then has its webhook.
    async fn point(&self, namespace: &str, anchors: &[u8]) -> Result<bool, kube::Error> {
        let Some(definition) = self.api.get_opt(NAME).await? else {
            return Ok(false);
        };
        match pointing(&definition.data, namespace, anchors) {
            None => tracing::info!("the conversion webhook of CRD {NAME} is up to date"),
            Some(patch) => {
                self.patch(patch).await?;
                tracing::info!("the conversion webhook of CRD {NAME} is set");
            }
        }
        Ok(true)
    }

    /// Takes the webhook out of the CRD, if there is one.
    pub async fn release(&self) -> Result<(), kube::Error> {
        if self.api.get_opt(NAME).await?.is_none() {
            tracing::info!("there is no CRD {NAME}");
            return Ok(());
        }
        self.patch(json!({"spec": {"conversion": {"strategy": "None", "webhook": null}}}))
            .await?;
        tracing::info!("CRD {NAME} does without its conversion webhook");
        Ok(())
    }

    async fn patch(&self, patch: Value) -> Result<(), kube::Error> {
        let params = PatchParams::default();
        self.api
            .patch(NAME, &params, &Patch::Merge(patch))
            .await
            .map(drop)
    }
}

/// The merge patch that makes the CRD point to the webhook; `None` if it does. A CRD without a webhook (after
/// [`Definition::release`], or of an old installation) gets all of it.
fn pointing(definition: &Value, namespace: &str, anchors: &[u8]) -> Option<Value> {
    let anchors = STANDARD.encode(anchors);
    let client = definition.pointer("/spec/conversion/webhook/clientConfig");
    let Some(client) = client.filter(|client| client.is_object()) else {
        return Some(json!({"spec": {"conversion": {
            "strategy": "Webhook",
            "webhook": {
                "conversionReviewVersions": ["v1", "v2alpha1"],
                "clientConfig": {
                    "service": {"name": SERVICE, "namespace": namespace, "path": webhook::PATH},
                    "caBundle": anchors,
                },
            },
        }}}));
    };
    let is =
        |place: &str, wanted: &str| client.pointer(place).and_then(Value::as_str) == Some(wanted);
    if is("/service/namespace", namespace) && is("/caBundle", &anchors) {
        return None;
    }
    Some(json!({"spec": {"conversion": {"webhook": {
        "clientConfig": {"service": {"namespace": namespace}, "caBundle": anchors},
    }}}}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(mut target: Value, patch: &Value) -> Value {
        fn merge(target: &mut Value, patch: &Value) {
            match (target, patch) {
                (Value::Object(target), Value::Object(patch)) => {
                    for (key, value) in patch {
                        merge(target.entry(key.clone()).or_insert(Value::Null), value);
                    }
                }
                (target, patch) => *target = patch.clone(),
            }
        }
        merge(&mut target, patch);
        target
    }

    #[test]
    fn the_placeholder_of_the_chart_is_replaced() {
        let definition = json!({"spec": {"group": "dapr.io", "conversion": {"strategy": "Webhook", "webhook": {
            "conversionReviewVersions": ["v1", "v2alpha1"],
            "clientConfig": {"service": {"name": "dapr-webhook", "namespace": "replaceme", "path": "/convert"}},
        }}}});
        let patch = pointing(&definition, "dapr-system", b"anchors").unwrap();
        let patched = merged(definition, &patch);
        let client = patched
            .pointer("/spec/conversion/webhook/clientConfig")
            .unwrap();
        assert_eq!(
            *client,
            json!({
                "service": {"name": "dapr-webhook", "namespace": "dapr-system", "path": "/convert"},
                "caBundle": "YW5jaG9ycw==",
            })
        );
        assert_eq!(patched["spec"]["group"], "dapr.io");
        assert_eq!(pointing(&patched, "dapr-system", b"anchors"), None);
        assert!(pointing(&patched, "dapr-system", b"other").is_some());
        assert!(pointing(&patched, "elsewhere", b"anchors").is_some());
    }

    #[test]
    fn a_released_definition_gets_its_webhook_back() {
        for conversion in [
            json!({"strategy": "None"}),
            json!({"strategy": "None", "webhook": null}),
            Value::Null,
        ] {
            let definition = json!({"spec": {"conversion": conversion}});
            let patch = pointing(&definition, "n", b"anchors").unwrap();
            let patched = merged(definition, &patch);
            assert_eq!(
                patched.pointer("/spec/conversion/strategy"),
                Some(&json!("Webhook"))
            );
            assert_eq!(pointing(&patched, "n", b"anchors"), None);
        }
    }

    async fn kept(
        answer: impl Fn(&crate::fake::Seen) -> (u16, Value) + Send + Sync + 'static,
    ) -> Vec<String> {
        let (cluster, log) = crate::fake::cluster(answer);
        let (_sender, anchors) = watch::channel(Arc::new(TrustBundle::default()));
        let shutdown = CancellationToken::new();
        let definition = Definition::new(cluster.client());
        definition
            .keep("n", anchors, &shutdown, || shutdown.cancel())
            .await;
        crate::fake::lines(&log)
    }

    #[tokio::test(start_paused = true)]
    async fn readiness_does_not_depend_on_a_crd_that_is_missing_or_not_ours() {
        let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{NAME}");
        let (get, patch) = (format!("GET {path}"), format!("PATCH {path}"));
        for refusal in [
            crate::fake::missing(),
            crate::fake::status(403, "Forbidden"),
        ] {
            let seen = kept(move |_| refusal.clone()).await;
            assert_eq!(seen, [get.as_str()]);
        }
        let there = |_: &crate::fake::Seen| (200, json!({"metadata": {"name": NAME}, "spec": {}}));
        assert_eq!(kept(there).await, [get, patch]);
    }
}
