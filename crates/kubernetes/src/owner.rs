//! Whose an object is.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// The owner that controls an object: the one that makes it anew when it goes.
pub fn controller(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    let owners = metadata.owner_references.iter().flatten();
    owners
        .into_iter()
        .find(|owner| owner.controller == Some(true))
}

/// The kinds whose controllers make a pod that has gone anew.
const REPLACING: [(&str, &str); 5] = [
    ("apps/v1", "ReplicaSet"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("v1", "ReplicationController"),
    ("batch/v1", "Job"),
];

/// Whether a pod of this owner is made anew when it goes.
pub fn replaces_pods(owner: &OwnerReference) -> bool {
    REPLACING.contains(&(owner.api_version.as_str(), owner.kind.as_str()))
}
