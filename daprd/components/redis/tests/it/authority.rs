//! Certificates for one test, and a process that trusts their authority.

use std::{env, net::Ipv4Addr, path::Path};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};

/// Tells a test that it runs in a process of its own, and which file holds the authorities that this process trusts.
const TRUSTED: &str = "COMPONENT_REDIS_TRUSTED";

/// Issues certificates.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

/// A certificate with its key, as PEM and as files, and the file of its authority.
pub struct Identity {
    pub certificate: String,
    pub key: String,
    options: [String; 6],
}

impl Authority {
    pub fn new() -> Self {
        // As programs do at their start.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut params = CertificateParams::new([]).expect("no names");
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("a file");
        Self { issuer, folder }
    }

    /// An authority that the process trusts, and no other. Which ones are trusted is the system's matter, and may be said
    /// once, at the start of a process; so the test runs again in one of its own, and there is nothing to do but in that.
    pub async fn trusted(test: &str) -> Option<Self> {
        if let Some(path) = env::var_os(TRUSTED) {
            let authority = Self::new();
            std::fs::write(path, authority.issuer.pem()).expect("a file");
            return Some(authority);
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("trusted.pem");
        let output = tokio::process::Command::new(env::current_exe().expect("a program"))
            .args([test, "--exact", "--nocapture"])
            .env("SSL_CERT_FILE", &path)
            .env(TRUSTED, &path)
            .kill_on_drop(true)
            .output()
            .await
            .expect("a process");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        None
    }

    /// A certificate for 127.0.0.1.
    pub fn issue(&self) -> Identity {
        self.issue_for(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()))
    }

    pub fn issue_for(&self, name: SanType) -> Identity {
        let mut params = CertificateParams::new([]).expect("no names");
        params.subject_alt_names.push(name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let (certificate, key) = (certificate.pem(), key.serialize_pem());
        let write = |name: &str, content: &str| {
            let path = tempfile::Builder::new()
                .prefix(name)
                .tempfile_in(&self.folder)
                .and_then(|file| Ok(file.keep()?.1))
                .expect("a file");
            std::fs::write(&path, content).expect("a file");
            option(&path)
        };
        Identity {
            options: [
                "--tls-cert-file".to_owned(),
                write("certificate", &certificate),
                "--tls-key-file".to_owned(),
                write("key", &key),
                "--tls-ca-cert-file".to_owned(),
                option(&self.folder.path().join("ca.pem")),
            ],
            certificate,
            key,
        }
    }
}

impl Identity {
    /// The options of a server with it.
    pub fn server(&self) -> Vec<&str> {
        let peers = ["--tls-replication", "yes", "--tls-cluster", "yes"];
        self.options
            .iter()
            .map(String::as_str)
            .chain(peers)
            .collect()
    }
}

fn option(path: &Path) -> String {
    path.to_str().expect("a path of text").to_owned()
}
