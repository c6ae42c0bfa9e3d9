//! A Redis of Debian's, which can go away and come back with what it held.

use std::process::Stdio;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::{ports, process, wait};

/// A server on the loopback; gone when dropped.
pub struct Redis {
    port: u16,
    dir: TempDir,
    child: Child,
}

impl Redis {
    /// Starts one, empty.
    pub async fn start() -> Self {
        let dir = process::folder("redis");
        let port = ports::reserve().release();
        let child = launch(&dir, port);
        let redis = Self { port, dir, child };
        redis.listens().await;
        redis
    }

    /// `host:port` for components.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Kills it.
    pub async fn leave(&mut self) {
        self.child.kill().await.expect("it runs");
    }

    /// Starts it again, on its port, with what it held.
    pub async fn come_back(&mut self) {
        self.child = launch(&self.dir, self.port);
        self.listens().await;
    }

    async fn listens(&self) {
        wait::eventually("redis to listen", wait::DEADLINE, || async {
            TcpStream::connect(("127.0.0.1", self.port)).await.is_ok()
        })
        .await;
    }
}

fn launch(dir: &TempDir, port: u16) -> Child {
    Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
        // Every write is on the disk before it is answered.
        .args(["--appendonly", "yes", "--appendfsync", "always"])
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("redis-server is there: Debian's package redis-server")
}
