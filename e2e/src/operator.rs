//! The operator as a process; it needs a Kubernetes API, which the test names by a kubeconfig.

use std::collections::BTreeMap;
use std::path::Path;

use crate::http::Client;
use crate::process::{self, Process};
use crate::{Sentry, ports};

/// How the operator is started.
pub struct Builder {
    args: Vec<String>,
    env: BTreeMap<String, String>,
    anchors: String,
}

impl Builder {
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
    pub async fn start(self) -> Operator {
        let dir = process::folder("operator");
        let anchors = dir.path().join("ca.crt");
        std::fs::write(&anchors, &self.anchors).expect("the folder is ours");
        let [grpc, metrics, health, webhook] = ports::several().map(ports::Reserved::release);
        let mut args = vec![
            "-log-level=debug".to_owned(),
            format!("-port={grpc}"),
            "-listen-address=127.0.0.1".to_owned(),
            format!("-healthz-port={health}"),
            "-healthz-listen-address=127.0.0.1".to_owned(),
            format!("-metrics-port={metrics}"),
            "-metrics-listen-address=127.0.0.1".to_owned(),
            format!("-webhook-server-port={webhook}"),
            "-webhook-server-listen-address=127.0.0.1".to_owned(),
            format!("-trust-anchors-file={}", anchors.display()),
            "-disable-leader-election=true".to_owned(),
        ];
        args.extend(self.args);
        let options = process::Options {
            program: "operator",
            args,
            env: self.env,
        };
        let mut process = Process::start(options, dir);
        let client = Client::new(format!("http://127.0.0.1:{health}"));
        process
            .ready(|| async {
                client
                    .request(http::Method::GET, "/healthz")
                    .attempt()
                    .await
                    .is_ok_and(|reply| reply.status == 200)
            })
            .await;
        Operator {
            process,
            port: grpc,
            webhook,
            metrics,
        }
    }
}

/// A running operator.
pub struct Operator {
    process: Process,
    port: u16,
    webhook: u16,
    metrics: u16,
}

impl Operator {
    /// An operator of the cluster that `kubeconfig` names, in the namespace `default`; sentry's address
    /// comes from the Configuration in that cluster.
    pub fn builder(kubeconfig: &Path, sentry: &Sentry) -> Builder {
        let env = [
            ("KUBERNETES_SERVICE_HOST", "anything"),
            ("NAMESPACE", "default"),
        ];
        Builder {
            args: vec![format!("-kubeconfig={}", kubeconfig.display())],
            env: env
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            anchors: sentry.anchors_pem(),
        }
    }

    /// `host:port` for sidecars.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The gRPC port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port of the conversion webhook.
    pub fn webhook_port(&self) -> u16 {
        self.webhook
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
