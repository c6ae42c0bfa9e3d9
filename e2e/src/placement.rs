//! Actor placement as a process.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::http::Client;
use crate::process::{self, Process};
use crate::{Sentry, ports};

/// How placement is started: one member, alone.
#[derive(Default)]
pub struct Builder {
    args: Vec<String>,
    env: BTreeMap<String, String>,
    anchors: Option<String>,
}

impl Builder {
    /// Takes its identity from sentry, and demands one of every host.
    #[must_use]
    pub fn sentry(mut self, sentry: &Sentry) -> Self {
        self.args.push("--tls-enabled=true".to_owned());
        self.args
            .push(format!("--sentry-address={}", sentry.address()));
        self.args
            .push(format!("--trust-domain={}", sentry.trust_domain()));
        self.anchors = Some(sentry.anchors_pem());
        self
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// An environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Starts it and waits until it is ready.
    pub async fn start(mut self) -> Placement {
        let dir = process::folder("placement");
        let [grpc, metrics, health, raft] = ports::several().map(ports::Reserved::release);
        let mut args = vec![
            "--log-level=debug".to_owned(),
            "--id=one".to_owned(),
            format!("--port={grpc}"),
            "--listen-address=127.0.0.1".to_owned(),
            format!("--healthz-port={health}"),
            "--healthz-listen-address=127.0.0.1".to_owned(),
            format!("--metrics-port={metrics}"),
            "--metrics-listen-address=127.0.0.1".to_owned(),
            format!("--initial-cluster=one=127.0.0.1:{raft}"),
            "--metadata-enabled=true".to_owned(),
        ];
        if let Some(anchors) = &self.anchors {
            let path = dir.path().join("ca.crt");
            std::fs::write(&path, anchors).expect("the folder is ours");
            args.push(format!("--trust-anchors-file={}", path.display()));
        }
        args.extend(self.args);
        self.env
            .entry("NAMESPACE".to_owned())
            .or_insert_with(|| "default".to_owned());
        let options = process::Options {
            program: "placement",
            args,
            env: self.env,
        };
        let process = Process::start_healthy(options, dir, health).await;
        let health = Client::new(format!("http://127.0.0.1:{health}"));
        Placement {
            process,
            port: grpc,
            health,
            metrics,
        }
    }
}

/// A running placement.
pub struct Placement {
    process: Process,
    port: u16,
    health: Client,
    metrics: u16,
}

impl Placement {
    /// A placement to configure.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// `host:port` for clients.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The gRPC port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The tables as `/placement/state` shows them.
    pub async fn state(&self) -> Value {
        self.health
            .get("/placement/state")
            .await
            .expect_status(200)
            .json()
    }

    /// The metrics page.
    pub fn metrics(&self) -> Client {
        Client::new(format!("http://127.0.0.1:{}", self.metrics))
    }

    /// The process behind it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Stops it; the exit code must be 0.
    pub async fn stop(self) {
        self.process.stop().await;
    }
}
