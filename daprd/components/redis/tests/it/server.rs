//! A Redis server for one test: a program of the system on a free port of the loopback, without a file.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use component_conformance::ports;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Longest wait for the server to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Ends with the test.
pub struct Server {
    child: Child,
    /// `127.0.0.1:port`.
    pub address: String,
    _folder: tempfile::TempDir,
}

impl Server {
    pub async fn start(arguments: &[&str]) -> Self {
        let port = ports::reserve().release();
        let folder = tempfile::tempdir().expect("a folder");
        let child = Command::new("redis-server")
            .args([
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--port",
                &port.to_string(),
            ])
            .args(arguments)
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server must be on the PATH: it is in the Debian package redis-server");
        let mut server = Self {
            child,
            address: format!("127.0.0.1:{port}"),
            _folder: folder,
        };
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !server.answers().await {
            if let Some(status) = server.child.try_wait().expect("a child") {
                panic!("redis-server ended with {status}");
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "redis-server does not answer"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server
    }

    /// Whether a Redis answers, be it only to ask for a password: that the port is open says nothing yet.
    async fn answers(&self) -> bool {
        let ping = async {
            let mut stream = tokio::net::TcpStream::connect(&self.address).await?;
            stream.write_all(b"PING\r\n").await?;
            let mut first = [0];
            stream.read_exact(&mut first).await?;
            std::io::Result::Ok(matches!(first, [b'+' | b'-']))
        };
        ping.await.unwrap_or(false)
    }

    /// A connection beside the component.
    pub async fn connection(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(format!("redis://{}", self.address)).expect("an address");
        client
            .get_multiplexed_async_connection()
            .await
            .expect("a connection")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
