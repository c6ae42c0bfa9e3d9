//! A RabbitMQ server, of Debian's package `rabbitmq-server`: on free ports of the loopback, in a folder of its own, with a port
//! mapper of its own. A shell looks after both, and ends them when the tests end, however they end.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

use crate::ports;

/// Longest wait for the program, which takes seconds to start.
const PATIENCE: Duration = Duration::from_secs(180);

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

/// A server; it ends with the process that started it, or when it is dropped.
pub struct RabbitMq {
    keeper: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    _child: Child,
    folder: std::path::PathBuf,
    /// Where it listens.
    pub port: u16,
}

impl RabbitMq {
    /// One with these lines of configuration besides, which are asked for with its folder, for files.
    ///
    /// # Panics
    /// Where the program is missing or does not start.
    pub async fn start(lines: impl FnOnce(&Path) -> String) -> Self {
        let [port, dist, mapper] = ports::several().map(|reserved| reserved.release());
        let folder = tempfile::tempdir().expect("a folder").keep();
        let configuration = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\n\
             disk_free_limit.absolute = 1MB\n\
             log.console = true\n{}",
            lines(&folder)
        );
        let write = |name: &str, text: &str| {
            std::fs::write(folder.join(name), text).expect("a file");
        };
        write("rabbitmq.conf", &configuration);
        write("enabled_plugins", "[rabbitmq_auth_mechanism_ssl].\n");
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
            folder,
            port,
        };
        server.is_up().await;
        server
    }

    /// As without a password set.
    pub fn url(&self) -> String {
        format!("amqp://127.0.0.1:{}/", self.port)
    }

    /// Waits until it answers.
    ///
    /// # Panics
    /// Where it does not.
    pub async fn is_up(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.answers().await {
            let output = || std::fs::read_to_string(self.folder.join("output")).unwrap_or_default();
            assert!(
                Instant::now() < deadline,
                "rabbitmq-server, of the Debian package of that name, does not answer: {}",
                output()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// It greets a client with a method frame.
    async fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)).await else {
            return false;
        };
        let greeted = stream.write_all(b"AMQP\x00\x00\x09\x01").await;
        greeted.is_ok() && stream.read_u8().await.is_ok_and(|frame| frame == 1)
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
    ///
    /// # Panics
    /// Where the shell is gone.
    pub fn kill(&self) {
        self.tell("kill_server");
    }

    /// Ends it as an operator would.
    ///
    /// # Panics
    /// Where the shell is gone.
    pub fn stop(&self) {
        self.tell("stop_server");
    }

    /// Starts it again, without waiting.
    ///
    /// # Panics
    /// Where the shell is gone.
    pub fn begin(&self) {
        self.tell("start");
    }
}
