//! The injector's configuration out of its environment (contract 4.3), checked once at start.

use std::fmt;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::Toleration;
use kubernetes::resolver;
use security::{Anchors, KeyKind, Options, SpiffeId, TokenSource};
use values::{is_truthy, list};

/// What the injector puts into every sidecar, and whom it serves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Image of the sidecar.
    pub sidecar_image: String,
    /// `Always`, `Never` or `IfNotPresent`.
    pub image_pull_policy: String,
    /// Namespace of the control plane.
    pub namespace: String,
    /// Domain of the cluster's services.
    pub cluster_domain: String,
    /// Patterns `namespace:name` of further service accounts that may create pods with sidecars.
    pub service_accounts: Vec<String>,
    /// Pods with one of these get the sidecar's command as command.
    pub entrypoint_tolerations: Vec<Toleration>,
    /// Who serves actors.
    pub actors: Actors,
    /// Name and service of the reminders service, if there is one.
    pub reminders: Option<(String, Service)>,
    /// Sidecars are told the scheduler's address.
    pub scheduler: bool,
    /// Security context of the sidecar.
    pub run_as_non_root: bool,
    /// Security context of the sidecar.
    pub run_as_user: Option<i64>,
    /// Security context of the sidecar.
    pub run_as_group: Option<i64>,
    /// Security context of the sidecar.
    pub read_only_root_filesystem: bool,
    /// Security context of the sidecar.
    pub drop_all_capabilities: bool,
    /// Seccomp profile where the pod names none; upstream has only the annotation. Q-chart-restricted
    pub seccomp_profile_type: Option<String>,
    /// The sidecar learns the pod's address from the downward API.
    pub downward_api: bool,
    /// Whether sidecars are init containers that keep running, where the pod does not say.
    pub native_sidecar: NativeSidecar,
    /// Folder of pluggable components' sockets where the pod names none.
    pub components_sockets_folder: String,
    /// The injector has a service account token, so the cluster can project one for the sidecar.
    pub token_volume: bool,
    /// PEM file of the trust anchors.
    pub trust_anchors_file: PathBuf,
    /// Trust domain of the control plane.
    pub trust_domain: String,
    /// Sentry, for the injector's own certificate.
    pub sentry_address: String,
    /// Sentry's identity: audience of the sidecars' tokens.
    pub sentry_id: SpiffeId,
}

/// Who serves actors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actors {
    /// Nobody.
    Off,
    /// Placement.
    Placement(Service),
    /// A service of another kind, by its name.
    Other(String, Service),
}

/// Whether sidecars are init containers that keep running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NativeSidecar {
    /// They are ordinary containers.
    No,
    /// They are, unless the cluster cannot.
    Yes,
    /// They are where the cluster is known to be able to (Q-native-sidecar).
    WhereSupported,
}

/// A service of the control plane, `name:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    name: String,
    port: u16,
}

/// What is wrong with the environment.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("environment variable {0} is required")]
    Missing(&'static str),
    #[error("invalid value {value:?} for environment variable {name}: {reason}")]
    Value {
        name: &'static str,
        value: String,
        reason: &'static str,
    },
    #[error(transparent)]
    Identity(#[from] security::Error),
}

impl Config {
    /// Reads the environment through `get`.
    pub fn from_environment(
        get: impl Fn(&str) -> Option<String>,
        scheduler_enabled: bool,
    ) -> Result<Self, Error> {
        let text = |name: &str| get(name).filter(|text| !text.is_empty());
        let required = |name: &'static str| text(name).ok_or(Error::Missing(name));
        let on = |name: &str, default: bool| text(name).map_or(default, |text| is_truthy(&text));
        let namespace = required("NAMESPACE")?;
        let trust_domain =
            text("DAPR_CONTROL_PLANE_TRUST_DOMAIN").unwrap_or_else(|| CLUSTER_DOMAIN.to_owned());
        let cluster_domain = text("KUBE_CLUSTER_DOMAIN").unwrap_or_else(detect_cluster_domain);
        let sentry = Service::new("dapr-sentry", 443).address(&namespace, &cluster_domain);
        let mut service_accounts = Vec::new();
        for name in [
            "ALLOWED_SERVICE_ACCOUNTS",
            "ALLOWED_SERVICE_ACCOUNTS_PREFIX_NAMES",
        ] {
            service_accounts.extend(list::owned(&text(name).unwrap_or_default()));
        }
        Ok(Self {
            sidecar_image: required("SIDECAR_IMAGE")?,
            image_pull_policy: pull_policy(text("SIDECAR_IMAGE_PULL_POLICY").as_deref()),
            sentry_id: SpiffeId::new(&trust_domain, &namespace, security::SENTRY)?,
            sentry_address: text("DAPR_SENTRY_ADDRESS").unwrap_or(sentry),
            cluster_domain,
            service_accounts,
            entrypoint_tolerations: tolerations(text("IGNORE_ENTRYPOINT_TOLERATIONS")),
            actors: actors(&text, on("ACTORS_ENABLED", true))?,
            reminders: reminders(&text)?,
            scheduler: scheduler_enabled,
            run_as_non_root: on("SIDECAR_RUN_AS_NON_ROOT", true),
            run_as_user: number("SIDECAR_RUN_AS_USER", text("SIDECAR_RUN_AS_USER"))?,
            run_as_group: number("SIDECAR_RUN_AS_GROUP", text("SIDECAR_RUN_AS_GROUP"))?,
            read_only_root_filesystem: on("SIDECAR_READ_ONLY_ROOT_FILESYSTEM", true),
            drop_all_capabilities: on("SIDECAR_DROP_ALL_CAPABILITIES", false),
            seccomp_profile_type: text("SIDECAR_SECCOMP_PROFILE_TYPE"),
            downward_api: on("ENABLE_K8S_DOWNWARD_APIS", false),
            native_sidecar: native_sidecar(text("NATIVE_SIDECAR_ENABLED").as_deref()),
            components_sockets_folder: text("DAPR_COMPONENT_SOCKETS_FOLDER")
                .unwrap_or_else(|| "/tmp/dapr-components-sockets".to_owned()),
            token_volume: TokenSource::default()
                .kubernetes
                .iter()
                .any(|path| path.exists()),
            trust_anchors_file: text("DAPR_TRUST_ANCHORS_FILE").map_or_else(
                || PathBuf::from("/var/run/dapr.io/tls/ca.crt"),
                PathBuf::from,
            ),
            trust_domain,
            namespace,
        })
    }

    /// How the injector gets its own certificate: an RSA key, because some API servers refuse others.
    pub fn security(&self, registry: prometheus::Registry) -> Options {
        Options {
            app_id: security::INJECTOR.to_owned(),
            requested_id: None,
            namespace: self.namespace.clone(),
            trust_domain: None,
            control_plane_trust_domain: self.trust_domain.clone(),
            control_plane_namespace: self.namespace.clone(),
            sentry_address: self.sentry_address.clone(),
            anchors: Anchors::File(self.trust_anchors_file.clone()),
            token: TokenSource::default(),
            key: KeyKind::Rsa2048,
            mtls: true,
            kubernetes: true,
            jwt_audiences: Vec::new(),
            registry,
        }
    }

    /// Address of a service of the control plane.
    pub fn address(&self, service: &Service) -> String {
        service.address(&self.namespace, &self.cluster_domain)
    }
}

impl Service {
    /// A service by name and port.
    pub fn new(name: &str, port: u16) -> Self {
        Self {
            name: name.to_owned(),
            port,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (name, port) = text.split_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        (!name.is_empty()).then(|| Self::new(name, port))
    }

    fn address(&self, namespace: &str, cluster_domain: &str) -> String {
        format!(
            "{}.{namespace}.svc.{cluster_domain}:{}",
            self.name, self.port
        )
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.port)
    }
}

fn pull_policy(text: Option<&str>) -> String {
    let known = ["Always", "Never", "IfNotPresent"];
    match text {
        None => "Always",
        Some(text) => known
            .into_iter()
            .find(|policy| *policy == text)
            .unwrap_or("IfNotPresent"),
    }
    .to_owned()
}

fn native_sidecar(text: Option<&str>) -> NativeSidecar {
    match text {
        Some(text) if text.eq_ignore_ascii_case("auto") => NativeSidecar::WhereSupported,
        Some(text) if is_truthy(text) => NativeSidecar::Yes,
        _ => NativeSidecar::No,
    }
}

fn number(name: &'static str, text: Option<String>) -> Result<Option<i64>, Error> {
    let parse = |text: String| {
        text.parse().map_err(|_| Error::Value {
            name,
            value: text,
            reason: "not a number",
        })
    };
    text.map(parse).transpose()
}

fn service(name: &'static str, text: Option<String>) -> Result<Service, Error> {
    let value = text.unwrap_or_default();
    Service::parse(&value).ok_or(Error::Value {
        name,
        value,
        reason: "not of the form name:port",
    })
}

fn actors(text: &impl Fn(&str) -> Option<String>, enabled: bool) -> Result<Actors, Error> {
    let named = text("ACTORS_SERVICE_NAME");
    let address = match &named {
        None => Service::new("dapr-placement-server", 50005),
        Some(_) => service("ACTORS_SERVICE_ADDRESS", text("ACTORS_SERVICE_ADDRESS"))?,
    };
    Ok(match named {
        _ if !enabled => Actors::Off,
        Some(name) if name != "placement" => Actors::Other(name, address),
        _ => Actors::Placement(address),
    })
}

fn reminders(text: &impl Fn(&str) -> Option<String>) -> Result<Option<(String, Service)>, Error> {
    match text("REMINDERS_SERVICE_NAME") {
        None => Ok(None),
        Some(name) if name == "default" => Ok(None),
        Some(name) => Ok(Some((
            name,
            service(
                "REMINDERS_SERVICE_ADDRESS",
                text("REMINDERS_SERVICE_ADDRESS"),
            )?,
        ))),
    }
}

/// Tolerations as JSON. Compat: Q-injector-tolerations: a text that does not parse is warned about and taken for none.
fn tolerations(text: Option<String>) -> Vec<Toleration> {
    let Some(text) = text else { return Vec::new() };
    serde_json::from_str(&text).unwrap_or_else(|error| {
        tracing::warn!("cannot parse IGNORE_ENTRYPOINT_TOLERATIONS {text:?}: {error}");
        Vec::new()
    })
}

fn detect_cluster_domain() -> String {
    let text = std::fs::read_to_string(resolver::RESOLV_CONF).unwrap_or_default();
    resolver::cluster_domain(&text).unwrap_or_else(|| CLUSTER_DOMAIN.to_owned())
}

const CLUSTER_DOMAIN: &str = "cluster.local";

#[cfg(test)]
mod tests;
