//! An etcd of one member on the loopback: the program of Debian's package `etcd-server`, in a folder of its own.

use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::ports;

/// Ends when it is dropped.
pub struct Etcd {
    child: Child,
    folder: TempDir,
    clients: u16,
    secure: Option<u16>,
    peers: u16,
}

impl Etcd {
    /// One that is empty. It takes a moment until it has a leader, and answers.
    ///
    /// # Panics
    /// Where the program is missing.
    pub fn start() -> Self {
        Self::start_in(tempfile::tempdir().expect("a folder"))
    }

    /// One in a folder; with `server.crt` and `server.key` in it, it listens with TLS as well.
    ///
    /// # Panics
    /// As [`Etcd::start`].
    pub fn start_in(folder: TempDir) -> Self {
        let [clients, secure, peers] = ports::several().map(ports::Reserved::release);
        let has_tls = folder.path().join(CERTIFICATE).exists();
        let secure = has_tls.then_some(secure);
        Self {
            child: run(&folder, clients, secure, peers),
            folder,
            clients,
            secure,
            peers,
        }
    }

    /// `127.0.0.1:port` for clients.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.clients)
    }

    /// The port for clients.
    pub fn port(&self) -> u16 {
        self.clients
    }

    /// The port for clients with TLS.
    ///
    /// # Panics
    /// Where there is none.
    pub fn secure_port(&self) -> u16 {
        self.secure.expect("the folder has a certificate")
    }

    /// Its folder.
    pub fn folder(&self) -> &TempDir {
        &self.folder
    }

    /// Kills it.
    ///
    /// # Panics
    /// Where it has ended already.
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it has ended");
    }

    /// Starts it again, on its ports, with what it held.
    ///
    /// # Panics
    /// As [`Etcd::start`].
    pub fn start_again(&mut self) {
        self.child = run(&self.folder, self.clients, self.secure, self.peers);
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const CERTIFICATE: &str = "server.crt";
const KEY: &str = "server.key";

fn run(folder: &TempDir, clients: u16, secure: Option<u16>, peers: u16) -> Child {
    let [mut clients, peers] = [clients, peers].map(|port| format!("http://127.0.0.1:{port}"));
    let mut command = Command::new("etcd");
    if let Some(secure) = secure {
        clients = format!("{clients},https://127.0.0.1:{secure}");
        command.args(["--cert-file", CERTIFICATE, "--key-file", KEY]);
    }
    command
        .args(["--data-dir", "data", "--name", "default"])
        .args(["--listen-client-urls", &clients])
        .args(["--advertise-client-urls", &clients])
        .args(["--listen-peer-urls", &peers])
        .args(["--initial-advertise-peer-urls", &peers])
        .args(["--initial-cluster", &format!("default={peers}")])
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("etcd must be on the PATH: it is in the Debian package etcd-server")
}
