//! The custom resource definitions, as JSON values and as the YAML files that clusters install
//! (contract 3.1).

use serde_json::{Map, Value, json};

use crate::subscription::v1alpha1;
use crate::{
    Component, Configuration, GROUP, HttpEndpoint, Kind, McpServer, Resiliency, Subscription,
    WorkflowAccessPolicy, component, schema,
};

/// One custom resource definition.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// Plural of the kind: the file is `<plural>.yaml`, the object `<plural>.dapr.io`.
    pub plural: &'static str,
    /// The object.
    pub json: Value,
}

impl Definition {
    /// The name of the file that carries the definition.
    pub fn file_name(&self) -> String {
        format!("{}.yaml", self.plural)
    }

    /// The definition as YAML, with keys in alphabetical order so that the text is the same everywhere.
    pub fn yaml(&self) -> String {
        let body =
            serde_saphyr::to_string(&sorted(&self.json)).expect("a JSON value is a YAML value");
        format!("# Printed from the types in crds/src by `xtask gen`: change those.\n{body}")
    }
}

/// All definitions.
pub fn all() -> Vec<Definition> {
    vec![
        components(),
        definition::<Configuration>(vec![version::<Configuration>(
            true,
            &[("Sampling", ".spec.tracing.samplingRate")],
        )]),
        definition::<HttpEndpoint>(vec![version::<HttpEndpoint>(
            true,
            &[("URL", ".spec.baseUrl")],
        )]),
        definition::<McpServer>(vec![version::<McpServer>(
            true,
            &[("Title", ".spec.catalog.displayName")],
        )]),
        definition::<Resiliency>(vec![version::<Resiliency>(true, &[])]),
        subscriptions(),
        definition::<WorkflowAccessPolicy>(vec![version::<WorkflowAccessPolicy>(true, &[])]),
    ]
}

/// The one definition with a status (Q-component-status).
fn components() -> Definition {
    let columns = [
        ("Type", ".spec.type"),
        ("Version", ".spec.version"),
        ("Ready", ".status.ready"),
    ];
    let mut version = version::<Component>(true, &columns);
    version["schema"]["openAPIV3Schema"]["properties"]["status"] =
        schema::of::<component::Status>();
    version["subresources"] = json!({ "status": {} });
    definition::<Component>(vec![version])
}

/// The one definition with two versions. The operator patches the webhook's namespace and CA bundle
/// when it starts; until then the placeholder stands.
fn subscriptions() -> Definition {
    let old = version::<v1alpha1::Subscription>(
        false,
        &[
            ("PubSub", ".spec.pubsubname"),
            ("Topic", ".spec.topic"),
            ("Route", ".spec.route"),
        ],
    );
    let new = version::<Subscription>(
        true,
        &[
            ("PubSub", ".spec.pubsubname"),
            ("Topic", ".spec.topic"),
            ("Route", ".spec.routes.default"),
        ],
    );
    let mut definition = definition::<Subscription>(vec![old, new]);
    definition.json["spec"]["conversion"] = json!({
        "strategy": "Webhook",
        "webhook": {
            "clientConfig": {
                "service": { "name": "dapr-webhook", "namespace": "replaceme", "path": "/convert" }
            },
            "conversionReviewVersions": ["v1", "v2alpha1"]
        }
    });
    definition
}

fn definition<K: Kind>(versions: Vec<Value>) -> Definition {
    let json = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{}.{GROUP}", K::PLURAL),
            "labels": { "app.kubernetes.io/part-of": "dapr" }
        },
        "spec": {
            "group": GROUP,
            "names": {
                "kind": K::KIND,
                "listKind": format!("{}List", K::KIND),
                "plural": K::PLURAL,
                "singular": K::KIND.to_ascii_lowercase()
            },
            "scope": "Namespaced",
            "versions": versions
        }
    });
    Definition {
        plural: K::PLURAL,
        json,
    }
}

/// A served version, with the columns that `kubectl get` prints besides name and age.
fn version<K: Kind>(storage: bool, columns: &[(&str, &str)]) -> Value {
    let printed = columns
        .iter()
        .map(|(name, path)| json!({ "name": name, "type": "string", "jsonPath": path }));
    let age = json!({ "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" });
    json!({
        "name": K::VERSION,
        "served": true,
        "storage": storage,
        "schema": { "openAPIV3Schema": schema::root::<K>() },
        "additionalPrinterColumns": printed.chain([age]).collect::<Vec<_>>()
    })
}

/// The value with the keys of all maps in order, whatever order the JSON library keeps.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            Value::Object(
                keys.into_iter()
                    .map(|key| (key.clone(), sorted(&map[key])))
                    .collect::<Map<_, _>>(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

    use super::*;

    #[test]
    fn definitions_are_objects_of_the_api() {
        let names: Vec<String> = all()
            .into_iter()
            .map(|definition| {
                let object: CustomResourceDefinition =
                    serde_json::from_value(definition.json.clone()).unwrap();
                assert_eq!(
                    object
                        .spec
                        .versions
                        .iter()
                        .filter(|version| version.storage)
                        .count(),
                    1
                );
                let reread: Value = serde_saphyr::from_str(&definition.yaml()).unwrap();
                assert_eq!(
                    reread, definition.json,
                    "{} changes when printed",
                    definition.plural
                );
                object.metadata.name.unwrap()
            })
            .collect();
        assert_eq!(
            names,
            [
                "components.dapr.io",
                "configurations.dapr.io",
                "httpendpoints.dapr.io",
                "mcpservers.dapr.io",
                "resiliencies.dapr.io",
                "subscriptions.dapr.io",
                "workflowaccesspolicies.dapr.io"
            ]
        );
    }

    #[test]
    fn subscriptions_have_two_versions_and_a_webhook() {
        let spec = &subscriptions().json["spec"];
        let versions: Vec<_> = spec["versions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|version| {
                (
                    version["name"].as_str().unwrap(),
                    version["storage"].as_bool().unwrap(),
                )
            })
            .collect();
        assert_eq!(versions, [("v1alpha1", false), ("v2alpha1", true)]);
        assert_eq!(
            spec["conversion"]["webhook"]["clientConfig"]["service"]["namespace"],
            "replaceme"
        );
    }
}
