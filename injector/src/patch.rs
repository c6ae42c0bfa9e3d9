//! The patch that adds the sidecar to a pod: pure, pod and installation in, JSON patch out (contract 4.5, 4.6).

mod container;
mod env;
mod operations;
mod volumes;

use json_patch::PatchOperation;
use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};
use settings::{Settings, app_id};

use crate::config::{Actors, Config, NativeSidecar, Service};
use crate::pod::{Annotations, Shape};
use operations::{add, append};

/// What holds for one request beside the pod and the configuration.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The pod's namespace.
    pub namespace: String,
    /// Sidecars speak mutual TLS.
    pub mtls: bool,
    /// The trust anchors, PEM.
    pub trust_anchors: String,
    /// Containers of pluggable components that this app loads, for pods that ask for them.
    pub components: Vec<Container>,
    /// Whether the cluster runs native sidecars; `None` if that is not known.
    pub native_sidecars: Option<bool>,
}

/// How a pod becomes one with a sidecar.
#[derive(Clone, Debug, PartialEq)]
pub struct Injection {
    /// Empty when the pod has a sidecar already.
    pub operations: Vec<PatchOperation>,
    /// What was given and passed over, a sentence each.
    pub warnings: Vec<String>,
}

/// Why a pod cannot have a sidecar.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Pods of Deployments have no name yet, so there is nothing to take in place of the annotation.
    #[error("app id is empty: the pod has no annotation dapr.io/app-id{}", old_id_hint(.old_id))]
    NoAppId {
        /// Whether the pod has the annotation under its old name, which is not read any more.
        old_id: bool,
    },
    /// There is nothing to add a container to.
    #[error("the pod has no spec")]
    NoSpec,
    /// The app ID cannot name a service.
    #[error(transparent)]
    AppId(#[from] app_id::Error),
    /// An annotation that the sidecar would refuse to start with.
    #[error(transparent)]
    Annotation(#[from] settings::Error),
    /// The pod or the patch is no JSON; an invariant, reported rather than trusted.
    #[error("cannot write the patch as JSON")]
    Json(#[from] serde_json::Error),
}

fn old_id_hint(old_id: &bool) -> &'static str {
    if *old_id {
        "; dapr.io/id, which it has, is an old name that is not read any more"
    } else {
        ""
    }
}

/// The app ID of a pod: its annotation, or its name.
pub fn app_id_of(pod: &Pod) -> String {
    let annotated = pod
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get("dapr.io/app-id"));
    annotated
        .filter(|id| !id.is_empty())
        .or(pod.metadata.name.as_ref())
        .cloned()
        .unwrap_or_default()
}

/// Whether the pod wants component containers beside the sidecar.
pub fn wants_components(pod: &Pod) -> bool {
    pod.metadata
        .annotations
        .as_ref()
        .is_some_and(|annotations| Shape::read(annotations).inject_components)
}

/// Makes the patch for a pod that has opted in.
///
/// # Errors
/// For an app ID or an annotation that can never work; the message names it and its value.
pub fn build(pod: &Pod, around: &Surroundings, config: &Config) -> Result<Injection, Error> {
    if has_sidecar(pod) {
        return Ok(Injection {
            operations: Vec::new(),
            warnings: Vec::new(),
        });
    }
    if pod.spec.is_none() {
        return Err(Error::NoSpec);
    }
    let none = Annotations::new();
    let annotations = pod.metadata.annotations.as_ref().unwrap_or(&none);
    let shape = Shape::read(annotations);
    let app_id = app_id_of(pod);
    app_id::check_kubernetes(&app_id).map_err(|error| match error {
        app_id::Error::Empty => Error::NoAppId {
            old_id: annotations.contains_key("dapr.io/id"),
        },
        other => Error::AppId(other),
    })?;
    let mut settings = Settings::from_annotations(annotations)?;
    let resources = container::resources(&shape.resources);
    let ignored = settings.ignored().iter().chain(&shape.ignored).cloned();
    let native = shape.native_sidecar.unwrap_or(match config.native_sidecar {
        NativeSidecar::No => false,
        NativeSidecar::Yes => true,
        NativeSidecar::WhereSupported => around.native_sidecars == Some(true),
    });
    // Where the API server does not know them, it takes such a container for one that has to end before the app starts.
    let unsupported = native && around.native_sidecars == Some(false);
    let warnings = ignored
        .chain(resources.err())
        .chain(unsupported.then(|| NOT_NATIVE.to_owned()))
        .collect();
    complete(&mut settings, &app_id, &shape, around, config);

    let sidecar = Sidecar {
        pod,
        shape: &shape,
        settings: &settings,
        around,
        config,
        native: native && !unsupported,
    };
    Ok(Injection {
        operations: sidecar.operations(&app_id)?,
        warnings,
    })
}

/// Adds to the pod's settings what the installation decides.
fn complete(
    settings: &mut Settings,
    app_id: &str,
    shape: &Shape,
    around: &Surroundings,
    config: &Config,
) {
    settings.app_id = Some(app_id.to_owned());
    settings.control_plane_address = Some(config.address(&Service::new("dapr-api", 443)));
    settings.sentry_address = Some(config.address(&Service::new("dapr-sentry", 443)));
    settings.enable_mtls = around.mtls.then_some(true);
    let blank = settings
        .placement_addresses
        .as_ref()
        .is_some_and(Vec::is_empty);
    match &config.actors {
        // A blank annotation means no actors, whatever the installation has.
        _ if blank => settings.placement_addresses = None,
        _ if settings.placement_addresses.is_some() => {}
        Actors::Off => {}
        Actors::Placement(service) => {
            settings.placement_addresses = Some(vec![config.address(service)])
        }
        Actors::Other(name, service) => {
            settings.actors_service = Some(format!("{name}:{}", config.address(service)));
        }
    }
    settings.reminders_service = config
        .reminders
        .as_ref()
        .map(|(name, service)| format!("{name}:{}", config.address(service)));
    if settings.scheduler_addresses.is_none() && config.scheduler {
        let service = Service::new("dapr-scheduler-server-a", 443);
        settings.scheduler_addresses = Some(vec![config.address(&service)]);
    }
    if shape.unix_domain_socket_path.is_some() {
        // The annotation says where the app has the sockets; daprd always has them here.
        settings.unix_domain_socket = Some(volumes::DAPR_SOCKETS.to_owned());
    }
}

fn has_sidecar(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    spec.containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .any(|one| one.name == SIDECAR)
}

/// Everything the parts of the patch look at.
struct Sidecar<'a> {
    pod: &'a Pod,
    shape: &'a Shape,
    settings: &'a Settings,
    around: &'a Surroundings,
    config: &'a Config,
    /// Whether it is an init container that keeps running.
    native: bool,
}

impl Sidecar<'_> {
    fn operations(&self, app_id: &str) -> Result<Vec<PatchOperation>, Error> {
        let spec = self.pod.spec.as_ref();
        let mut operations = Vec::new();
        if self.containers().is_empty() {
            operations.push(add(&["spec", "containers"], json!([])));
        }
        if self
            .pod
            .metadata
            .labels
            .as_ref()
            .is_none_or(|labels| labels.is_empty())
        {
            operations.push(add(&["metadata", "labels"], json!({})));
        }
        operations.extend(self.volume_operations()?);
        let place = if self.native {
            "initContainers"
        } else {
            "containers"
        };
        if self.native
            && spec
                .and_then(|spec| spec.init_containers.as_ref())
                .is_none_or(Vec::is_empty)
        {
            operations.push(add(&["spec", "initContainers"], json!([])));
        }
        operations.push(append(
            &["spec", place],
            serde_json::to_value(self.container())?,
        ));
        let metrics = self.settings.enable_metrics.unwrap_or(true).to_string();
        for (label, value) in [
            (INJECTED_LABEL, "true"),
            (APP_ID_LABEL, app_id),
            (METRICS_LABEL, &metrics),
        ] {
            operations.push(add(&["metadata", "labels", label], Value::from(value)));
        }
        for (index, container) in self.containers().iter().enumerate() {
            let component = self.shape.pluggable_components.contains(&container.name);
            let (env, mounts) = if component {
                (self.component_env(), vec![self.component_mount()])
            } else {
                (self.app_env(), self.app_mounts())
            };
            operations.extend(operations::env(index, container, env)?);
            operations.extend(operations::mounts(index, container, mounts)?);
        }
        for container in self.component_containers() {
            operations.push(append(
                &["spec", "containers"],
                serde_json::to_value(container)?,
            ));
        }
        Ok(operations)
    }

    fn containers(&self) -> &[Container] {
        self.pod.spec.as_ref().map_or(&[], |spec| &spec.containers)
    }
}

/// What a pod is told that gets an ordinary container instead.
const NOT_NATIVE: &str = "this cluster has no native sidecars, which need Kubernetes 1.29: daprd becomes an ordinary container";
/// Name of the sidecar's container.
const SIDECAR: &str = "daprd";
const INJECTED_LABEL: &str = "dapr.io/sidecar-injected";
const APP_ID_LABEL: &str = "dapr.io/app-id";
const METRICS_LABEL: &str = "dapr.io/metrics-enabled";

#[cfg(test)]
mod tests;
