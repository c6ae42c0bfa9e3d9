//! Redis servers for one test: programs of the system on free ports of the loopback, each in a folder of its own. Each also
//! listens on a unix socket in its folder, which tells whether it is up and lets a test look at it, whatever TLS and
//! passwords it asks of the component.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use component_conformance::ports;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::authority::Identity;

/// Longest wait for a condition.
const PATIENCE: Duration = Duration::from_secs(20);

/// Attempts to start a server.
const STARTS: usize = 5;

/// Ends with the test.
pub struct Server {
    child: Child,
    /// Where clients connect to, on 127.0.0.1.
    pub port: u16,
    /// Where other members of its cluster connect to.
    pub bus: u16,
    /// `127.0.0.1:port`.
    pub address: String,
    socket: PathBuf,
    /// What the user without a name has to say.
    pub password: Option<String>,
    _folder: tempfile::TempDir,
}

impl Server {
    /// A plain one.
    pub async fn start(arguments: &[&str]) -> Self {
        Self::launch("--port", "", arguments).await
    }

    /// One that speaks TLS alone, with its peers as well, and presents this identity to everybody.
    pub async fn start_tls(identity: &Identity, arguments: &[&str]) -> Self {
        Self::launch("--tls-port", "", &[&identity.server(), arguments].concat()).await
    }

    /// A sentinel that watches `master` under the name `main` and finds it dead soon.
    pub async fn sentinel(master: &Self, lines: &str) -> Self {
        Self::launch("--port", &watch(master, lines), &["--sentinel"]).await
    }

    /// A sentinel that speaks TLS alone.
    pub async fn sentinel_tls(identity: &Identity, master: &Self) -> Self {
        let arguments = [&["--sentinel"], &identity.server()[..]].concat();
        Self::launch("--tls-port", &watch(master, ""), &arguments).await
    }

    async fn launch(port_option: &str, file: &str, arguments: &[&str]) -> Self {
        for _ in 1..STARTS {
            // Somebody else may have taken a port before the program could.
            if let Some(server) = Self::begin(port_option, file, arguments).await {
                return server;
            }
        }
        let last = Self::begin(port_option, file, arguments).await;
        last.unwrap_or_else(|| panic!("redis-server ends with {arguments:?}"))
    }

    async fn begin(port_option: &str, file: &str, arguments: &[&str]) -> Option<Self> {
        let [port, bus] = ports::several().map(|reserved| reserved.release());
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("socket");
        let configuration = folder.path().join("redis.conf");
        std::fs::write(&configuration, file).expect("a file");
        let mut command = Command::new("redis-server");
        command.arg(configuration).args(["--bind", "127.0.0.1"]);
        // The last one counts, so a server of TLS has no other port.
        command.args(["--port", "0", port_option, &port.to_string()]);
        command.arg("--unixsocket").arg(&socket);
        if !arguments.contains(&"--sentinel") {
            command.args(["--save", "", "--repl-diskless-sync-delay", "0"]);
            command.args(["--cluster-port", &bus.to_string()]);
        }
        let password = arguments.iter().position(|word| *word == "--requirepass");
        let password = password.map(|index| arguments[index + 1]);
        if let Some(password) = password {
            command.args(["--masterauth", password]);
        }
        let child = command
            .args(arguments)
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server must be on the PATH: it is in the Debian package redis-server");
        let mut server = Self {
            child,
            port,
            bus,
            address: format!("127.0.0.1:{port}"),
            socket,
            password: password.map(str::to_owned),
            _folder: folder,
        };
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !server.answers().await {
            if server.child.try_wait().expect("a child").is_some() {
                return None;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "redis-server does not answer"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(server)
    }

    /// Whether a Redis answers, be it only to ask for a password: that the socket is there says nothing yet.
    async fn answers(&self) -> bool {
        let ping = async {
            let mut stream = tokio::net::UnixStream::connect(&self.socket).await?;
            stream.write_all(b"PING\r\n").await?;
            let mut first = [0];
            stream.read_exact(&mut first).await?;
            std::io::Result::Ok(matches!(first, [b'+' | b'-']))
        };
        ping.await.unwrap_or(false)
    }

    /// A connection beside the component.
    pub async fn connection(&self) -> redis::aio::MultiplexedConnection {
        let password = self
            .password
            .iter()
            .map(|password| format!("?pass={password}"));
        let url = format!(
            "redis+unix://{}{}",
            self.socket.display(),
            password.collect::<String>()
        );
        redis::Client::open(url)
            .expect("an address")
            .get_multiplexed_async_connection()
            .await
            .expect("a connection")
    }

    /// Sends a command beside the component; the answer as text, lists with a line each.
    pub async fn ask(&self, words: &[&str]) -> String {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        let answer = command.query_async(&mut self.connection().await).await;
        text(&answer.unwrap_or_else(|error| panic!("{words:?}: {error}")))
    }

    /// Lets it answer nobody any more, with all its connections open.
    pub async fn stop(&self) {
        let process = self.child.id().to_string();
        let mut kill = tokio::process::Command::new("kill");
        let stopped = kill.args(["-STOP", &process]).status().await;
        assert!(stopped.expect("a program").success());
    }

    /// Breaks every connection of clients.
    pub async fn disconnect_all(&self) {
        let kill = ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"];
        assert_ne!(self.ask(&kill).await, "0", "nobody was connected");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn watch(master: &Server, lines: &str) -> String {
    format!(
        "sentinel monitor main 127.0.0.1 {} 1\n\
         sentinel down-after-milliseconds main 500\n\
         sentinel failover-timeout main 2000\n{lines}\n",
        master.port
    )
}

fn text(value: &redis::Value) -> String {
    match value {
        redis::Value::Nil => String::new(),
        redis::Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join("\n"),
        other => redis::from_redis_value(other.clone()).expect("an answer of text"),
    }
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "not yet: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
