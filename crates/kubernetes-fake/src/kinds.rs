//! The kinds that the API server says it knows, to programs that find their paths that way. Ours never ask.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::{Answer, Seen};

/// Kinds of Kubernetes itself that programs of the control plane work with: API version, plural, kind.
const BUILT_IN: &[(&str, &str, &str)] = &[
    ("v1", "configmaps", "ConfigMap"),
    ("v1", "events", "Event"),
    ("v1", "pods", "Pod"),
    ("v1", "secrets", "Secret"),
    ("v1", "serviceaccounts", "ServiceAccount"),
    ("v1", "services", "Service"),
    ("apps/v1", "deployments", "Deployment"),
    ("apps/v1", "statefulsets", "StatefulSet"),
    ("coordination.k8s.io/v1", "leases", "Lease"),
];

/// The answer to a request for kinds; `None` for every other request.
pub fn answer(seen: &Seen) -> Option<Answer> {
    let path = seen.path.trim_matches('/');
    let object = match path.split('/').collect::<Vec<_>>()[..] {
        ["api"] => json!({"kind": "APIVersions", "versions": ["v1"]}),
        ["apis"] => groups(),
        ["api", version] => resources(version)?,
        ["apis", group, version] => resources(&format!("{group}/{version}"))?,
        _ => return None,
    };
    Some(Answer::object(object))
}

/// What a list of a kind is called.
pub fn list(api_version: &str, plural: &str) -> String {
    let mut kinds = KINDS.get(api_version).into_iter().flatten();
    let known = kinds.find(|(name, _)| name == plural);
    known.map_or_else(|| "List".to_owned(), |(_, kind)| format!("{kind}List"))
}

/// Plural and kind, by API version.
static KINDS: LazyLock<BTreeMap<String, Vec<(String, String)>>> = LazyLock::new(kinds);

fn kinds() -> BTreeMap<String, Vec<(String, String)>> {
    let mut kinds: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for (version, plural, kind) in BUILT_IN {
        let of_version = kinds.entry((*version).to_owned()).or_default();
        of_version.push(((*plural).to_owned(), (*kind).to_owned()));
    }
    for definition in crds::definitions::all() {
        let spec = &definition.json["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        for version in spec["versions"].as_array().into_iter().flatten() {
            let version = format!("{}/{}", text(&spec["group"]), text(&version["name"]));
            let of_version = kinds.entry(version).or_default();
            of_version.push((definition.plural.to_owned(), text(&spec["names"]["kind"])));
        }
    }
    kinds
}

fn groups() -> Value {
    let mut groups: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for api_version in KINDS.keys() {
        if let Some((group, version)) = api_version.split_once('/') {
            let version = json!({"groupVersion": api_version, "version": version});
            groups.entry(group).or_default().push(version);
        }
    }
    let groups: Vec<Value> = groups
        .into_iter()
        .map(|(name, versions)| json!({"name": name, "preferredVersion": versions[0], "versions": versions}))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn resources(api_version: &str) -> Option<Value> {
    let verbs = [
        "create", "delete", "get", "list", "patch", "update", "watch",
    ];
    let resources: Vec<Value> = KINDS
        .get(api_version)?
        .iter()
        .map(|(plural, kind)| json!({"name": plural, "singularName": "", "namespaced": true, "kind": kind, "verbs": verbs}))
        .collect();
    Some(
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": resources}),
    )
}
