//! What an API server refuses to store, as far as what is written here could be so: the merge of an apply does not look for it.

use std::collections::HashSet;

use serde_json::Value;

/// What is wrong with an object, as the API server words it.
pub fn refusal(plural: &str, object: &Value) -> Option<String> {
    let owners = items(&object["metadata"]["ownerReferences"]);
    if owners.filter(|owner| owner["controller"] == true).count() > 1 {
        return Some(
            "metadata.ownerReferences: Invalid value: Only one reference can have Controller set to true"
                .to_owned(),
        );
    }
    if plural == "services" {
        let (mut names, mut ports) = (HashSet::new(), HashSet::new());
        for (index, port) in items(&object["spec"]["ports"]).enumerate() {
            let number = (port["protocol"].to_string(), port["port"].to_string());
            if !names.insert(port["name"].to_string()) || !ports.insert(number) {
                return Some(format!("spec.ports[{index}]: Duplicate value: {port}"));
            }
        }
    }
    None
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}
