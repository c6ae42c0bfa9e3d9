//! A RabbitMQ server of the system for all tests of this binary, for it takes seconds to start: on free ports of the loopback,
//! in a folder of its own, with a port mapper of its own. A shell looks after both, and ends them when the tests end, however
//! they end.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use component_conformance::ports;
use lapin::{Channel, Connection, ConnectionProperties};
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::authority::Authority;

/// Longest wait for a condition.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Where Debian has the program; the one on the PATH changes the user.
const PROGRAM: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// Obeys a word a line, and says when it is done. Each program has a group of processes of its own, and ends with it.
const KEEPER: &str = r#"
set -m
epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT" >/dev/null 2>&1 & mapper=$!
start() { "$0" >"$FOLDER/output" 2>&1 & server=$!; }
kill_server() { kill -KILL -- -$server 2>/dev/null; wait $server 2>/dev/null; }
stop_server() { kill -TERM -- -$server 2>/dev/null; wait $server 2>/dev/null; }
start
while read -r word; do
	$word
	echo done
done
kill_server
kill -KILL -- -$mapper 2>/dev/null
rm -rf "$FOLDER"
"#;

/// A server.
pub struct Server {
    keeper: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    _child: Child,
    /// Where it listens, without TLS.
    pub port: u16,
    /// Where it listens with TLS.
    pub tls_port: u16,
    /// Who its certificate comes from.
    pub authority: Authority,
    /// Tests that restart it are alone.
    turns: RwLock<()>,
}

static SERVER: OnceCell<Server> = OnceCell::const_new();

/// The server, for as long as nobody restarts it.
pub async fn server() -> (&'static Server, RwLockReadGuard<'static, ()>) {
    let server = SERVER.get_or_init(Server::start).await;
    (server, server.turns.read().await)
}

/// The server, for a test that restarts it.
pub async fn server_alone() -> (&'static Server, RwLockWriteGuard<'static, ()>) {
    let server = SERVER.get_or_init(Server::start).await;
    (server, server.turns.write().await)
}

impl Server {
    async fn start() -> Self {
        let [port, tls_port, dist, mapper] = ports::several().map(|reserved| reserved.release());
        let folder = tempfile::tempdir().expect("a folder").keep();
        let authority = Authority::new(&folder);
        write(
            &folder,
            "rabbitmq.conf",
            &configuration(&folder, port, tls_port),
        );
        write(
            &folder,
            "enabled_plugins",
            "[rabbitmq_auth_mechanism_ssl].\n",
        );
        let mut child = Command::new("bash")
            .args(["-c", KEEPER, PROGRAM])
            .env("FOLDER", &folder)
            .env("HOME", &folder)
            .env("ERL_EPMD_PORT", mapper.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", format!("test-{port}@localhost"))
            .env("RABBITMQ_DIST_PORT", dist.to_string())
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"))
            .env(
                "RABBITMQ_ENABLED_PLUGINS_FILE",
                folder.join("enabled_plugins"),
            )
            .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
            .env("RABBITMQ_LOG_BASE", &folder)
            .env("RABBITMQ_LOGS", "-")
            .env("RABBITMQ_PID_FILE", folder.join("pid"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash");
        let words = child.stdin.take().expect("piped");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        let server = Self {
            keeper: Mutex::new((words, answers)),
            _child: child,
            port,
            tls_port,
            authority,
            turns: RwLock::new(()),
        };
        server.is_up(&folder).await;
        server
    }

    async fn is_up(&self, folder: &Path) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.connect().await.is_err() {
            let output = || std::fs::read_to_string(folder.join("output")).unwrap_or_default();
            assert!(
                tokio::time::Instant::now() < deadline,
                "rabbitmq-server, of the Debian package of that name, does not answer: {}",
                output()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// As without a password set.
    pub fn url(&self) -> String {
        format!("amqp://127.0.0.1:{}/", self.port)
    }

    async fn connect(&self) -> lapin::Result<Connection> {
        let url = format!("amqp://127.0.0.1:{}/%2f", self.port);
        Connection::connect(&url, ConnectionProperties::default()).await
    }

    /// A channel beside the component, with the connection it needs.
    pub async fn channel(&self) -> (Connection, Channel) {
        let connection = self.connect().await.expect("a connection");
        let channel = connection.create_channel().await.expect("a channel");
        (connection, channel)
    }

    fn tell(&self, word: &str) {
        let mut keeper = self
            .keeper
            .lock()
            .expect("a test that panics holds no lock");
        let (words, answers) = &mut *keeper;
        writeln!(words, "{word}").expect("the shell is there");
        let mut answer = String::new();
        answers.read_line(&mut answer).expect("an answer");
        assert_eq!(answer, "done\n", "{word}");
    }

    /// Ends it as a crash would.
    pub fn kill(&self) {
        self.tell("kill_server");
    }

    /// Ends it as an operator would.
    pub fn stop(&self) {
        self.tell("stop_server");
    }

    /// Starts it again, without waiting.
    pub fn begin(&self) {
        self.tell("start");
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).expect("a file");
}

fn configuration(folder: &Path, port: u16, tls_port: u16) -> String {
    let folder = folder.display();
    format!(
        "listeners.tcp.1 = 127.0.0.1:{port}\n\
         listeners.ssl.1 = 127.0.0.1:{tls_port}\n\
         ssl_options.cacertfile = {folder}/ca.pem\n\
         ssl_options.certfile = {folder}/server.pem\n\
         ssl_options.keyfile = {folder}/server.key\n\
         ssl_options.verify = verify_peer\n\
         ssl_options.fail_if_no_peer_cert = false\n\
         ssl_cert_login_from = common_name\n\
         auth_mechanisms.1 = PLAIN\n\
         auth_mechanisms.2 = EXTERNAL\n\
         disk_free_limit.absolute = 1MB\n\
         log.console = true\n"
    )
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "not yet: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
