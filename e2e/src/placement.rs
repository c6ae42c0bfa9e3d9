//! Actor placement as a process.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::process::{self, Options};
use crate::service::{Identity, Service, is_service};
use crate::{Sentry, ports};

/// How placement is started: one member, alone.
#[derive(Default)]
pub struct Builder {
    args: Vec<String>,
    env: BTreeMap<String, String>,
    identity: Option<Identity>,
    port: Option<u16>,
}

impl Builder {
    /// Takes its identity from sentry, and demands one of every host.
    #[must_use]
    pub fn sentry(mut self, sentry: &Sentry) -> Self {
        self.identity = Some(Identity::of(sentry));
        self
    }

    /// Listens on a port that the test has reserved, where it may come back.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
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
            "--id=one".to_owned(),
            format!("--initial-cluster=one=127.0.0.1:{raft}"),
            "--metadata-enabled=true".to_owned(),
        ];
        args.extend(self.identity.into_iter().flat_map(|it| it.arguments(&dir)));
        args.extend(self.args);
        self.env
            .entry("NAMESPACE".to_owned())
            .or_insert_with(|| "default".to_owned());
        let ports = [self.port.unwrap_or(grpc), metrics, health];
        let options = Options {
            program: "placement",
            args,
            env: self.env,
            ..Options::default()
        };
        Placement {
            service: Service::start(options, dir, ports).await,
        }
    }
}

/// A running placement.
pub struct Placement {
    service: Service,
}

is_service!(Placement);

impl Placement {
    /// A placement to configure.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The tables as `/placement/state` shows them.
    pub async fn state(&self) -> Value {
        self.health()
            .get("/placement/state")
            .await
            .expect_status(200)
            .json()
    }
}
