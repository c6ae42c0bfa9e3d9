//! The programs under upstream's chart: every flag that its templates pass, for every value that makes them pass one, is one
//! that ours take. `--version` behind them ends a program as soon as its command line is read.

use e2e::process::{self, Options, Process};
use e2e::wait;

const SENTRY: &[&str] = &[
    "--mode",
    "kubernetes",
    "--log-level",
    "info",
    "--log-as-json",
    "--enable-metrics",
    "--metrics-port",
    "9090",
    "--enable-metrics=false",
    "--trust-domain",
    "cluster.local",
    "--issuer-ca-filename",
    "ca.crt",
    "--issuer-certificate-filename",
    "tls.crt",
    "--issuer-key-filename",
    "tls.key",
    "--jwt-enabled=true",
    "--jwt-key-filename=jwt.key",
    "--jwks-filename=jwks.json",
    "--jwt-issuer=https://issuer.test",
    "--jwt-signing-algorithm=RS256",
    "--jwt-key-id=id",
    "--oidc-enabled=true",
    "--oidc-server-listen-address=0.0.0.0",
    "--oidc-server-listen-port=9080",
    "--oidc-jwks-uri=https://issuer.test/keys",
    "--oidc-path-prefix=/dapr",
    "--oidc-allowed-hosts=a.test,b.test",
    "--oidc-server-tls-cert-file=/tls/tls.crt",
    "--oidc-server-tls-key-file=/tls/tls.key",
    "--oidc-server-tls-enabled=true",
];

const OPERATOR: &[&str] = &[
    "--watch-interval",
    "0",
    "--max-pod-restarts-per-minute",
    "20",
    "--log-level",
    "info",
    "--trust-anchors-file",
    "/var/run/secrets/dapr.io/tls/ca.crt",
    "--log-as-json",
    "--enable-metrics",
    "--metrics-port",
    "9090",
    "--enable-metrics=false",
    "--watch-namespace",
    "apps",
    "--disable-service-reconciler",
    "--enable-argo-rollout-service-reconciler",
    "--watchdog-can-patch-pod-labels",
];

const INJECTOR: &[&str] = &[
    "--log-level",
    "info",
    "--log-as-json",
    "--enable-metrics",
    "--metrics-port",
    "9090",
    "--enable-metrics=false",
    "--healthz-port",
    "8080",
    "--scheduler-enabled=true",
];

const PLACEMENT: &[&str] = &[
    "--id",
    "dapr-placement-server-0",
    "--initial-cluster",
    "dapr-placement-server-0=dapr-placement-server-0.dapr-placement-server:8201,dapr-placement-server-1=other:8201",
    "--raft-logstore-path",
    "/var/run/dapr/raft-log/cluster-v2-nonroot-0",
    "--inmem-store-enabled=true",
    "--log-level",
    "info",
    "--log-as-json",
    "--metadata-enabled",
    "--replicationFactor=100",
    "--max-api-level=10",
    "--min-api-level=0",
    "--keepalive-time=2s",
    "--keepalive-timeout=3s",
    "--disseminate-timeout=8s",
    "--disseminate-coalesce-window=0s",
    "--enable-metrics",
    "--metrics-port",
    "9090",
    "--enable-metrics=false",
    "--tls-enabled",
    "--trust-domain=cluster.local",
    "--trust-anchors-file=/var/run/secrets/dapr.io/tls/ca.crt",
    "--sentry-address=dapr-sentry.dapr-system.svc:443",
    "--mode=kubernetes",
];

const SCHEDULER: &[&str] = &[
    "--listen-address=0.0.0.0",
    "--id",
    "dapr-scheduler-server-0",
    "--etcd-initial-cluster",
    "dapr-scheduler-server-0=https://dapr-scheduler-server-0.dapr-scheduler-server:2380,dapr-scheduler-server-1=https://other:2380",
    "--etcd-embed=true",
    "--etcd-client-endpoints",
    "a:2379,b:2379",
    "--etcd-client-username",
    "user",
    "--etcd-client-password",
    "password",
    "--log-level",
    "info",
    "--log-as-json",
    "--enable-metrics",
    "--metrics-port",
    "9090",
    "--enable-metrics=false",
    "--etcd-client-port",
    "2379",
    "--etcd-data-dir=/var/run/data/dapr-scheduler/dapr-system/dapr-scheduler-server-0",
    "--etcd-space-quota=9.2E",
    "--etcd-compaction-mode=revision",
    "--etcd-compaction-retention=1000000",
    "--etcd-snapshot-count=100000",
    "--etcd-max-snapshots=10",
    "--etcd-max-wals=10",
    "--etcd-backend-batch-limit=10000",
    "--etcd-backend-batch-interval=100ms",
    "--etcd-max-txn-ops=10000",
    "--etcd-experimental-bootstrap-defrag-threshold-megabytes=100",
    "--etcd-initial-election-tick-advance=false",
    "--etcd-metrics=basic",
    "--tls-enabled",
    "--trust-domain=cluster.local",
    "--trust-anchors-file=/var/run/secrets/dapr.io/tls/ca.crt",
    "--sentry-address=dapr-sentry.dapr-system.svc.cluster.local:443",
    "--mode=kubernetes",
    "--workers=2048",
    "--override-broadcast-host-port=scheduler.test:443",
];

#[tokio::test]
async fn every_flag_of_upstreams_chart_is_taken() {
    for (program, flags) in [
        ("sentry", SENTRY),
        ("operator", OPERATOR),
        ("injector", INJECTOR),
        ("placement", PLACEMENT),
        ("scheduler", SCHEDULER),
    ] {
        let (code, said) = read(program, flags).await;
        assert_eq!(code, 0, "{program}: {said}");
        let unknown = [flags, &["--no-such-flag"]].concat();
        let (code, said) = read(program, &unknown).await;
        assert_ne!(code, 0, "{program} takes what it does not know: {said}");
    }
}

/// How a program ends that reads these flags, and what it says.
async fn read(program: &'static str, flags: &[&str]) -> (i32, String) {
    let flags = flags.iter().chain(&["--version"]);
    let options = Options {
        program,
        args: flags.map(|&flag| flag.to_owned()).collect(),
        ..Options::default()
    };
    let mut process = Process::start(options, process::folder(program));
    let code = process.exit_code(wait::DEADLINE).await;
    (code, process.stdout() + &process.stderr())
}
