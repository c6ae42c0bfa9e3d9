//! A Mosquitto for one test: the program of Debian's package `mosquitto` on a free port of the loopback, in a folder of its
//! own, where it keeps sessions and messages over a restart.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{net::TcpStream, time::Instant};

use crate::ports;

/// Longest wait for the program.
const PATIENCE: Duration = Duration::from_secs(20);

/// Attempts to start a server.
const STARTS: usize = 5;

/// Ends when it is dropped.
pub struct Mosquitto {
    child: Child,
    /// `127.0.0.1:port`.
    pub address: String,
    folder: TempDir,
}

impl Mosquitto {
    /// One that takes anybody, with these lines of configuration besides.
    ///
    /// # Panics
    /// Where the program is missing or does not start.
    pub async fn start(lines: &str) -> Self {
        let anybody = format!("allow_anonymous true\n{lines}");
        Self::start_in(tempfile::tempdir().expect("a folder"), &anybody).await
    }

    /// One in a folder that has files already; who is taken is in the lines.
    ///
    /// # Panics
    /// As [`Mosquitto::start`].
    pub async fn start_in(folder: TempDir, lines: &str) -> Self {
        for _ in 0..STARTS {
            let port = ports::reserve().release();
            let path = folder.path().display();
            // As root it would become somebody who may not write here.
            let configuration = format!(
                "user root\nlistener {port} 127.0.0.1\npersistence true\npersistence_location {path}/\n{lines}\n"
            );
            std::fs::write(folder.path().join("mosquitto.conf"), configuration).expect("a file");
            let address = format!("127.0.0.1:{port}");
            // Somebody else may have taken the port before the program could.
            if let Some(child) = run(folder.path(), &address).await {
                return Self {
                    child,
                    address,
                    folder,
                };
            }
        }
        panic!("mosquitto ends with {lines:?}");
    }

    /// `tcp://` and the address.
    pub fn url(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// Ends it as a system does, so that it writes what it keeps.
    ///
    /// # Panics
    /// Where it does not end.
    pub async fn stop(&mut self) {
        let process = self.child.id().to_string();
        let mut kill = tokio::process::Command::new("kill");
        let told = kill.args(["-TERM", &process]).status().await;
        assert!(told.expect("a program").success());
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().expect("a child").is_none() {
            assert!(Instant::now() < deadline, "mosquitto does not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Starts it again in the same place.
    ///
    /// # Panics
    /// Where it does not start.
    pub async fn start_again(&mut self) {
        let child = run(self.folder.path(), &self.address).await;
        self.child = child.expect("mosquitto starts again");
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn run(folder: &Path, address: &str) -> Option<Child> {
    let mut child = Command::new("mosquitto")
        .arg("-c")
        .arg(folder.join("mosquitto.conf"))
        .current_dir(folder)
        .env("PATH", path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("mosquitto must be on the PATH: it is in the Debian package mosquitto");
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(address).await.is_err() {
        if child.try_wait().expect("a child").is_some() {
            return None;
        }
        assert!(Instant::now() < deadline, "mosquitto does not listen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Some(child)
}

/// Debian has it among the programs of the system.
fn path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin")
}
