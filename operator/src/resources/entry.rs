//! One resource, as sidecars get it: JSON without what only the API server needs.

use bytes::Bytes;
use kube::api::ObjectMeta;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::Kind;
use super::secrets;

/// An object as the API server sends it, before it is known which kind it is.
#[derive(Clone, Debug)]
pub struct Raw {
    /// Name, namespace and version, for the watcher.
    metadata: ObjectMeta,
    json: Value,
}

kubernetes::excerpt!(Raw);

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Value::deserialize(deserializer)?;
        let text = |name: &str| {
            let value = json.pointer("/metadata")?.get(name)?.as_str()?;
            Some(value.to_owned())
        };
        let metadata = ObjectMeta {
            name: text("name"),
            namespace: text("namespace"),
            resource_version: text("resourceVersion"),
            ..ObjectMeta::default()
        };
        Ok(Self { metadata, json })
    }
}

/// One resource. Two entries are equal when they differ in nothing but their version.
#[derive(Clone, Debug)]
pub struct Entry {
    pub namespace: String,
    pub name: String,
    /// App ids that load it; empty is all.
    pub scopes: Vec<String>,
    /// Whether values have to be read from Secrets before it is sent.
    pub has_secrets: bool,
    /// The version of the object, if it is a number.
    pub version: Option<u64>,
    /// Without the version, for sidecars that do not ask for it.
    pub json: Bytes,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.namespace == other.namespace && self.name == other.name && self.json == other.json
    }
}

impl Eq for Entry {}

/// Members of `metadata` that change without a change, or are of no use to a sidecar. Q-operator-json
const SERVER_SIDE: [&str; 3] = ["resourceVersion", "uid", "managedFields"];

/// What the operator itself writes into a resource; sidecars do not read it.
const STATUS: &str = "status";

/// A copy of the whole object that kubectl leaves in an annotation.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

impl Entry {
    /// The entry of a watched object.
    pub fn new(kind: Kind, raw: Raw) -> Self {
        let Raw {
            metadata,
            json: mut object,
        } = raw;
        if let Some(object) = object.as_object_mut() {
            object.remove(STATUS);
        }
        if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
            for member in SERVER_SIDE {
                metadata.remove(member);
            }
            metadata.entry("creationTimestamp").or_insert(Value::Null);
            if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
                annotations.remove(LAST_APPLIED);
            }
        }
        let scopes = object
            .get("scopes")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|scope| Some(scope.as_str()?.to_owned()))
            .collect();
        let has_secrets = !secrets::references(kind, &object).is_empty();
        let version = metadata.resource_version.and_then(|it| it.parse().ok());
        Self {
            namespace: metadata.namespace.unwrap_or_default(),
            name: metadata.name.unwrap_or_default(),
            scopes,
            has_secrets,
            version,
            json: Bytes::from(object.to_string()),
        }
    }

    /// Its JSON without the values that stand in Secrets.
    pub fn without_secrets(&self, versioned: bool) -> Bytes {
        if !versioned {
            return self.json.clone();
        }
        // It is JSON, because it was made here.
        let mut object: Value = serde_json::from_slice(&self.json).unwrap_or_default();
        put_version(&mut object, self.version);
        Bytes::from(object.to_string())
    }

    /// Whether an app loads it.
    pub fn in_scope(&self, app_id: &str) -> bool {
        self.scopes.is_empty() || self.scopes.iter().any(|scope| scope == app_id)
    }
}

/// Puts its version into an object that goes to a sidecar which compares lists and events by it.
pub fn put_version(object: &mut Value, version: Option<u64>) {
    if let (Some(version), Some(Value::Object(metadata))) = (version, object.get_mut("metadata")) {
        metadata.insert("resourceVersion".to_owned(), version.to_string().into());
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use serde_json::json;

    pub fn entry(name: &str, json: &'static str) -> Entry {
        Entry {
            namespace: "n".to_owned(),
            name: name.to_owned(),
            scopes: Vec::new(),
            has_secrets: false,
            version: None,
            json: Bytes::from_static(json.as_bytes()),
        }
    }

    pub fn raw(object: Value) -> Raw {
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn what_only_the_api_server_needs_is_left_out() {
        let entry = Entry::new(
            Kind::Component,
            raw(json!({
                "metadata": {
                    "name": "store", "namespace": "shop", "resourceVersion": "7", "uid": "u",
                    "managedFields": [{}], "generation": 2,
                    "annotations": {"a": "b", LAST_APPLIED: "{}"},
                },
                "spec": {"type": "state.redis", "metadata": null},
                "scopes": ["cart"],
                "status": {"sidecars": 3},
            })),
        );
        assert_eq!(
            (entry.namespace.as_str(), entry.name.as_str()),
            ("shop", "store")
        );
        let sent: Value = serde_json::from_slice(&entry.json).unwrap();
        assert_eq!(
            sent,
            json!({
                "metadata": {
                    "name": "store", "namespace": "shop", "generation": 2,
                    "annotations": {"a": "b"}, "creationTimestamp": null,
                },
                "spec": {"type": "state.redis", "metadata": null},
                "scopes": ["cart"],
            })
        );
        assert!(entry.in_scope("cart") && !entry.in_scope("other"));
        assert!(!entry.has_secrets);
    }

    #[test]
    fn the_version_alone_makes_no_difference() {
        let entry = |version: &str, spec: Value| {
            let metadata = json!({"name": "a", "namespace": "n", "resourceVersion": version});
            Entry::new(
                Kind::Resiliency,
                raw(json!({"metadata": metadata, "spec": spec})),
            )
        };
        let first = entry("9", json!({}));
        assert_eq!(first, entry("10", json!({})));
        assert_ne!(first, entry("9", json!({"policies": {}})));
        assert_eq!(first.version, Some(9));
    }

    #[test]
    fn odd_objects_are_harmless() {
        for object in [
            json!({}),
            json!({"metadata": 7, "scopes": "all"}),
            json!([]),
            json!(null),
        ] {
            let entry = Entry::new(Kind::Component, raw(object));
            assert_eq!(entry.name, "");
        }
    }
}
