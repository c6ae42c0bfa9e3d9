//! The certificate authority as a process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::process::{self, Options};
use crate::service::{Service, is_service};
use crate::{Ca, ports};

/// How sentry is started.
pub struct Builder {
    ca: Option<Ca>,
    credentials: Option<PathBuf>,
    trust_domain: String,
    config: String,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    port: Option<u16>,
}

impl Builder {
    /// Uses these credentials instead of new ones.
    #[must_use]
    pub fn ca(mut self, ca: Ca) -> Self {
        ca.trust_domain().clone_into(&mut self.trust_domain);
        self.ca = Some(ca);
        self
    }

    /// Starts with an empty credentials folder, so that sentry generates a root and an issuer.
    #[must_use]
    pub fn without_credentials(mut self) -> Self {
        self.ca = None;
        self
    }

    /// Keeps what it has in a folder that outlives it.
    #[must_use]
    pub fn credentials(mut self, folder: &Path) -> Self {
        self.ca = None;
        self.credentials = Some(folder.to_owned());
        self
    }

    /// The Configuration file; empty unless set.
    #[must_use]
    pub fn config(mut self, yaml: &str) -> Self {
        yaml.clone_into(&mut self.config);
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

    /// Listens on a port the test chose, to appear only after others look for it.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Starts it and waits until it is ready.
    pub async fn start(self) -> Sentry {
        let dir = process::folder("sentry");
        let credentials = match self.credentials {
            Some(folder) => folder,
            None => dir.path().join("credentials"),
        };
        std::fs::create_dir_all(&credentials).expect("the folder is ours");
        if let Some(ca) = &self.ca {
            ca.write(&credentials);
        }
        let config = dir.path().join("config.yaml");
        std::fs::write(&config, &self.config).expect("the folder is ours");
        let [grpc, metrics, health] = ports::several().map(ports::Reserved::release);
        let grpc = self.port.unwrap_or(grpc);
        let mut args = vec![
            "-issuer-ca-filename=ca.crt".to_owned(),
            "-issuer-certificate-filename=issuer.crt".to_owned(),
            "-issuer-key-filename=issuer.key".to_owned(),
            format!("-issuer-credentials={}", credentials.display()),
            format!("-trust-domain={}", self.trust_domain),
            format!("-config={}", config.display()),
        ];
        args.extend(self.args);
        let ports = [grpc, metrics, health];
        let options = Options {
            program: "sentry",
            args,
            env: self.env,
            ..Options::default()
        };
        Sentry {
            service: Service::start(options, dir, ports).await,
            credentials,
            ca: self.ca,
            trust_domain: self.trust_domain,
        }
    }
}

/// A running sentry.
pub struct Sentry {
    service: Service,
    credentials: PathBuf,
    ca: Option<Ca>,
    trust_domain: String,
}

is_service!(Sentry);

impl Sentry {
    /// A sentry with new credentials in the trust domain `localhost`.
    pub fn builder() -> Builder {
        let ca = Ca::new("localhost");
        Builder {
            trust_domain: ca.trust_domain().to_owned(),
            ca: Some(ca),
            credentials: None,
            config: String::new(),
            args: Vec::new(),
            env: BTreeMap::new(),
            port: None,
        }
    }

    /// A sentry with nothing unusual.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// The trust domain of the control plane.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The trust anchors as PEM, from the credentials folder.
    pub fn anchors_pem(&self) -> String {
        let path = self.credentials.join("ca.crt");
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The first trust anchor.
    pub fn anchor(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.anchors_pem().as_bytes()).expect("sentry keeps PEM")
    }

    /// The authority the test gave it, to sign identities without asking.
    pub fn ca(&self) -> &Ca {
        self.ca
            .as_ref()
            .expect("started with credentials of the test")
    }
}
