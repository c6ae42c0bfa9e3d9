//! The operator of a large cluster: what it remembers of ten thousand pods and a thousand components, how long a change takes
//! to a thousand sidecars, and how it serves them when all of them come back at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use proto::operator::v1::operator_client::OperatorClient;
use proto::operator::v1::{ComponentUpdateEvent, ComponentUpdateRequest, ListComponentsRequest};
use rustls::ClientConfig;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tonic::Streaming;
use transport::{ChannelOptions, Connector};

use super::binaries::{self, Binary};
use super::cluster::{COMPONENTS, Cluster, Service, object};
use super::process::{self, Memory, megabytes};
use super::samples::Samples;
use super::tls::Applicant;
use super::{mesh, print};

/// Flags of the bench.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// What to measure, as operator=path or label:operator=path; repeatable, measured in turn [default: our operator]
    #[arg(long = "binary")]
    binaries: Vec<String>,
    /// The sentry that gives identities, as sentry=path [default: ours]
    #[arg(long)]
    sentry: Option<String>,
    /// Pods in the cluster
    #[arg(long, default_value_t = PODS)]
    pods: usize,
    /// Components in the cluster, a tenth of them in the namespace of the sidecars
    #[arg(long, default_value_t = COMPONENTS_THERE)]
    components: usize,
    /// Sidecars that are connected
    #[arg(long, default_value_t = SIDECARS)]
    sidecars: usize,
    /// Changes of a component, one after the other
    #[arg(long, default_value_t = CHANGES)]
    changes: usize,
}

impl Default for Arguments {
    fn default() -> Self {
        Self {
            binaries: Vec::new(),
            sentry: None,
            pods: PODS,
            components: COMPONENTS_THERE,
            sidecars: SIDECARS,
            changes: CHANGES,
        }
    }
}

/// Measures and prints.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let sentry = binaries::one(arguments.sentry.as_deref(), "sentry")?;
    print(&format!(
        "\noperator, {} pods and {} components, {} sidecars",
        arguments.pods, arguments.components, arguments.sidecars
    ))?;
    for binary in binaries::several(&arguments.binaries, "operator")? {
        let measured = measure(&binary, &sentry, arguments);
        measured.with_context(|| format!("measuring {}", binary.label))?;
    }
    Ok(())
}

fn measure(binary: &Binary, sentry: &Binary, arguments: &Arguments) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("dapr-bench-").tempdir()?;
    let sentry = mesh::sentry(sentry, folder.path(), "")?;
    let cluster = Cluster::start(folder.path(), &sentry)?;
    let service = cluster.service(binary, folder.path(), &sentry)?;
    process::pause(SETTLE);
    let empty = service.process.memory()?;
    drop(service);
    fill(&cluster, arguments);
    let service = cluster.service(binary, folder.path(), &sentry)?;
    process::pause(SETTLE);
    let full = service.process.memory()?;
    let label = &binary.label;
    memory(label, "of an empty cluster", empty)?;
    memory(label, "of the full one", full)?;
    let each = full.anonymous.saturating_sub(empty.anonymous) as f64
        / (arguments.pods + arguments.components) as f64;
    let ready = service.ready.as_secs_f64();
    print(&format!(
        "  {label:<24} ready after {ready:.2} s, {each:.2} KiB an object"
    ))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let applicant = Applicant::new(APPS, "app-0", "")?;
    let config = runtime.block_on(applicant.certified(sentry.port))?;
    let mut sidecars = Vec::new();
    for turn in ["connect", "connect again, at once"] {
        // Connections that are open end first.
        sidecars.clear();
        let before = cluster.fake.seen().len();
        let start = Instant::now();
        sidecars = connect(&runtime, &service, &config, arguments)?;
        let took = start.elapsed().as_secs_f64();
        let reads = reads_of_secrets(&cluster, before);
        print(&format!(
            "  {label:<24} all {turn} in {took:.2} s, with {reads} reads of the {SECRETS} secrets"
        ))?;
    }
    changes(&runtime, &cluster, &mut sidecars, label, arguments)?;
    memory(label, "after it", service.process.memory()?)
}

fn memory(label: &str, when: &str, memory: Memory) -> Result<()> {
    print(&format!(
        "  {label:<24} {when:<22} anonymous {:>6.1} MB  resident {:>6.1} MB  most {:>6.1} MB",
        megabytes(memory.anonymous),
        megabytes(memory.resident),
        megabytes(memory.peak),
    ))
}

/// Puts pods, components and their secrets there.
fn fill(cluster: &Cluster, arguments: &Arguments) {
    for number in 0..arguments.pods {
        cluster.fake.put("/api/v1/pods", pod(number));
    }
    for number in 0..SECRETS {
        cluster.fake.put("/api/v1/secrets", json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": APPS, "name": format!("secret-{number}")},
            "data": {"password": "aHVudGVyMg=="},
        }));
    }
    for number in 0..arguments.components {
        let namespace = match number % 10 {
            0 => APPS.to_owned(),
            other => format!("others-{other}"),
        };
        let component = component(&namespace, &format!("component-{number}"), "0");
        cluster.fake.put(COMPONENTS, component);
    }
}

/// A pod as clusters have them: most of it is nothing that the operator needs.
fn pod(number: usize) -> Value {
    let namespace = format!("others-{}", number % 10);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": namespace, "name": format!("shop-{number}-5d9c7b6f4-x2x{number}"),
            "labels": {"app": format!("shop-{number}"), "pod-template-hash": "5d9c7b6f4"},
            "annotations": {"dapr.io/enabled": "true", "dapr.io/app-id": format!("shop-{number}"), "dapr.io/config": "tracing"},
        },
        "spec": {
            "serviceAccountName": "default", "nodeName": "node-1",
            "containers": [
                {"name": "app", "image": "registry.example/shop:1.2.3", "env": [{"name": "LEVEL", "value": "info"}]},
                {"name": "daprd", "image": "daprd:bench", "args": ["/daprd", "--dapr-http-port", "3500", "--mode", "kubernetes"]},
            ],
        },
        "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

/// A component; each has a secret, that of its number's last digit.
fn component(namespace: &str, name: &str, revision: &str) -> Value {
    let digits = name.rsplit('-').next().unwrap_or_default();
    let secret = digits.parse::<usize>().unwrap_or_default() / 10 % SECRETS;
    object(
        "Component",
        namespace,
        name,
        json!({
            "type": "state.redis", "version": "v1",
            "metadata": [
                {"name": "redisHost", "value": "redis.example:6379"},
                {"name": "keyPrefix", "value": revision},
                {"name": "redisPassword", "secretKeyRef": {"name": format!("secret-{secret}"), "key": "password"}},
            ],
        }),
    )
}

/// A sidecar that follows the components of its namespace.
struct Sidecar {
    updates: Streaming<ComponentUpdateEvent>,
}

/// Lets all sidecars connect at once, follow the components of their namespace, and list them.
fn connect(
    runtime: &Runtime,
    service: &Service,
    config: &Arc<ClientConfig>,
    arguments: &Arguments,
) -> Result<Vec<Sidecar>> {
    let one = || async {
        let uri = format!("http://127.0.0.1:{}", service.port).parse()?;
        // Where all come at once, a handshake takes its time.
        let connector = Connector::tls(config.clone()).connect_timeout(PATIENCE);
        let channel = transport::channel(uri, connector, ChannelOptions::default());
        let mut client = OperatorClient::new(channel);
        let namespace = APPS.to_owned();
        let updates = client.component_update(ComponentUpdateRequest { namespace });
        let updates = updates.await?.into_inner();
        let namespace = APPS.to_owned();
        let list = client.list_components(ListComponentsRequest { namespace });
        let list = list.await?.into_inner();
        ensure!(
            list.components.len() == arguments.components.div_ceil(10),
            "{} components in a list",
            list.components.len()
        );
        anyhow::Ok(Sidecar { updates })
    };
    let all = try_join_all((0..arguments.sidecars).map(|_| one()));
    runtime.block_on(async { tokio::time::timeout(PATIENCE, all).await })?
}

/// Changes a component again and again, and prints how long each sidecar takes to hear of it.
fn changes(
    runtime: &Runtime,
    cluster: &Cluster,
    sidecars: &mut [Sidecar],
    label: &str,
    arguments: &Arguments,
) -> Result<()> {
    let mut latencies = Vec::new();
    for change in 0..=arguments.changes {
        let mark = format!("change-{change}-");
        let start = Instant::now();
        cluster
            .fake
            .put(COMPONENTS, component(APPS, "component-0", &mark));
        let heard = sidecars.iter_mut().map(|sidecar| async {
            while let Some(event) = sidecar.updates.message().await? {
                let is_it = |window: &[u8]| window == mark.as_bytes();
                if event.component.windows(mark.len()).any(is_it) {
                    return anyhow::Ok(start.elapsed());
                }
            }
            anyhow::bail!("a stream has ended")
        });
        let all = async { tokio::time::timeout(PATIENCE, try_join_all(heard)).await };
        let heard = runtime.block_on(all).context("a sidecar hears nothing")??;
        // What the streams began with is read with the first change.
        if change > 0 {
            latencies.extend(heard);
        }
        process::pause(Duration::from_millis(100));
    }
    let samples = Samples::new(latencies, 0);
    print(&format!(
        "  {label:<24} a change to all sidecars {}",
        samples.figures()
    ))
}

fn reads_of_secrets(cluster: &Cluster, before: usize) -> usize {
    let seen = cluster.fake.seen();
    let since = seen.get(before..).unwrap_or_default();
    let reads = since
        .iter()
        .filter(|seen| seen.verb == "get" && seen.path.contains("/secrets/"));
    reads.count()
}

/// The namespace of the sidecars.
const APPS: &str = "apps";
/// Secrets that their components refer to.
const SECRETS: usize = 10;
const PODS: usize = 10_000;
const COMPONENTS_THERE: usize = 1000;
const SIDECARS: usize = 1000;
const CHANGES: usize = 10;
const SETTLE: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(60);
