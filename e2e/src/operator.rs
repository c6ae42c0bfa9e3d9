//! The operator as a process, before the fake API server.

use std::collections::BTreeMap;

use tonic::transport::Channel;

use crate::cluster::{Cluster, NAMESPACE};
use crate::mesh::Tls;
use crate::process::{self, Options};
use crate::service::{Service, is_service};
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

    /// Starts it and waits until it is ready. The cluster must have the Configuration of the control plane.
    pub async fn start(self, cluster: &Cluster) -> Operator {
        let dir = process::folder("operator");
        let [port, metrics, health, webhook] = ports::several().map(ports::Reserved::release);
        let anchors = dir.path().join("ca.crt");
        std::fs::write(&anchors, &self.anchors).expect("the folder is ours");
        let mut args = vec![
            format!("-webhook-server-port={webhook}"),
            "-webhook-server-listen-address=127.0.0.1".to_owned(),
            format!("-trust-anchors-file={}", anchors.display()),
            format!("-kubeconfig={}", cluster.kubeconfig(dir.path()).display()),
        ];
        args.extend(self.args);
        let options = Options {
            program: "operator",
            args,
            env: self.env,
            ..Options::default()
        };
        let ports = [port, metrics, health];
        let service = Service::start(options, dir, ports).await;
        Operator { service }
    }
}

/// A running operator.
pub struct Operator {
    service: Service,
}

is_service!(Operator);

impl Operator {
    /// An operator that trusts `sentry`; the cluster's Configuration says where that is.
    pub fn builder(sentry: &Sentry) -> Builder {
        let env = [("NAMESPACE".to_owned(), NAMESPACE.to_owned())];
        Builder {
            args: Vec::new(),
            env: env.into(),
            anchors: sentry.anchors_pem(),
        }
    }

    /// A channel to its API with the identity of an app.
    pub fn channel(&self, sentry: &Sentry, namespace: &str, app_id: &str) -> Channel {
        let identity = sentry.ca().identity(namespace, app_id);
        Tls::new(sentry.anchor(), Some(identity)).channel(self.port())
    }
}
