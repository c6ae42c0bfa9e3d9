//! The workloads that have apps in them, and what the operator reads of them.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use kube::api::{ApiResource, ObjectMeta};
use serde::Deserialize;
use values::is_truthy;

use crate::annotations;

/// A kind of workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Deployment,
    StatefulSet,
    Rollout,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Deployment, Self::StatefulSet, Self::Rollout];

    /// Where the Kubernetes API has it.
    pub fn resource(self) -> ApiResource {
        match self {
            Self::Deployment => ApiResource::erase::<Deployment>(&()),
            Self::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
            Self::Rollout => ApiResource {
                group: "argoproj.io".to_owned(),
                version: "v1alpha1".to_owned(),
                api_version: "argoproj.io/v1alpha1".to_owned(),
                kind: "Rollout".to_owned(),
                plural: "rollouts".to_owned(),
            },
        }
    }

    /// The kind an owner reference speaks of.
    pub fn of(api_version: &str, kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| {
            let resource = it.resource();
            resource.api_version == api_version && resource.kind == kind
        })
    }
}

/// Which workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub kind: Kind,
    pub namespace: String,
    pub name: String,
}

/// A workload as the API server sends it, without its pods' containers and its state.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Raw {
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
}

kubernetes::excerpt!(Raw);

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    selector: Option<Selector>,
    template: Option<Template>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Selector {
    match_labels: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Template {
    metadata: Option<ObjectMeta>,
}

/// A workload with a sidecar.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    pub uid: String,
    /// Labels by which its pods are found.
    pub selector: BTreeMap<String, String>,
    /// Dapr's annotations of its pods.
    pub annotations: BTreeMap<String, String>,
}

impl Raw {
    /// The workload, if its pods get a sidecar and it is not about to go.
    pub fn into_workload(self) -> Option<Workload> {
        if self.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let pods = self.spec.template?.metadata?;
        let mut annotations = pods.annotations?;
        annotations.retain(|name, _| name.starts_with("dapr.io/"));
        let enabled = annotations.get(annotations::ENABLED)?;
        is_truthy(enabled).then(|| Workload {
            uid: self.metadata.uid.unwrap_or_default(),
            selector: self
                .spec
                .selector
                .and_then(|it| it.match_labels)
                .unwrap_or_default(),
            annotations,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(object: serde_json::Value) -> Option<Workload> {
        let raw: Raw = serde_json::from_value(object).unwrap();
        raw.into_workload()
    }

    #[test]
    fn only_workloads_with_a_sidecar_count() {
        let object = |enabled: &str, gone: Option<&str>| {
            json!({
                "metadata": {"name": "shop", "namespace": "n", "uid": "u", "deletionTimestamp": gone},
                "spec": {
                    "replicas": 3,
                    "selector": {"matchLabels": {"app": "shop"}},
                    "template": {"metadata": {"annotations": {
                        "dapr.io/enabled": enabled, "dapr.io/app-id": "shop", "other": "x",
                    }}, "spec": {"containers": []}},
                },
            })
        };
        let workload = read(object("yes", None)).unwrap();
        assert_eq!(workload.uid, "u");
        assert_eq!(workload.selector["app"], "shop");
        assert_eq!(workload.annotations.len(), 2);
        assert!(read(object("false", None)).is_none());
        assert!(read(object("true", Some("2026-01-01T00:00:00Z"))).is_none());
        for bare in [json!({}), json!({"spec": {"template": {"metadata": null}}})] {
            assert!(read(bare).is_none());
        }
    }

    #[test]
    fn owners_are_recognised() {
        assert_eq!(Kind::of("apps/v1", "StatefulSet"), Some(Kind::StatefulSet));
        assert_eq!(
            Kind::of("argoproj.io/v1alpha1", "Rollout"),
            Some(Kind::Rollout)
        );
        assert_eq!(Kind::of("apps/v1", "ReplicaSet"), None);
        assert_eq!(Kind::of("v1", "Deployment"), None);
    }
}
