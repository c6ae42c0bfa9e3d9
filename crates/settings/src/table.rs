//! The table of daprd's settings, and the struct it describes. A new setting is one entry here.
//!
//! The first rows stand in the order in which the injector writes its arguments.

use values::{GoDuration, Quantity};

use crate::row::{Access, Row, row};
use crate::value::{Secret, Value};

macro_rules! table {
    ($($field:ident: $type:ty = $row:expr;)*) => {
        /// What the doors said; `None` where none of them said anything. Field names follow the flags.
        #[derive(Clone, Debug, Default, PartialEq)]
        #[allow(missing_docs, reason = "each field is documented by the help text of its row")]
        pub struct Settings {
            $(pub $field: Option<$type>,)*
            pub(crate) ignored: Vec<String>,
        }

        /// Every setting of daprd.
        pub static ROWS: &[Row] = &[
            $(Row {
                name: stringify!($field),
                kind: <$type as Value>::KIND,
                access: Access {
                    read: |settings, text, door| {
                        let value = <$type as Value>::read(text, door)?;
                        match &mut settings.$field {
                            Some(earlier) => Value::join(earlier, value),
                            none => *none = Some(value),
                        }
                        Ok(())
                    },
                    text: |settings| settings.$field.as_ref().map(Value::text),
                    clear: |settings| settings.$field = None,
                },
                ..$row
            },)*
        ];
    };
}

table! {
    // Always passed by the injector.
    http_port: u16 = row("HTTP port of the Dapr API")
        .flag("dapr-http-port").run("dapr-http-port", Some('H'), "-1").default("3500").injected("3500");
    grpc_port: u16 = row("gRPC port of the Dapr API")
        .flag("dapr-grpc-port").annotation("grpc-port").run("dapr-grpc-port", Some('G'), "-1")
        .default("50001").injected("50001");
    internal_grpc_port: u16 = row("gRPC port between sidecars; 0 or empty picks one that stays the same over restarts")
        .flag("dapr-internal-grpc-port").annotation("internal-grpc-port")
        .run("dapr-internal-grpc-port", Some('I'), "-1").injected("50002");
    listen_addresses: Vec<String> = row("Addresses the Dapr API listens on; empty is every interface")
        .flag("dapr-listen-addresses").annotation("sidecar-listen-addresses").run("dapr-listen-addresses", None, "")
        .injected("[::1],127.0.0.1").blank_counts();
    public_port: u16 = row("Port of health and metadata only, off if empty")
        .flag("dapr-public-port").injected("3501");
    app_id: String = row("Unique name of the app, for discovery and state")
        .flag("app-id").annotation("app-id").run("app-id", Some('a'), "");
    app_protocol: String = row("Protocol of the app: grpc, grpcs, http, https, h2c")
        .flag("app-protocol").annotation("app-protocol").run("app-protocol", Some('P'), "http")
        .default("http").injected("http");
    log_level: String = row("Log level: debug, info, warn, error, fatal")
        .flag("log-level").annotation("log-level").run("log-level", None, "info").default("info").injected("info");
    graceful_shutdown_seconds: i64 = row("Seconds a graceful shutdown may take; below zero is the default")
        .flag("dapr-graceful-shutdown-seconds").annotation("graceful-shutdown-seconds").default("5").injected("-1");
    mode: String = row("Where daprd runs: standalone or kubernetes")
        .flag("mode").default("standalone").injected("kubernetes");
    control_plane_address: String = row("Address of the operator").flag("control-plane-address");
    sentry_address: String = row("Address of the certificate authority").flag("sentry-address");

    // Passed by the injector when the pod or the installation says so.
    app_port: i64 = row("Port the app listens on; 0 or empty is no app channel")
        .flag("app-port").annotation("app-port").run("app-port", Some('p'), "-1").positive();
    // Q-enable-metrics-false: off is said to the sidecar, whose default is on.
    enable_metrics: bool = row("Serve Prometheus metrics")
        .flag("enable-metrics").annotation("enable-metrics").default("true").injected("true");
    metrics_port: u16 = row("Port of the metrics")
        .flag("metrics-port").annotation("metrics-port").run("metrics-port", Some('M'), "-1")
        .default("9090").injected("9090").only_with("enable-metrics");
    config: Vec<String> = row("Configuration files, or the name of a Configuration resource")
        .flag("config").annotation("config").run("config", Some('c'), "");
    app_channel_address: String = row("Address the app listens on")
        .flag("app-channel-address").annotation("app-channel-address").run("app-channel-address", None, "127.0.0.1")
        .default("127.0.0.1");
    placement_addresses: Vec<String> = row("Addresses of the placement service")
        .flag("placement-host-address").annotation("placement-host-address")
        .run("placement-host-address", None, "localhost").blank_counts().unquoted();
    actors_service: String = row("Type and address of the actors service").flag("actors-service")
        .deprecated("flag no longer has any effect").hidden();
    reminders_service: String = row("Type and address of the reminders service").flag("reminders-service")
        .deprecated("flag no longer has any effect").hidden();
    sentry_request_jwt_audiences: Vec<String> = row("Audiences asked for with the certificate; the trust domain if empty")
        .flag("sentry-request-jwt-audiences").annotation("sentry-request-jwt-audiences");
    enable_api_logging: bool = row("Log calls of the Dapr API; the Configuration decides if absent")
        .flag("enable-api-logging").annotation("enable-api-logging").run("enable-api-logging", None, "").three_states();
    disable_builtin_k8s_secret_store: bool = row("Leave out the built-in Kubernetes secret store")
        .flag("disable-builtin-k8s-secret-store").annotation("disable-builtin-k8s-secret-store");
    enable_app_health_check: bool = row("Probe the health of the app")
        .flag("enable-app-health-check").annotation("enable-app-health-check").run("enable-app-health-check", None, "");
    app_health_check_path: String = row("Path of the health probe; HTTP only")
        .flag("app-health-check-path").annotation("app-health-check-path").run("app-health-check-path", None, "")
        .default("/healthz").injected("/healthz").only_with("enable-app-health-check");
    app_health_probe_interval: i64 = row("Seconds between health probes")
        .flag("app-health-probe-interval").annotation("app-health-probe-interval")
        .run("app-health-probe-interval", None, "0").default("5").injected("5").only_with("enable-app-health-check");
    app_health_probe_timeout: i64 = row("Milliseconds a health probe may take")
        .flag("app-health-probe-timeout").annotation("app-health-probe-timeout")
        .run("app-health-probe-timeout", None, "0").default("500").injected("500").only_with("enable-app-health-check");
    app_health_threshold: i64 = row("Failed probes in a row that make the app unhealthy")
        .flag("app-health-threshold").annotation("app-health-threshold").run("app-health-threshold", None, "0")
        .default("3").injected("3").only_with("enable-app-health-check");
    app_binding_options_timeout: GoDuration = row("How long the app may take to say which input bindings it wants")
        .flag("app-binding-options-timeout").annotation("app-binding-options-timeout").default("3s");
    log_as_json: bool = row("Log as JSON").flag("log-as-json").annotation("log-as-json");
    enable_profiling: bool = row("Serve profiles")
        .flag("enable-profiling").annotation("enable-profiling").run("enable-profiling", None, "");
    enable_mtls: bool = row("Mutual TLS between sidecars and to the control plane").flag("enable-mtls");
    app_ssl: bool = row("Talk TLS to the app").flag("app-ssl").annotation("app-ssl").run("app-ssl", None, "")
        .deprecated("use --app-protocol https or grpcs");
    app_max_concurrency: i64 = row("Calls to the app at a time; -1 is no limit")
        .flag("app-max-concurrency").annotation("app-max-concurrency").run("app-max-concurrency", None, "-1")
        .default("-1");
    http_max_request_size: i64 = row("Largest request body, in MB")
        .flag("dapr-http-max-request-size").annotation("http-max-request-size").default("4")
        .deprecated("use --max-body-size");
    max_body_size: Quantity = row("Largest request body")
        .flag("max-body-size").annotation("max-body-size").run("max-body-size", None, "4Mi").default("4Mi");
    http_read_buffer_size: i64 = row("Largest request header, in KB")
        .flag("dapr-http-read-buffer-size").annotation("http-read-buffer-size").default("4")
        .deprecated("use --read-buffer-size");
    read_buffer_size: Quantity = row("Largest request header")
        .flag("read-buffer-size").annotation("read-buffer-size").run("read-buffer-size", None, "4Ki").default("4Ki");
    unix_domain_socket: String = row("Folder of Unix sockets to serve the Dapr API on instead of ports")
        .flag("unix-domain-socket").run("unix-domain-socket", Some('u'), "");
    block_shutdown_duration: GoDuration = row("How long to keep serving after a signal, unless the app is unhealthy")
        .flag("dapr-block-shutdown-duration").annotation("block-shutdown-duration");
    actors_disseminate_timeout: GoDuration = row("How long a round of placement may take before its stream is reset")
        .flag("actors-disseminate-timeout").annotation("actors-disseminate-timeout").default("30s");
    scheduler_addresses: Vec<String> = row("Addresses of the scheduler")
        .flag("scheduler-host-address").annotation("scheduler-host-address")
        .environment("DAPR_SCHEDULER_HOST_ADDRESS_DNS_A").run("scheduler-host-address", None, "localhost")
        .blank_counts().unquoted();
    disable_init_endpoints: Vec<String> = row("Calls to the app at start to leave out: config, subscribe")
        .flag("disable-init-endpoints").annotation("disable-init-endpoints").blank_counts();

    // Flags that the injector never passes.
    internal_grpc_listen_address: String = row("Address of the port between sidecars; loopback is also announced")
        .flag("dapr-internal-grpc-listen-address");
    public_listen_address: String = row("Address of the public port").flag("dapr-public-listen-address");
    allowed_origins: String = row("Origins that CORS admits").flag("allowed-origins");
    resources_path: Vec<String> = row("Folders of resource files")
        .flag("resources-path").run("resources-path", None, "");
    components_path: String = row("Folder of resource files").flag("components-path").run("components-path", Some('d'), "")
        .deprecated("use --resources-path");
    control_plane_trust_domain: String = row("Trust domain of the control plane")
        .flag("control-plane-trust-domain").environment("DAPR_CONTROLPLANE_TRUST_DOMAIN").default("localhost");
    control_plane_namespace: String = row("Namespace of the control plane")
        .flag("control-plane-namespace").environment("DAPR_CONTROLPLANE_NAMESPACE").default("default");
    scheduler_job_streams: i64 = row("Streams of jobs held open to the scheduler")
        .flag("scheduler-job-streams").default("3");
    hot_reload_reconcile_interval: GoDuration = row("How often resources are compared in full; 0 is every 60s")
        .flag("hot-reload-reconcile-interval").default("0s");
    profile_port: u16 = row("Port of the profiles")
        .flag("profile-port").run("profile-port", None, "-1").default("7777");
    metrics_listen_address: String = row("Address of the metrics").flag("metrics-listen-address").default("0.0.0.0");
    log_file: String = row("File to log to").flag("log-file");
    version: bool = row("Print the version and exit").flag("version");
    build_info: bool = row("Print the version, commit and more, and exit").flag("build-info");
    wait: bool = row("Wait for a running daprd to be ready, and exit").flag("wait");

    // Environment only.
    api_token: Secret = row("Token that callers of the Dapr API must send").environment("DAPR_API_TOKEN");
    app_api_token: Secret = row("Token that daprd sends to the app").environment("APP_API_TOKEN");
    trust_anchors: String = row("Root certificates in PEM").environment("DAPR_TRUST_ANCHORS");
    sentry_token_file: String = row("File with the token for the certificate authority")
        .environment("DAPR_SENTRY_TOKEN_FILE");
    sentry_local_identity: String = row("Identity told to the certificate authority outside Kubernetes")
        .environment("SENTRY_LOCAL_IDENTITY");
    components_sockets_folder: String = row("Folder where pluggable components have their sockets")
        .environment("DAPR_COMPONENTS_SOCKETS_FOLDER").default("/tmp/dapr-components-sockets");
    workflow_janitor_period: GoDuration = row("How often the janitor of a workflow looks for what was lost")
        .environment("DAPR_WORKFLOW_JANITOR_PERIOD").default("20s");
    workflow_reaper_idle_ttl: GoDuration = row("How long an idle workflow stays in memory")
        .environment("DAPR_WORKFLOW_REAPER_IDLE_TTL");
    workflow_reaper_scan_interval: GoDuration = row("How often idle workflows are looked for")
        .environment("DAPR_WORKFLOW_REAPER_SCAN_INTERVAL");
    workflow_fold_wait_timeout: GoDuration = row("How long the sender of a completion waits for a turn that stores it")
        .environment("DAPR_WORKFLOW_FOLD_WAIT_TIMEOUT").default("2m");
    grpc_max_conn_idle: GoDuration = row("How long an unused connection to a sidecar is kept")
        .environment("DAPR_GRPC_MAX_CONN_IDLE").default("3m");
    grpc_conn_collector_interval: GoDuration = row("How often unused connections are looked for")
        .environment("DAPR_GRPC_CONN_COLLECTOR_INTERVAL").default("45s");
    env_keys: String = row("Variables that components may read, separated by spaces").environment("DAPR_ENV_KEYS");
    http_disable_h2c: bool = row("Refuse HTTP/2 without TLS on the HTTP port").environment("DAPR_HTTP_DISABLE_H2C");
    host_ip: String = row("Address announced to others").environment("DAPR_HOST_IP");
    namespace: String = row("Namespace of the app").environment("NAMESPACE");
    pod_name: String = row("Name of the pod").environment("POD_NAME");
    skip_user_check: bool = row("Start as any user in a container")
        .environment("DAPR_UNSAFE_SKIP_CONTAINER_UID_GID_CHECK");
    otlp_endpoint: String = row("Where traces go").environment("OTEL_EXPORTER_OTLP_ENDPOINT");
    otlp_traces_endpoint: String = row("Where traces go").environment("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
    otlp_protocol: String = row("How traces go").environment("OTEL_EXPORTER_OTLP_PROTOCOL");
    otlp_traces_protocol: String = row("How traces go").environment("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL");
    otlp_insecure: bool = row("Send traces without TLS").environment("OTEL_EXPORTER_OTLP_INSECURE");
    otlp_headers: Secret = row("Headers sent with traces").environment("OTEL_EXPORTER_OTLP_HEADERS");
    otlp_traces_headers: Secret = row("Headers sent with traces").environment("OTEL_EXPORTER_OTLP_TRACES_HEADERS");
    otlp_timeout: String = row("Milliseconds sending traces may take").environment("OTEL_EXPORTER_OTLP_TIMEOUT");
    otlp_traces_timeout: String = row("Milliseconds sending traces may take")
        .environment("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT");
    otel_service_name: String = row("Service name in traces").environment("OTEL_SERVICE_NAME");
    otel_resource_attributes: String = row("Attributes in traces").environment("OTEL_RESOURCE_ATTRIBUTES");
}
