//! What the programs of the control plane have in common as processes: a port, metrics and health on the loopback.

use tempfile::TempDir;

use crate::Sentry;
use crate::http::Client;
use crate::process::{Build, Options, Process};

/// A running program of the control plane.
pub struct Service {
    process: Process,
    port: u16,
    metrics: u16,
    health: u16,
}

impl Service {
    /// Starts a program with the arguments that say its ports beside its own, and waits until it is ready.
    pub(crate) async fn start(
        mut options: Options,
        dir: TempDir,
        [port, metrics, health]: [u16; 3],
    ) -> Self {
        let own = [
            ("log-level", "debug".to_owned()),
            ("port", port.to_string()),
            ("listen-address", "127.0.0.1".to_owned()),
            ("metrics-port", metrics.to_string()),
            ("metrics-listen-address", "127.0.0.1".to_owned()),
            ("healthz-port", health.to_string()),
            ("healthz-listen-address", "127.0.0.1".to_owned()),
        ];
        // Single dashes on purpose: ours accept both, as contract 9.1 says of the sidecar. Upstream's scheduler does not.
        let dashes = match options.build {
            Build::Ours => "-",
            Build::Other => "--",
        };
        let own = own.map(|(name, value)| format!("{dashes}{name}={value}"));
        options.args.splice(..0, own);
        Self {
            process: Process::start_healthy(options, dir, health).await,
            port,
            metrics,
            health,
        }
    }

    /// The port that it is there for.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port` for clients.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The health endpoint.
    pub fn health(&self) -> Client {
        Client::new(format!("http://127.0.0.1:{}", self.health))
    }

    /// The metrics page.
    pub fn metrics(&self) -> Client {
        Client::new(format!("http://127.0.0.1:{}", self.metrics))
    }

    /// The folder of its files.
    pub fn dir(&self) -> &std::path::Path {
        self.process.dir()
    }

    /// The process behind it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Stops it; the exit code must be 0.
    pub async fn stop(self) {
        self.process.stop().await;
    }

    /// Kills it without warning.
    pub async fn kill(self) {
        self.process.kill().await;
    }
}

/// The identity that sentry gives a service that sidecars connect to, which then demands one of them.
pub(crate) struct Identity {
    anchors: String,
    args: Vec<String>,
}

impl Identity {
    pub fn of(sentry: &Sentry) -> Self {
        Self {
            anchors: sentry.anchors_pem(),
            args: vec![
                "--tls-enabled=true".to_owned(),
                format!("--sentry-address={}", sentry.address()),
                format!("--trust-domain={}", sentry.trust_domain()),
            ],
        }
    }

    /// The arguments, once the anchors are in the folder.
    pub fn arguments(self, dir: &TempDir) -> Vec<String> {
        let path = dir.path().join("ca.crt");
        std::fs::write(&path, self.anchors).expect("the folder is ours");
        let mut args = self.args;
        args.push(format!("--trust-anchors-file={}", path.display()));
        args
    }
}

/// Lets a program that is more than a [`Service`] be used as one.
macro_rules! is_service {
    ($program:ty) => {
        impl std::ops::Deref for $program {
            type Target = $crate::service::Service;

            fn deref(&self) -> &Self::Target {
                &self.service
            }
        }

        impl std::ops::DerefMut for $program {
            fn deref_mut(&mut self) -> &mut Self::Target {
                &mut self.service
            }
        }

        impl $program {
            /// Stops it; the exit code must be 0.
            pub async fn stop(self) {
                self.service.stop().await;
            }
        }
    };
}

pub(crate) use is_service;
