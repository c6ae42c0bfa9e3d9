//! The annotations that only shape the pod (contract 4.4); those that are settings of daprd stand in `settings`.

use std::collections::{BTreeMap, HashSet};

use settings::ANNOTATION_PREFIX;
use settings::injection::ENABLED;
use values::is_truthy;

/// The annotations this module reads, without their prefix. `component-container` stands on Components,
/// `sidecar-svc-annotations` is read by the operator.
pub const POD_ANNOTATIONS: &[&str] = &[
    ENABLED,
    "api-token-secret",
    "app-token-secret",
    "enable-debug",
    "debug-port",
    "env",
    "env-from-secret",
    "sidecar-cpu-request",
    "sidecar-cpu-limit",
    "sidecar-memory-request",
    "sidecar-memory-limit",
    "sidecar-liveness-probe-delay-seconds",
    "sidecar-liveness-probe-timeout-seconds",
    "sidecar-liveness-probe-period-seconds",
    "sidecar-liveness-probe-threshold",
    "sidecar-readiness-probe-delay-seconds",
    "sidecar-readiness-probe-timeout-seconds",
    "sidecar-readiness-probe-period-seconds",
    "sidecar-readiness-probe-threshold",
    "sidecar-image",
    "sidecar-seccomp-profile-type",
    "unix-domain-socket-path",
    "volume-mounts",
    "volume-mounts-rw",
    "pluggable-components",
    "pluggable-components-sockets-folder",
    COMPONENT_CONTAINER,
    "inject-pluggable-components",
    "sidecar-svc-annotations",
    "enable-native-sidecar",
];

/// On a Component: the container that implements it, as JSON.
pub const COMPONENT_CONTAINER: &str = "component-container";

/// A pod's annotations.
pub type Annotations = BTreeMap<String, String>;

/// What a pod says about the shape of its sidecar.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    pub api_token_secret: Option<String>,
    pub app_token_secret: Option<String>,
    /// The port of the debugger, if there shall be one.
    pub debug_port: Option<i32>,
    pub env: String,
    pub env_from_secret: String,
    pub resources: Resources,
    pub liveness: Probe,
    pub readiness: Probe,
    pub image: Option<String>,
    pub seccomp_profile_type: Option<String>,
    /// Where app containers have the sockets of the Dapr API.
    pub unix_domain_socket_path: Option<String>,
    pub volume_mounts: String,
    pub volume_mounts_rw: String,
    /// Names of the pod's containers that are components.
    pub pluggable_components: HashSet<String>,
    pub components_sockets_folder: Option<String>,
    pub inject_components: bool,
    pub native_sidecar: Option<bool>,
    /// Values that do not parse and count as not given, a sentence each.
    pub ignored: Vec<String>,
}

/// Compute resources as written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    pub cpu_request: Option<String>,
    pub cpu_limit: Option<String>,
    pub memory_request: Option<String>,
    pub memory_limit: Option<String>,
}

/// A probe in seconds and failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    pub delay: i32,
    pub timeout: i32,
    pub period: i32,
    pub threshold: i32,
}

impl Shape {
    pub fn read(annotations: &Annotations) -> Self {
        let mut reader = Reader {
            annotations,
            ignored: Vec::new(),
        };
        let shape = Self {
            api_token_secret: reader.text("api-token-secret"),
            app_token_secret: reader.text("app-token-secret"),
            debug_port: reader
                .switch("enable-debug")
                .then(|| reader.number("debug-port", 40000)),
            env: reader.text("env").unwrap_or_default(),
            env_from_secret: reader.text("env-from-secret").unwrap_or_default(),
            resources: Resources {
                cpu_request: reader.text("sidecar-cpu-request"),
                cpu_limit: reader.text("sidecar-cpu-limit"),
                memory_request: reader.text("sidecar-memory-request"),
                memory_limit: reader.text("sidecar-memory-limit"),
            },
            liveness: Probe {
                delay: reader.number("sidecar-liveness-probe-delay-seconds", 180),
                timeout: reader.number("sidecar-liveness-probe-timeout-seconds", 3),
                period: reader.number("sidecar-liveness-probe-period-seconds", 10),
                threshold: reader.number("sidecar-liveness-probe-threshold", 5),
            },
            readiness: Probe {
                delay: reader.number("sidecar-readiness-probe-delay-seconds", 1),
                timeout: reader.number("sidecar-readiness-probe-timeout-seconds", 1),
                period: reader.number("sidecar-readiness-probe-period-seconds", 1),
                threshold: reader.number("sidecar-readiness-probe-threshold", 5),
            },
            image: reader.text("sidecar-image"),
            seccomp_profile_type: reader.text("sidecar-seccomp-profile-type"),
            unix_domain_socket_path: reader.text("unix-domain-socket-path"),
            volume_mounts: reader.text("volume-mounts").unwrap_or_default(),
            volume_mounts_rw: reader.text("volume-mounts-rw").unwrap_or_default(),
            pluggable_components: values::list::items(
                &reader.text("pluggable-components").unwrap_or_default(),
            )
            .map(str::to_owned)
            .collect(),
            components_sockets_folder: reader.text("pluggable-components-sockets-folder"),
            inject_components: reader.switch("inject-pluggable-components"),
            native_sidecar: reader
                .get("enable-native-sidecar")
                .map(|value| is_truthy(value)),
            ignored: Vec::new(),
        };
        Self {
            ignored: reader.ignored,
            ..shape
        }
    }
}

struct Reader<'a> {
    annotations: &'a Annotations,
    ignored: Vec<String>,
}

impl<'a> Reader<'a> {
    fn get(&self, name: &str) -> Option<&'a String> {
        self.annotations.get(&format!("{ANNOTATION_PREFIX}{name}"))
    }

    fn text(&self, name: &str) -> Option<String> {
        self.get(name).filter(|value| !value.is_empty()).cloned()
    }

    fn switch(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| is_truthy(value))
    }

    /// Compat: Q-annotation-integers: a number that does not parse counts as not given.
    fn number(&mut self, name: &str, default: i32) -> i32 {
        let Some(value) = self.get(name) else {
            return default;
        };
        value.parse().unwrap_or_else(|_| {
            let shown: String = value.chars().take(64).collect();
            self.ignored.push(format!(
                "invalid value {shown:?} for annotation {ANNOTATION_PREFIX}{name}: not a number"
            ));
            default
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn annotations(pairs: &[(&str, &str)]) -> Annotations {
        pairs
            .iter()
            .map(|(name, value)| (format!("dapr.io/{name}"), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn the_two_tables_are_the_contracts_sixty_four() {
        let settings = settings::ROWS.iter().filter_map(|row| row.annotation);
        let all: Vec<&str> = settings.chain(POD_ANNOTATIONS.iter().copied()).collect();
        let distinct: BTreeSet<&str> = all.iter().copied().collect();
        assert_eq!((all.len(), distinct.len()), (64, 64), "{all:?}");
        let contract: BTreeSet<&str> = include_str!("../tests/annotations.txt")
            .split_whitespace()
            .collect();
        assert_eq!(distinct, contract);
    }

    #[test]
    fn a_silent_pod_has_the_contracts_defaults() {
        let shape = Shape::read(&Annotations::new());
        assert_eq!(
            shape.liveness,
            Probe {
                delay: 180,
                timeout: 3,
                period: 10,
                threshold: 5
            }
        );
        assert_eq!(
            shape.readiness,
            Probe {
                delay: 1,
                timeout: 1,
                period: 1,
                threshold: 5
            }
        );
        assert_eq!(
            (shape.debug_port, shape.native_sidecar, shape.ignored.len()),
            (None, None, 0)
        );
    }

    #[test]
    fn bad_numbers_are_told() {
        let shape = Shape::read(&annotations(&[("enable-debug", "on"), ("debug-port", "x")]));
        assert_eq!(shape.debug_port, Some(40000));
        assert_eq!(
            shape.ignored,
            ["invalid value \"x\" for annotation dapr.io/debug-port: not a number"]
        );
    }
}
