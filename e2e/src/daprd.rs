//! The sidecar as a process, started with the flags that contract 9.1 lists, on loopback ports of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proto::runtime::v1::dapr_client::DaprClient;
use serde_json::Value;
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::http::Client;
use crate::process::{self, Build, Process, Signal};
use crate::{App, Placement, Sentry, mesh, ports, wait};

/// How a sidecar is started.
#[derive(Clone)]
pub struct Builder {
    app_id: String,
    build: Build,
    flags: BTreeMap<String, String>,
    resources: Vec<String>,
    configs: Vec<String>,
    env: BTreeMap<String, String>,
}

impl Builder {
    /// Adds a file to the resources folder; several documents are separated by `---`.
    #[must_use]
    pub fn resources(mut self, yaml: &str) -> Self {
        self.resources.push(yaml.to_owned());
        self
    }

    /// Adds a Configuration file.
    #[must_use]
    pub fn config(mut self, yaml: &str) -> Self {
        self.configs.push(yaml.to_owned());
        self
    }

    /// Whose build it is.
    #[must_use]
    pub fn build(mut self, build: Build) -> Self {
        self.build = build;
        self
    }

    /// The app behind the sidecar, over HTTP.
    #[must_use]
    pub fn app(self, app: &App) -> Self {
        self.app_port(app.port())
    }

    /// The app behind the sidecar, over gRPC.
    #[must_use]
    pub fn grpc_app(self, app: &App) -> Self {
        self.app_port(app.port()).flag("app-protocol", "grpc")
    }

    /// The port of the app.
    #[must_use]
    pub fn app_port(self, port: u16) -> Self {
        self.flag("app-port", &port.to_string())
    }

    /// Asks the app for its health every second; one failure is enough.
    #[must_use]
    pub fn app_health_checks(self) -> Self {
        self.flag("enable-app-health-check", "true")
            .flag("app-health-probe-interval", "1")
            .flag("app-health-threshold", "1")
    }

    /// Turns mTLS on, with identities from this sentry.
    #[must_use]
    pub fn sentry(self, sentry: &Sentry) -> Self {
        self.mtls(
            &sentry.address(),
            &sentry.anchors_pem(),
            sentry.trust_domain(),
        )
    }

    /// Turns mTLS on, with identities from a sentry that need not be there yet.
    #[must_use]
    pub fn mtls(self, sentry_address: &str, anchors_pem: &str, trust_domain: &str) -> Self {
        self.flag("enable-mtls", "true")
            .flag("sentry-address", sentry_address)
            .flag("control-plane-trust-domain", trust_domain)
            .env("DAPR_TRUST_ANCHORS", anchors_pem)
    }

    /// Takes part in placement.
    #[must_use]
    pub fn placement(self, placement: &Placement) -> Self {
        self.flag("placement-host-address", &placement.address())
    }

    /// Sets a flag, in place of what the harness would give; without leading dashes.
    #[must_use]
    pub fn flag(mut self, name: &str, value: &str) -> Self {
        self.flags.insert(name.to_owned(), value.to_owned());
        self
    }

    /// An environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Starts it and waits until `/v1.0/healthz` answers 204.
    pub async fn start(self) -> Daprd {
        let mut daprd = self.spawn();
        daprd.ready().await;
        daprd
    }

    /// Starts it without waiting.
    pub fn spawn(self) -> Daprd {
        let dir = process::folder("daprd");
        let ports = Ports::reserve();
        let mut args: Vec<String> = Vec::new();
        let resources = dir.path().join("resources");
        std::fs::create_dir(&resources).expect("the folder is ours");
        for (index, yaml) in self.resources.iter().enumerate() {
            std::fs::write(resources.join(format!("{index}.yaml")), yaml)
                .expect("the folder is ours");
        }
        args.push(format!("--resources-path={}", resources.display()));
        for path in write_configs(&dir, &self.configs) {
            args.push(format!("--config={}", path.display()));
        }
        let mut flags = ports.flags();
        flags.extend([
            ("app-id".to_owned(), self.app_id.clone()),
            ("log-level".to_owned(), "debug".to_owned()),
            ("mode".to_owned(), "standalone".to_owned()),
            ("enable-api-logging".to_owned(), "true".to_owned()),
        ]);
        flags.extend(self.flags);
        args.extend(
            flags
                .iter()
                .map(|(name, value)| format!("--{name}={value}")),
        );
        let options = process::Options {
            program: "daprd",
            build: self.build,
            args,
            env: self.env,
        };
        let process = Process::start(options, dir);
        Daprd {
            process,
            app_id: self.app_id,
            ports,
            resources,
        }
    }
}

fn write_configs(dir: &TempDir, configs: &[String]) -> Vec<PathBuf> {
    let write = |(index, yaml): (usize, &String)| {
        let path = dir.path().join(format!("config-{index}.yaml"));
        std::fs::write(&path, yaml).expect("the folder is ours");
        path
    };
    configs.iter().enumerate().map(write).collect()
}

#[derive(Clone, Copy)]
struct Ports {
    http: u16,
    grpc: u16,
    internal: u16,
    public: u16,
    metrics: u16,
    profile: u16,
}

impl Ports {
    fn reserve() -> Self {
        let [http, grpc, internal, public, metrics, profile] =
            ports::several().map(ports::Reserved::release);
        Self {
            http,
            grpc,
            internal,
            public,
            metrics,
            profile,
        }
    }

    fn flags(&self) -> BTreeMap<String, String> {
        let local = "127.0.0.1".to_owned();
        [
            ("dapr-http-port", self.http.to_string()),
            ("dapr-grpc-port", self.grpc.to_string()),
            ("dapr-listen-addresses", local.clone()),
            ("dapr-internal-grpc-port", self.internal.to_string()),
            ("dapr-internal-grpc-listen-address", local.clone()),
            ("dapr-public-port", self.public.to_string()),
            ("dapr-public-listen-address", local.clone()),
            ("metrics-port", self.metrics.to_string()),
            ("metrics-listen-address", local),
            ("profile-port", self.profile.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

/// A running sidecar.
pub struct Daprd {
    process: Process,
    app_id: String,
    ports: Ports,
    resources: PathBuf,
}

impl Daprd {
    /// A sidecar to configure.
    pub fn builder(app_id: &str) -> Builder {
        Builder {
            app_id: app_id.to_owned(),
            build: Build::default(),
            flags: BTreeMap::new(),
            resources: Vec::new(),
            configs: Vec::new(),
            env: BTreeMap::new(),
        }
    }

    /// Its app id.
    pub fn app_id(&self) -> &str {
        &self.app_id
    }

    /// The HTTP API.
    pub fn http(&self) -> Client {
        Client::new(format!("http://127.0.0.1:{}", self.ports.http))
    }

    /// The HTTP API over HTTP/2 without TLS.
    pub fn h2c(&self) -> Client {
        Client::h2c(format!("http://127.0.0.1:{}", self.ports.http))
    }

    /// The public HTTP port.
    pub fn public(&self) -> Client {
        Client::new(format!("http://127.0.0.1:{}", self.ports.public))
    }

    /// The metrics page.
    pub fn metrics(&self) -> Client {
        Client::new(format!("http://127.0.0.1:{}", self.ports.metrics))
    }

    /// The gRPC API.
    pub fn grpc(&self) -> DaprClient<Channel> {
        DaprClient::new(self.channel())
    }

    /// A channel to the gRPC API.
    pub fn channel(&self) -> Channel {
        mesh::plain(self.ports.grpc)
    }

    /// Waits until the HTTP API takes no connections any more.
    pub async fn closed(&self) {
        wait::eventually("the port to close", wait::DEADLINE, || async {
            let asked = self.http().request(http::Method::GET, "/v1.0/healthz");
            asked.attempt().await.is_err()
        })
        .await;
    }

    /// Port of the HTTP API.
    pub fn http_port(&self) -> u16 {
        self.ports.http
    }

    /// Port of the gRPC API.
    pub fn grpc_port(&self) -> u16 {
        self.ports.grpc
    }

    /// Port that other sidecars call.
    pub fn internal_port(&self) -> u16 {
        self.ports.internal
    }

    /// Public HTTP port.
    pub fn public_port(&self) -> u16 {
        self.ports.public
    }

    /// `GET /v1.0/metadata`.
    pub async fn metadata(&self) -> Value {
        self.http()
            .get("/v1.0/metadata")
            .await
            .expect_status(200)
            .json()
    }

    /// Waits until the metadata satisfies `look`.
    pub async fn metadata_until(&self, what: &str, look: impl Fn(&Value) -> bool) -> Value {
        wait::until(what, wait::DEADLINE, || async {
            // A reload may close the port for a moment.
            let request = self.http().request(http::Method::GET, "/v1.0/metadata");
            let reply = request
                .attempt()
                .await
                .ok()
                .filter(|reply| reply.status == 200)?;
            Some(reply.json()).filter(&look)
        })
        .await
    }

    /// Waits until a subscription of the topic is announced, so that nothing published later is lost.
    pub async fn subscribed(&self, topic: &str) {
        let what = format!("a subscription of {topic}");
        self.metadata_until(&what, |metadata| {
            let subscriptions = metadata["subscriptions"].as_array();
            subscriptions.is_some_and(|all| all.iter().any(|one| one["topic"] == topic))
        })
        .await;
    }

    /// Waits until it is ready.
    pub async fn ready(&mut self) {
        let client = self.http();
        self.process
            .ready(|| async {
                let request = client.request(http::Method::GET, "/v1.0/healthz");
                request
                    .attempt()
                    .await
                    .is_ok_and(|reply| reply.status == 204)
            })
            .await;
    }

    /// Writes (or replaces) a file of the resources folder, at once and never half.
    pub fn write_resource(&self, file: &str, yaml: &str) {
        let draft = self.process.dir().join("draft");
        std::fs::write(&draft, yaml).expect("the folder is ours");
        std::fs::rename(&draft, self.resources.join(file)).expect("the same file system");
    }

    /// Removes a file of the resources folder.
    pub fn remove_resource(&self, file: &str) {
        std::fs::remove_file(self.resources.join(file)).expect("the file was there");
    }

    /// Replaces the configuration file of that index.
    pub fn write_config(&self, index: usize, yaml: &str) {
        let path = self.process.dir().join(format!("config-{index}.yaml"));
        std::fs::write(path, yaml).expect("the folder is ours");
    }

    /// Sends a signal.
    pub async fn signal(&self, signal: Signal) {
        self.process.signal(signal).await;
    }

    /// The process behind it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Waits for a log line.
    pub async fn logged(&self, fragment: &str) {
        self.process.logged(fragment).await;
    }

    /// Everything logged until now.
    pub fn log(&self) -> String {
        self.process.stdout()
    }

    /// Kills it without warning.
    pub async fn kill(self) {
        self.process.kill().await;
    }

    /// Stops it; the exit code must be 0.
    pub async fn stop(self) {
        self.process.stop().await;
    }
}
