//! Volumes that the sidecar brings along, and their mounts in the sidecar, the app and component containers.

use std::collections::HashSet;

use json_patch::PatchOperation;
use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, ProjectedVolumeSource, ServiceAccountTokenProjection, Volume,
    VolumeMount, VolumeProjection,
};
use serde_json::json;

use super::Sidecar;
use super::operations::{add, append};

impl Sidecar<'_> {
    /// Adds the volumes that the pod does not have under the same name.
    pub(super) fn volume_operations(&self) -> serde_json::Result<Vec<PatchOperation>> {
        let own = self.pod_volumes();
        let mut new: Vec<Volume> = Vec::new();
        for volume in self.volumes() {
            if !own.iter().chain(&new).any(|one| one.name == volume.name) {
                new.push(volume);
            }
        }
        if new.is_empty() {
            return Ok(Vec::new());
        }
        if own.is_empty() {
            return Ok(vec![add(&["spec", "volumes"], json!(new))]);
        }
        let append = |volume| Ok(append(&["spec", "volumes"], serde_json::to_value(volume)?));
        new.into_iter().map(append).collect()
    }

    fn volumes(&self) -> Vec<Volume> {
        let mut volumes = Vec::new();
        if self.shape.unix_domain_socket_path.is_some() {
            volumes.push(empty(DAPR_SOCKETS_VOLUME, Some("Memory")));
        }
        if self.config.token_volume {
            volumes.push(self.token_volume());
        }
        if self.has_components() {
            volumes.push(empty(COMPONENT_SOCKETS_VOLUME, None));
            // Q-component-volumes: each name once, also where the pod has no volumes or several containers share one.
            let mounts = self
                .around
                .components
                .iter()
                .flat_map(|container| container.volume_mounts.iter().flatten());
            volumes.extend(mounts.map(|mount| empty(&mount.name, None)));
        }
        volumes
    }

    /// A token of the pod's service account that only the certificate authority accepts.
    fn token_volume(&self) -> Volume {
        let token = ServiceAccountTokenProjection {
            audience: Some(self.config.sentry_id.to_string()),
            expiration_seconds: Some(TOKEN_SECONDS),
            path: "token".to_owned(),
        };
        let source = VolumeProjection {
            service_account_token: Some(token),
            ..VolumeProjection::default()
        };
        let projected = ProjectedVolumeSource {
            default_mode: Some(READABLE),
            sources: Some(vec![source]),
        };
        Volume {
            name: TOKEN_VOLUME.to_owned(),
            projected: Some(projected),
            ..Volume::default()
        }
    }

    pub(super) fn sidecar_mounts(&self) -> Vec<VolumeMount> {
        let read_only = requested(&self.shape.volume_mounts, true);
        let writable = requested(&self.shape.volume_mounts_rw, false);
        let volumes: HashSet<&str> = self.pod_volumes().iter().map(|one| &*one.name).collect();
        let mut mounts: Vec<VolumeMount> = read_only
            .chain(writable)
            .filter(|mount| volumes.contains(&*mount.name))
            .collect();
        if self.shape.unix_domain_socket_path.is_some() {
            mounts.push(mount(DAPR_SOCKETS_VOLUME, DAPR_SOCKETS, false));
        }
        if self.config.token_volume {
            mounts.push(mount(TOKEN_VOLUME, TOKEN_FOLDER, true));
        }
        if self.has_components() {
            mounts.push(self.component_mount());
        }
        mounts
    }

    pub(super) fn app_mounts(&self) -> Vec<VolumeMount> {
        let path = self.shape.unix_domain_socket_path.as_deref();
        path.map(|path| mount(DAPR_SOCKETS_VOLUME, path, false))
            .into_iter()
            .collect()
    }

    pub(super) fn component_mount(&self) -> VolumeMount {
        mount(COMPONENT_SOCKETS_VOLUME, self.components_folder(), false)
    }

    /// The containers to inject for components, with their socket folder.
    pub(super) fn component_containers(&self) -> Vec<Container> {
        let mut containers = self.injected_components().to_vec();
        for container in &mut containers {
            container
                .env
                .get_or_insert_default()
                .extend(self.component_env());
            container
                .volume_mounts
                .get_or_insert_default()
                .push(self.component_mount());
        }
        containers
    }

    pub(super) fn components_folder(&self) -> &str {
        self.shape
            .components_sockets_folder
            .as_deref()
            .unwrap_or(&self.config.components_sockets_folder)
    }

    pub(super) fn has_components(&self) -> bool {
        let own = self
            .containers()
            .iter()
            .any(|one| self.shape.pluggable_components.contains(&one.name));
        own || !self.injected_components().is_empty()
    }

    fn injected_components(&self) -> &[Container] {
        if self.shape.inject_components {
            &self.around.components
        } else {
            &[]
        }
    }

    fn pod_volumes(&self) -> &[Volume] {
        self.pod
            .spec
            .as_ref()
            .and_then(|spec| spec.volumes.as_deref())
            .unwrap_or_default()
    }
}

/// Mounts `volume:path,...` of an annotation; items of another form are passed over.
fn requested(text: &str, read_only: bool) -> impl Iterator<Item = VolumeMount> {
    values::list::items(text).filter_map(move |item| {
        let (name, path) = item.split_once(':')?;
        (!path.contains(':')).then(|| mount(name, path, read_only))
    })
}

fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

fn empty(name: &str, medium: Option<&str>) -> Volume {
    let empty_dir = EmptyDirVolumeSource {
        medium: medium.map(str::to_owned),
        size_limit: None,
    };
    Volume {
        name: name.to_owned(),
        empty_dir: Some(empty_dir),
        ..Volume::default()
    }
}

/// Where daprd has the sockets of the Dapr API.
pub(super) const DAPR_SOCKETS: &str = "/var/run/dapr-sockets";
const DAPR_SOCKETS_VOLUME: &str = "dapr-unix-domain-socket";
const COMPONENT_SOCKETS_VOLUME: &str = "dapr-components-unix-domain-socket";
const TOKEN_VOLUME: &str = "dapr-identity-token";
const TOKEN_FOLDER: &str = "/var/run/secrets/dapr.io/sentrytoken";
/// Life of a projected token.
const TOKEN_SECONDS: i64 = 7200;
/// Mode 0644.
const READABLE: i32 = 0o644;
