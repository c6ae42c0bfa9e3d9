//! A Redis of Debian's, which can go away and come back with what it held.

use std::process::Stdio;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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

    /// Sends a command beside the sidecars, once the server has read what it held; answers the reply as it is on the wire,
    /// which is to be small.
    pub async fn ask(&self, words: &[&str]) -> String {
        wait::until("redis to answer", wait::DEADLINE, || async {
            let reply = self.attempt(words).await;
            (!reply.starts_with("-LOADING")).then_some(reply)
        })
        .await
    }

    async fn attempt(&self, words: &[&str]) -> String {
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        let connect = TcpStream::connect(("127.0.0.1", self.port));
        let mut stream = connect.await.expect("redis listens");
        let sent = stream.write_all(command.as_bytes()).await;
        sent.expect("redis takes the command");
        let mut reply = [0; 1024];
        let length = stream.read(&mut reply).await.expect("redis answers");
        let reply = String::from_utf8_lossy(&reply[..length]).into_owned();
        let failed = reply.starts_with('-') && !reply.starts_with("-LOADING");
        assert!(!failed, "{words:?}: {reply}");
        reply
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
