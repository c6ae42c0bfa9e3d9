//! The names that the contract lists (9.1, 9.2, 12.1), for comparison with the table.

use std::collections::BTreeSet;

/// Fails with what is missing and what is too much.
pub fn same(what: &str, contract: &str, table: &[&str]) {
    let contract: BTreeSet<&str> = contract.split_whitespace().collect();
    let names: BTreeSet<&str> = table.iter().copied().collect();
    assert_eq!(names.len(), table.len(), "{what}: a name stands twice");
    let missing: Vec<_> = contract.difference(&names).collect();
    let surplus: Vec<_> = names.difference(&contract).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "{what}: missing {missing:?}, surplus {surplus:?}"
    );
}

/// Contract 9.1.
pub const FLAGS: &str = "
mode app-id app-port app-protocol app-channel-address app-max-concurrency app-ssl enable-app-health-check
app-health-check-path app-health-probe-interval app-health-probe-timeout app-health-threshold
app-binding-options-timeout dapr-http-port dapr-grpc-port dapr-internal-grpc-port dapr-internal-grpc-listen-address
dapr-listen-addresses dapr-public-port dapr-public-listen-address unix-domain-socket max-body-size read-buffer-size
dapr-http-max-request-size dapr-http-read-buffer-size allowed-origins resources-path components-path config
control-plane-address sentry-address control-plane-trust-domain control-plane-namespace sentry-request-jwt-audiences
enable-mtls placement-host-address actors-disseminate-timeout scheduler-host-address scheduler-job-streams
hot-reload-reconcile-interval dapr-graceful-shutdown-seconds dapr-block-shutdown-duration enable-api-logging
disable-builtin-k8s-secret-store disable-init-endpoints enable-profiling profile-port enable-metrics metrics-port
metrics-listen-address log-level log-as-json log-file version build-info wait actors-service reminders-service
";

/// Contract 9.2, without what daprd sets for its components.
pub const ENVIRONMENT: &str = "
DAPR_API_TOKEN APP_API_TOKEN DAPR_TRUST_ANCHORS DAPR_CONTROLPLANE_NAMESPACE DAPR_CONTROLPLANE_TRUST_DOMAIN
DAPR_SENTRY_TOKEN_FILE SENTRY_LOCAL_IDENTITY DAPR_SCHEDULER_HOST_ADDRESS_DNS_A DAPR_COMPONENTS_SOCKETS_FOLDER
DAPR_WORKFLOW_JANITOR_PERIOD DAPR_WORKFLOW_REAPER_IDLE_TTL DAPR_WORKFLOW_REAPER_SCAN_INTERVAL
DAPR_WORKFLOW_FOLD_WAIT_TIMEOUT DAPR_GRPC_MAX_CONN_IDLE DAPR_GRPC_CONN_COLLECTOR_INTERVAL DAPR_ENV_KEYS
DAPR_HTTP_DISABLE_H2C DAPR_HOST_IP NAMESPACE POD_NAME OTEL_EXPORTER_OTLP_ENDPOINT OTEL_EXPORTER_OTLP_TRACES_ENDPOINT
OTEL_EXPORTER_OTLP_PROTOCOL OTEL_EXPORTER_OTLP_TRACES_PROTOCOL OTEL_EXPORTER_OTLP_INSECURE OTEL_EXPORTER_OTLP_HEADERS
OTEL_EXPORTER_OTLP_TRACES_HEADERS OTEL_EXPORTER_OTLP_TIMEOUT OTEL_EXPORTER_OTLP_TRACES_TIMEOUT OTEL_SERVICE_NAME
OTEL_RESOURCE_ATTRIBUTES DAPR_UNSAFE_SKIP_CONTAINER_UID_GID_CHECK
";

/// Contract 12.1, without the flags that are the command's own (kubernetes, run-file).
pub const RUN_FLAGS: &str = "
app-id app-port config dapr-http-port dapr-grpc-port dapr-internal-grpc-port enable-profiling profile-port log-level
app-max-concurrency app-protocol components-path resources-path placement-host-address scheduler-host-address app-ssl
metrics-port max-body-size read-buffer-size unix-domain-socket enable-app-health-check app-health-check-path
app-health-probe-interval app-health-probe-timeout app-health-threshold enable-api-logging dapr-listen-addresses
app-channel-address
";
