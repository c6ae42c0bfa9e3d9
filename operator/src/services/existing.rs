//! The Service that is there already under an app's name: whose it is, and what becomes of it, without I/O.
//! Q-operator-services

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kubernetes::owner;

use super::workload::{Key, Kind, Workload};
use crate::{FIELD_MANAGER, annotations};

/// Whether the operator keeps this Service, or the one before it did, also of another build: they mark it with a label and
/// the app id, and a workload controls it. Whatever else bears the name is left alone.
pub fn is_ours(
    there: &Service,
    app_id: &str,
    owners: &[(Key, std::sync::Arc<Workload>)],
    rollouts: bool,
) -> bool {
    let kinds = |kind: Kind| rollouts || kind != Kind::Rollout;
    let controller = owner::controller(&there.metadata);
    if let Some(controller) = controller {
        if owners
            .iter()
            .any(|(_, workload)| workload.uid == controller.uid)
        {
            return true;
        }
        let kind = Kind::of(&controller.api_version, &controller.kind);
        if !kind.is_some_and(kinds) {
            return false;
        }
    }
    is_marked(&there.metadata, app_id)
}

fn is_marked(metadata: &ObjectMeta, app_id: &str) -> bool {
    let labels = metadata.labels.iter().flatten();
    let annotations = metadata.annotations.iter().flatten();
    labels
        .into_iter()
        .any(|(key, value)| key == annotations::ENABLED && value == "true")
        && annotations
            .into_iter()
            .any(|(key, value)| key == annotations::APP_ID && value == app_id)
}

/// The Service there with everything as desired, and what others have added to it as it is.
pub fn merged(there: &Service, desired: &Service) -> Service {
    let mut service = there.clone();
    let (metadata, wanted) = (&mut service.metadata, &desired.metadata);
    let before = written_annotations(metadata);
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.retain(|key, _| !before.contains(key));
    annotations.extend(wanted.annotations.clone().unwrap_or_default());
    let labels = metadata.labels.get_or_insert_default();
    labels.extend(wanted.labels.clone().unwrap_or_default());

    let references = metadata.owner_references.get_or_insert_default();
    let mut missing = wanted.owner_references.clone().unwrap_or_default();
    references.retain_mut(|reference| {
        if let Some(at) = missing.iter().position(|it| it.uid == reference.uid) {
            *reference = missing.remove(at);
            return true;
        }
        // A workload that has no app of this name any more would keep the Service for nothing.
        Kind::of(&reference.api_version, &reference.kind).is_none()
    });
    references.extend(missing);

    let spec = service.spec.get_or_insert_default();
    let wanted = desired.spec.clone().unwrap_or_default();
    spec.selector = wanted.selector;
    spec.ports = wanted.ports;
    spec.cluster_ip = wanted.cluster_ip;
    service
}

/// The annotations that an operator has written, some of which may not be wanted any more.
fn written_annotations(metadata: &ObjectMeta) -> BTreeSet<String> {
    let entries = metadata.managed_fields.iter().flatten();
    let ours = entries.filter(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER));
    let fields = ours.filter_map(|entry| {
        let fields = &entry.fields_v1.as_ref()?.0;
        fields.pointer("/f:metadata/f:annotations")?.as_object()
    });
    let keys = fields
        .flatten()
        .filter_map(|(key, _)| key.strip_prefix("f:"));
    keys.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::desired;
    use super::*;
    use serde_json::{Value, json};

    fn owners() -> Vec<(Key, Arc<Workload>)> {
        let key = Key {
            kind: Kind::Deployment,
            namespace: "n".to_owned(),
            name: "shop".to_owned(),
        };
        let workload = Workload {
            uid: "u".to_owned(),
            ..Workload::default()
        };
        vec![(key, Arc::new(workload))]
    }

    fn wanted() -> Service {
        let owners = owners();
        let owners = desired::Owners::new(&owners, None).unwrap();
        desired::service(&owners, "shop", true)
    }

    fn changed(change: impl FnOnce(&mut Value)) -> Service {
        let mut there = serde_json::to_value(wanted()).unwrap();
        there["metadata"]["resourceVersion"] = json!("7");
        change(&mut there);
        serde_json::from_value(there).unwrap()
    }

    #[test]
    fn only_what_an_operator_has_made_is_ours() {
        let ours = |service: &Service| is_ours(service, "shop", &owners(), false);
        let owned = |kind: &str, version: &str| {
            let (kind, version) = (kind.to_owned(), version.to_owned());
            changed(move |it| {
                it["metadata"]["ownerReferences"] = json!([
                    {"apiVersion": version, "kind": kind, "name": "x", "uid": "x", "controller": true},
                ]);
            })
        };
        assert!(ours(&wanted()));
        assert!(
            ours(&owned("Deployment", "apps/v1")),
            "of a workload that was made anew"
        );
        assert!(!ours(&owned("Gateway", "mesh.io/v1")));
        assert!(
            !ours(&owned("Rollout", "argoproj.io/v1alpha1")),
            "not ours to look after"
        );
        assert!(is_ours(
            &owned("Rollout", "argoproj.io/v1alpha1"),
            "shop",
            &owners(),
            true
        ));
        let unmarked =
            |member: &'static str| changed(move |it| it["metadata"][member] = Value::Null);
        assert!(ours(&unmarked("labels")), "the workload controls it");
        assert!(ours(&unmarked("ownerReferences")), "as after a restore");
        let foreign = changed(|it| {
            it["metadata"]["ownerReferences"] = Value::Null;
            it["metadata"]["annotations"] = Value::Null;
        });
        assert!(!ours(&foreign));
        let of_another = changed(|it| {
            it["metadata"]["ownerReferences"] = Value::Null;
            it["metadata"]["annotations"]["dapr.io/app-id"] = json!("other");
        });
        assert!(!ours(&of_another));
    }

    #[test]
    fn what_others_have_added_stays_and_what_an_operator_wrote_before_goes() {
        let there = changed(|it| {
            it["metadata"]["annotations"]["mesh.io/a"] = json!("theirs");
            it["metadata"]["annotations"]["old"] = json!("ours");
            it["metadata"]["labels"]["team"] = json!("theirs");
            it["metadata"]["managedFields"] = json!([
                {"manager": "mesh", "fieldsV1": {"f:metadata": {"f:annotations": {"f:mesh.io/a": {}}}}},
                {"manager": "operator", "fieldsV1": {"f:metadata": {"f:annotations": {".": {}, "f:old": {}, "f:dapr.io/app-id": {}}}}},
            ]);
            it["metadata"]["ownerReferences"].as_array_mut().unwrap().extend([
                json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "renamed", "uid": "r"}),
                json!({"apiVersion": "x/v1", "kind": "Other", "name": "o", "uid": "o"}),
            ]);
            it["spec"]["publishNotReadyAddresses"] = json!(true);
        });
        let merged = super::merged(&there, &wanted());
        let annotations = merged.metadata.annotations.as_ref().unwrap();
        assert!(annotations.contains_key("mesh.io/a") && !annotations.contains_key("old"));
        assert_eq!(annotations["dapr.io/app-id"], "shop");
        assert_eq!(merged.metadata.labels.as_ref().unwrap().len(), 2);
        let owners = merged.metadata.owner_references.as_ref().unwrap();
        let uids: Vec<_> = owners.iter().map(|owner| owner.uid.as_str()).collect();
        assert_eq!(uids, ["u", "o"]);
        let spec = merged.spec.as_ref().unwrap();
        assert_eq!(spec.publish_not_ready_addresses, Some(true));
        assert_eq!(merged.metadata.resource_version.as_deref(), Some("7"));
    }

    #[test]
    fn what_the_api_server_adds_is_no_difference() {
        let there = changed(|it| {
            it["spec"]["clusterIPs"] = json!(["None"]);
            it["spec"]["type"] = json!("ClusterIP");
        });
        assert_eq!(merged(&there, &wanted()), there);
        let broken = changed(|it| it["spec"]["ports"][2]["port"] = json!(7));
        assert_ne!(merged(&broken, &wanted()), broken);
    }
}
