//! The Subscription CRD, which has to say where its conversion webhook is and whom to trust (contract 5.2).
//! As long as it does, the API server cannot serve objects of the old version without the operator; so an
//! uninstallation takes the webhook out of the CRD first, or namespaces with such objects could not be deleted.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, PartialObjectMeta, Patch, PatchParams};
use kubernetes::registration::{self, Look, Outcome};
use kubernetes::{Cluster, Reflector};
use security::TrustBundle;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{FIELD_MANAGER, webhook};

/// Name of the CRD.
const NAME: &str = "subscriptions.dapr.io";

/// The Service before the webhook.
const SERVICE: &str = "dapr-webhook";

/// The CRD, in as far as it is known here.
pub struct Definition {
    cluster: Cluster,
    api: Api<DynamicObject>,
}

impl Definition {
    pub fn new(cluster: &Cluster) -> Self {
        let resource = ApiResource {
            group: "apiextensions.k8s.io".to_owned(),
            version: "v1".to_owned(),
            api_version: "apiextensions.k8s.io/v1".to_owned(),
            kind: "CustomResourceDefinition".to_owned(),
            plural: "customresourcedefinitions".to_owned(),
        };
        Self {
            cluster: cluster.clone(),
            api: Api::all_with(cluster.client(), &resource),
        }
    }

    /// Keeps the CRD pointing to the webhook in `namespace`, with the current trust anchors, until shutdown. Who applies the
    /// CRD anew takes that away, and with it all objects of the old version.
    /// Calls `ready` once it does, or once it is clear that there is no CRD or that it is not ours to change.
    pub async fn keep(
        &self,
        namespace: &str,
        anchors: watch::Receiver<Arc<TrustBundle>>,
        shutdown: &CancellationToken,
        ready: impl Fn(),
    ) {
        let what = format!("the conversion webhook of CRD {NAME}");
        let point =
            async |anchors: Arc<TrustBundle>, look| self.point(namespace, &anchors, look).await;
        let edited = Notify::new();
        let reflector = Reflector::new(&format!("CRD {NAME}"), &self.cluster, |cluster| {
            Api::<PartialObjectMeta<CustomResourceDefinition>>::all(cluster.client())
        });
        let reflector = reflector.fields(&format!("metadata.name={NAME}"));
        let keep = registration::keep(&what, anchors, &edited, point, ready, shutdown);
        tokio::join!(keep, registration::follow(&reflector, &edited, shutdown));
    }

    async fn point(
        &self,
        namespace: &str,
        anchors: &TrustBundle,
        look: Look,
    ) -> Result<Outcome, kube::Error> {
        let Some(definition) = self.api.get_opt(NAME).await? else {
            return Ok(Outcome::Missing);
        };
        if let Some(wanted) = pointing(&definition.data, namespace, anchors, look) {
            let wanted = Patch::Apply(wanted);
            let params = PatchParams::apply(FIELD_MANAGER);
            let attempt = async |force| {
                let params = PatchParams {
                    force,
                    ..params.clone()
                };
                self.api.patch(NAME, &params, &wanted).await
            };
            kubernetes::apply(&format!("the conversion webhook of CRD {NAME}"), attempt).await?;
            tracing::info!("the conversion webhook of CRD {NAME} is set");
            return Ok(Outcome::Corrected);
        }
        Ok(Outcome::Registered)
    }

    /// Takes the webhook out of the CRD, if there is one.
    pub async fn release(&self) -> Result<(), kube::Error> {
        if self.api.get_opt(NAME).await?.is_none() {
            tracing::info!("there is no CRD {NAME}");
            return Ok(());
        }
        // Whoever has said it; an apply takes only what was applied.
        let none = json!({"spec": {"conversion": {"strategy": "None", "webhook": null}}});
        let params = PatchParams::default();
        self.api.patch(NAME, &params, &Patch::Merge(none)).await?;
        tracing::info!("CRD {NAME} does without its conversion webhook");
        Ok(())
    }
}

/// What is to be applied so that the CRD points to the webhook; `None` if it does. It is always all of it: what an applier says
/// no more goes. A CRD may be without a webhook, after [`Definition::release`] or of an old installation.
fn pointing(
    definition: &Value,
    namespace: &str,
    anchors: &TrustBundle,
    look: Look,
) -> Option<Value> {
    let client = definition.pointer("/spec/conversion/webhook/clientConfig");
    let found = |place: &str| client?.pointer(place)?.as_str();
    let bundle = found("/caBundle").and_then(|text| STANDARD.decode(text).ok());
    let here = found("/service/namespace") == Some(namespace);
    let wanted = match bundle {
        Some(bundle) if here => anchors.to_register(&bundle, look == Look::Settled)?,
        _ => anchors.clone(),
    };
    let anchors = STANDARD.encode(wanted.pem());
    Some(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": NAME},
        "spec": {"conversion": {
            "strategy": "Webhook",
            "webhook": {
                "conversionReviewVersions": ["v1", "v2alpha1"],
                "clientConfig": {
                    "service": {"name": SERVICE, "namespace": namespace, "path": webhook::PATH},
                    "caBundle": anchors,
                },
            },
        }},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kubernetes::registration::{EDIT_PAUSE, PERIOD};
    use kubernetes_fake::{Answer, Fake, Fault, On, Seen};

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

    fn authority() -> TrustBundle {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().expect("a key");
        let root = params.self_signed(&key).expect("a root");
        TrustBundle::from_pem(root.pem().as_bytes()).expect("anchors")
    }

    #[test]
    fn the_placeholder_of_the_chart_is_replaced() {
        let definition = json!({"spec": {"group": "dapr.io", "conversion": {"strategy": "Webhook", "webhook": {
            "conversionReviewVersions": ["v1", "v2alpha1"],
            "clientConfig": {"service": {"name": "dapr-webhook", "namespace": "replaceme", "path": "/convert"}},
        }}}});
        let (anchors, other) = (authority(), authority());
        let pointing = |definition: &Value, namespace: &str, anchors: &TrustBundle| {
            super::pointing(definition, namespace, anchors, Look::Unsettled)
        };
        let patch = pointing(&definition, "dapr-system", &anchors).unwrap();
        let patched = merged(definition, &patch);
        let client = patched
            .pointer("/spec/conversion/webhook/clientConfig")
            .unwrap();
        assert_eq!(
            *client,
            json!({
                "service": {"name": "dapr-webhook", "namespace": "dapr-system", "path": "/convert"},
                "caBundle": STANDARD.encode(anchors.pem()),
            })
        );
        assert_eq!(patched["spec"]["group"], "dapr.io");
        assert_eq!(pointing(&patched, "dapr-system", &anchors), None);
        assert!(pointing(&patched, "elsewhere", &anchors).is_some());
        // Another replica's anchors stay until it is silent.
        let patch = pointing(&patched, "dapr-system", &other).unwrap();
        let both = merged(patched, &patch);
        assert_eq!(pointing(&both, "dapr-system", &anchors), None);
        let patch = super::pointing(&both, "dapr-system", &other, Look::Settled).unwrap();
        let settled = merged(both, &patch);
        assert_eq!(pointing(&settled, "dapr-system", &other), None);
        assert!(pointing(&settled, "dapr-system", &anchors).is_some());
    }

    #[test]
    fn a_released_definition_gets_its_webhook_back() {
        for conversion in [
            json!({"strategy": "None"}),
            json!({"strategy": "None", "webhook": null}),
            Value::Null,
        ] {
            let definition = json!({"spec": {"conversion": conversion}});
            let anchors = authority();
            let patch = pointing(&definition, "n", &anchors, Look::Unsettled).unwrap();
            let patched = merged(definition, &patch);
            assert_eq!(
                patched.pointer("/spec/conversion/strategy"),
                Some(&json!("Webhook"))
            );
            assert_eq!(pointing(&patched, "n", &anchors, Look::Settled), None);
        }
    }

    async fn kept(answer: impl Fn(&Seen) -> Answer + Send + 'static) -> Vec<String> {
        let fake = Fake::scripted(move |seen| Some(answer(seen)));
        let (_sender, anchors) = watch::channel(Arc::new(TrustBundle::default()));
        let shutdown = CancellationToken::new();
        let definition = Definition::new(&Cluster::new(fake.client(), ""));
        definition
            .keep("n", anchors, &shutdown, || shutdown.cancel())
            .await;
        let mut lines = fake.lines();
        lines.retain(|line| line.ends_with(NAME));
        lines
    }

    #[tokio::test(start_paused = true)]
    async fn readiness_does_not_depend_on_a_crd_that_is_missing_or_not_ours() {
        let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{NAME}");
        let (get, patch) = (format!("GET {path}"), format!("PATCH {path}"));
        for refusal in [Answer::status(404), Answer::status(403)] {
            let seen = kept(move |_| refusal.clone()).await;
            assert_eq!(seen, [get.as_str()]);
        }
        let there = |_: &Seen| Answer::object(json!({"metadata": {"name": NAME}, "spec": {}}));
        assert_eq!(kept(there).await, [get, patch]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_definition_that_was_installed_anew_is_pointed_here_again() {
        const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let chart = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": NAME},
            "spec": {"conversion": {"strategy": "Webhook", "webhook": {
                "clientConfig": {"service": {"name": "dapr-webhook", "namespace": "replaceme"}},
            }}},
        });
        let namespace = |fake: &Fake| {
            let there = fake.object(DEFINITIONS, "", NAME).expect("a definition");
            there["spec"]["conversion"]["webhook"]["clientConfig"]["service"]["namespace"].clone()
        };
        for (may_watch, within) in [(true, EDIT_PAUSE * 2), (false, PERIOD * 2)] {
            let fake = Fake::new();
            fake.put(DEFINITIONS, chart.clone());
            if !may_watch {
                fake.fault(On::verb("list"), Fault::Status(403));
            }
            let (_sender, anchors) = watch::channel(Arc::new(TrustBundle::default()));
            let shutdown = CancellationToken::new();
            let definition = Definition::new(&Cluster::new(fake.client(), ""));
            let kept = definition.keep("n", anchors, &shutdown, || ());
            let script = async {
                fake.until("pointed here", |fake| namespace(fake) == "n")
                    .await;
                // Its own events have passed.
                tokio::time::sleep(EDIT_PAUSE * 5).await;
                fake.put(DEFINITIONS, chart.clone());
                tokio::time::sleep(within).await;
                assert_eq!(namespace(&fake), "n");
                let client = "spec.conversion.webhook.clientConfig";
                for (field, managers) in [
                    ("service.namespace", &["operator"][..]),
                    ("service.name", &["operator", "somebody"]),
                ] {
                    let found = fake.managers(DEFINITIONS, "", NAME, &format!("{client}.{field}"));
                    assert_eq!(found, managers, "{field}");
                }
                shutdown.cancel();
            };
            tokio::join!(kept, script);
        }
    }
}
