//! The sidecar's container: image, arguments, ports, probes, resources and security context.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, HTTPGetAction, Probe, ResourceRequirements,
    SeccompProfile, SecurityContext, TCPSocketAction, WindowsSecurityContextOptions,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{SIDECAR, Sidecar};
use crate::pod;

impl Sidecar<'_> {
    pub(super) fn container(&self) -> Container {
        let (command, args) = self.command();
        let env = self.sidecar_env();
        Container {
            name: SIDECAR.to_owned(),
            image: Some(
                self.shape
                    .image
                    .as_ref()
                    .unwrap_or(&self.config.sidecar_image)
                    .clone(),
            ),
            image_pull_policy: Some(self.config.image_pull_policy.clone()),
            security_context: Some(
                self.security_context(env.iter().any(|var| var.name == WINDOWS_MARK)),
            ),
            ports: Some(self.ports()),
            command,
            args: Some(args),
            env: Some(env),
            volume_mounts: Some(self.sidecar_mounts()).filter(|mounts| !mounts.is_empty()),
            readiness_probe: Some(Probe {
                http_get: Some(HTTPGetAction {
                    path: Some("/v1.0/healthz".to_owned()),
                    port: self.public_port(),
                    ..HTTPGetAction::default()
                }),
                ..probe(self.shape.readiness)
            }),
            liveness_probe: Some(Probe {
                tcp_socket: Some(TCPSocketAction {
                    port: self.public_port(),
                    host: None,
                }),
                ..probe(self.shape.liveness)
            }),
            // What is wrong with them is among the warnings.
            resources: resources(&self.shape.resources).unwrap_or_default(),
            restart_policy: self.native.then(|| "Always".to_owned()),
            ..Container::default()
        }
    }

    /// Command and arguments. The program goes into the arguments, so that an image may wrap it in an entry point;
    /// where pods run without our images' entry point, it is the command.
    fn command(&self) -> (Option<Vec<String>>, Vec<String>) {
        let mut program = "/daprd".to_owned();
        let mut args = self.settings.to_args();
        if let Some(port) = self.shape.debug_port {
            program = "/dlv".to_owned();
            let listen = format!(":{port}");
            let debugger = [
                "--listen",
                &listen,
                "--accept-multiclient",
                "--headless=true",
                "--log",
                "--api-version=2",
                "exec",
                "/daprd",
                "--",
            ];
            args.splice(0..0, debugger.map(str::to_owned));
        }
        let tolerations = self
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.tolerations.as_deref())
            .unwrap_or_default();
        if self
            .config
            .entrypoint_tolerations
            .iter()
            .any(|one| tolerations.contains(one))
        {
            return (Some(vec![program]), args);
        }
        args.insert(0, program);
        (None, args)
    }

    fn ports(&self) -> Vec<ContainerPort> {
        let settings = self.settings;
        let metrics = settings.metrics_port.unwrap_or(DEFAULT_METRICS_PORT);
        let mut ports = vec![
            port("dapr-http", settings.http_port.unwrap_or_default().into()),
            port("dapr-grpc", settings.grpc_port.unwrap_or_default().into()),
            port(
                "dapr-internal",
                settings.internal_grpc_port.unwrap_or_default().into(),
            ),
            port("dapr-metrics", metrics.into()),
        ];
        ports.extend(
            self.shape
                .debug_port
                .map(|number| port("dapr-debug", number)),
        );
        ports
    }

    fn public_port(&self) -> IntOrString {
        IntOrString::Int(self.settings.public_port.unwrap_or_default().into())
    }

    fn security_context(&self, windows: bool) -> SecurityContext {
        let config = self.config;
        let profile = self
            .shape
            .seccomp_profile_type
            .as_ref()
            .or(config.seccomp_profile_type.as_ref());
        let mut context = SecurityContext {
            allow_privilege_escalation: Some(false),
            run_as_non_root: Some(config.run_as_non_root),
            run_as_user: config.run_as_user,
            run_as_group: config.run_as_group,
            read_only_root_filesystem: Some(config.read_only_root_filesystem),
            seccomp_profile: profile.map(|kind| SeccompProfile {
                type_: kind.clone(),
                ..SeccompProfile::default()
            }),
            capabilities: config.drop_all_capabilities.then(|| Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Capabilities::default()
            }),
            ..SecurityContext::default()
        };
        if windows {
            // Only an administrator can install root certificates in a Windows container; nothing says here whether
            // this is one, and on Linux the image's own user still is not root.
            context.windows_options = Some(WindowsSecurityContextOptions {
                run_as_user_name: Some("ContainerAdministrator".to_owned()),
                ..WindowsSecurityContextOptions::default()
            });
            context.run_as_non_root = Some(false);
            context.read_only_root_filesystem = Some(false);
            context.run_as_user = None;
            context.run_as_group = None;
        }
        context
    }
}

/// Resources as the pod asks for them; one bad quantity and there are none.
///
/// # Errors
/// Names the annotation and its value.
pub fn resources(asked: &pod::Resources) -> Result<Option<ResourceRequirements>, String> {
    let list = |cpu, memory| -> Result<Option<BTreeMap<_, _>>, String> {
        let list = quantities([cpu, memory])?;
        Ok(Some(list).filter(|list| !list.is_empty()))
    };
    let requests = list(
        ("cpu", "request", &asked.cpu_request),
        ("memory", "request", &asked.memory_request),
    )?;
    let limits = list(
        ("cpu", "limit", &asked.cpu_limit),
        ("memory", "limit", &asked.memory_limit),
    )?;
    let any = requests.is_some() || limits.is_some();
    Ok(any.then(|| ResourceRequirements {
        requests,
        limits,
        ..ResourceRequirements::default()
    }))
}

/// What is asked for, by its name, its kind and the annotation's value.
fn quantities(
    list: [(&str, &str, &Option<String>); 2],
) -> Result<BTreeMap<String, Quantity>, String> {
    let given = list
        .into_iter()
        .filter_map(|(name, kind, text)| Some((name, kind, text.as_ref()?)));
    given
        .map(|(name, kind, text)| {
            let quantity = text.parse::<values::Quantity>().map_err(|error| {
                format!(
                    "{text:?} for annotation dapr.io/sidecar-{name}-{kind} is no quantity, so the sidecar has no requests and no limits: {error}"
                )
            })?;
            Ok((name.to_owned(), Quantity(quantity.to_string())))
        })
        .collect()
}

fn port(name: &str, number: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: number,
        ..ContainerPort::default()
    }
}

fn probe(shape: pod::Probe) -> Probe {
    Probe {
        initial_delay_seconds: Some(shape.delay),
        timeout_seconds: Some(shape.timeout),
        period_seconds: Some(shape.period),
        failure_threshold: Some(shape.threshold),
        ..Probe::default()
    }
}

/// A variable that only certificates on Windows need.
const WINDOWS_MARK: &str = "SSL_CERT_DIR";
/// Declared even where metrics are off, as dashboards expect the port's name.
const DEFAULT_METRICS_PORT: u16 = 9090;
