//! Operations of a JSON patch, and additions that respect what a container has already.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, PatchOperation};
use k8s_openapi::api::core::v1::{Container, EnvVar, VolumeMount};
use serde_json::{Value, json};

/// Sets the member at `path`.
pub(super) fn add(path: &[&str], value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation {
        path: PointerBuf::from_tokens(path.iter().copied()),
        value,
    })
}

/// Appends to the list at `path`.
pub(super) fn append(path: &[&str], value: Value) -> PatchOperation {
    let path: Vec<&str> = path.iter().copied().chain(["-"]).collect();
    add(&path, value)
}

/// Adds variables to the container at `index`; those it defines itself stay as they are.
pub(super) fn env(
    index: usize,
    container: &Container,
    vars: Vec<EnvVar>,
) -> serde_json::Result<Vec<PatchOperation>> {
    let own = container.env.as_deref().unwrap_or_default();
    let new = vars
        .into_iter()
        .filter(|var| !own.iter().any(|one| one.name == var.name));
    let values = new.map(serde_json::to_value).collect::<Result<_, _>>()?;
    Ok(list(index, "env", own.is_empty(), values))
}

/// Adds mounts to the container at `index`, unless the path or the volume is mounted already.
pub(super) fn mounts(
    index: usize,
    container: &Container,
    mounts: Vec<VolumeMount>,
) -> serde_json::Result<Vec<PatchOperation>> {
    let own = container.volume_mounts.as_deref().unwrap_or_default();
    let clash = |mount: &VolumeMount| {
        own.iter()
            .any(|o| o.name == mount.name || o.mount_path == mount.mount_path)
    };
    let new = mounts.into_iter().filter(|mount| !clash(mount));
    let values = new.map(serde_json::to_value).collect::<Result<_, _>>()?;
    Ok(list(index, "volumeMounts", own.is_empty(), values))
}

/// Additions to a list of a container that may not exist yet.
fn list(index: usize, name: &str, absent: bool, values: Vec<Value>) -> Vec<PatchOperation> {
    let index = index.to_string();
    let path = ["spec", "containers", &index, name];
    match (absent, values.is_empty()) {
        (_, true) => Vec::new(),
        (true, _) => vec![add(&path, json!(values))],
        (false, _) => values
            .into_iter()
            .map(|value| append(&path, value))
            .collect(),
    }
}
