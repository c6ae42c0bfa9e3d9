//! Annotations and labels of Kubernetes objects that the operator reads or writes.

pub const ENABLED: &str = "dapr.io/enabled";
pub const APP_ID: &str = "dapr.io/app-id";
pub const CONFIG: &str = "dapr.io/config";
pub const ENABLE_METRICS: &str = "dapr.io/enable-metrics";
pub const METRICS_PORT: &str = "dapr.io/metrics-port";
pub const GRPC_PORT: &str = "dapr.io/grpc-port";
pub const INTERNAL_GRPC_PORT: &str = "dapr.io/internal-grpc-port";
pub const SERVICE_ANNOTATIONS: &str = "dapr.io/sidecar-svc-annotations";

/// Label the injector puts on pods that it gave a sidecar.
pub const INJECTED: &str = "dapr.io/sidecar-injected";
/// Label the watchdog puts on pods that have a sidecar by other means.
pub const WATCHDOG_PATCHED: &str = "dapr.io/watchdog-patched";
