//! A real program as a child process: its logs in files, stopped by SIGINT with exit code 0 required, and
//! killed when dropped. The environment is only what the test gives, so that a run depends on nothing else.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{http::Client, wait};

/// How long a program may take to end after SIGINT: the grace period of daprd, twice.
pub const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// Lines of each log that a failing test prints.
const TAIL: usize = 80;

/// Whose build of a program is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Build {
    /// Cargo's, beside the test, unless `DAPR_E2E_<PROGRAM>_PATH` names one.
    #[default]
    Ours,
    /// The one that ours exchange instances and jobs with: `DAPR_E2E_OTHER_<PROGRAM>_PATH`.
    Other,
}

/// What to start.
#[derive(Debug, Default)]
pub struct Options {
    /// Name of the binary.
    pub program: &'static str,
    /// Which of them.
    pub build: Build,
    /// Arguments, complete.
    pub args: Vec<String>,
    /// The whole environment of the program.
    pub env: BTreeMap<String, String>,
}

/// Signals that the suites send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Interrupt,
    Terminate,
    Hangup,
    /// Pauses it,
    Stop,
    /// and lets it go on.
    Continue,
}

/// A running program.
pub struct Process {
    program: &'static str,
    child: Child,
    dir: TempDir,
}

impl Process {
    /// Starts the program with `dir` as working folder; its logs go there, too.
    pub fn start(options: Options, dir: TempDir) -> Self {
        let binary = binary(options.program, options.build);
        let log =
            |name: &str| File::create(dir.path().join(name)).expect("the folder was just created");
        let mut command = Command::new(&binary);
        command
            .args(&options.args)
            .env_clear()
            .envs(&options.env)
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log("stdout.log"))
            .stderr(log("stderr.log"))
            .kill_on_drop(true);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", binary.display()));
        Self {
            program: options.program,
            child,
            dir,
        }
    }

    /// Starts a program of the control plane, and waits until its health port on the loopback says that it is ready.
    pub async fn start_healthy(options: Options, dir: TempDir, health: u16) -> Self {
        let mut process = Self::start(options, dir);
        let client = Client::new(format!("http://127.0.0.1:{health}"));
        process
            .ready(|| async {
                client
                    .request(http::Method::GET, "/healthz")
                    .attempt()
                    .await
                    .is_ok_and(|reply| reply.status == 200)
            })
            .await;
        process
    }

    /// The folder of this program: logs, resources, credentials.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Everything written to standard output until now.
    pub fn stdout(&self) -> String {
        read(&self.dir.path().join("stdout.log"))
    }

    /// Everything written to standard error until now.
    pub fn stderr(&self) -> String {
        read(&self.dir.path().join("stderr.log"))
    }

    /// Waits until standard output holds `fragment`.
    pub async fn logged(&self, fragment: &str) {
        let what = format!("{} to log {fragment:?}", self.program);
        wait::eventually(&what, wait::DEADLINE, || async {
            self.stdout().contains(fragment)
        })
        .await;
    }

    /// The process id, as long as the program was not waited for.
    pub fn id(&self) -> u32 {
        self.child.id().expect("the program was not waited for")
    }

    /// The exit code, if the program has ended.
    pub fn exited(&mut self) -> Option<i32> {
        let status = self.child.try_wait().expect("the child is ours")?;
        Some(status.code().unwrap_or(-1))
    }

    /// Sends a signal.
    pub async fn signal(&self, signal: Signal) {
        let name = match signal {
            Signal::Interrupt => "INT",
            Signal::Terminate => "TERM",
            Signal::Hangup => "HUP",
            Signal::Stop => "STOP",
            Signal::Continue => "CONT",
        };
        // The shell's own `kill`: sending a signal from Rust needs unsafe code or one more dependency.
        let status = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", name, &self.id().to_string()])
            .status()
            .await
            .expect("there is a shell");
        assert!(
            status.success(),
            "cannot send SIG{name} to {}",
            self.program
        );
    }

    /// Waits until the program has ended by itself, and answers its exit code (-1 for a signal).
    pub async fn exit_code(&mut self, deadline: Duration) -> i32 {
        let what = format!("the end of {}", self.program);
        let status = wait::within(&what, deadline, self.child.wait())
            .await
            .expect("the child is ours");
        status.code().unwrap_or(-1)
    }

    /// Stops the program by SIGINT; it must end with exit code 0, and in time.
    pub async fn stop(mut self) {
        self.signal(Signal::Interrupt).await;
        let code = self.exit_code(STOP_DEADLINE).await;
        assert_eq!(code, 0, "exit code of {} after SIGINT", self.program);
    }

    /// Kills the program without warning.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("the child is ours");
    }

    /// Waits until `ready` answers true; a program that ends meanwhile fails the test at once.
    pub async fn ready<F, Fut>(&mut self, ready: F)
    where
        F: Fn() -> Fut,
        Fut: Future<Output = bool>,
    {
        let what = format!("{} to be ready", self.program);
        let ready = &ready;
        let end = tokio::time::Instant::now() + START_DEADLINE;
        while !wait::within(&what, START_DEADLINE, ready()).await {
            if let Some(code) = self.exited() {
                panic!(
                    "{} ended with code {code} before it was ready",
                    self.program
                );
            }
            assert!(
                tokio::time::Instant::now() < end,
                "waited {START_DEADLINE:?} for {what}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// How long a program may take to become ready.
pub const START_DEADLINE: Duration = Duration::from_secs(30);

impl Drop for Process {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        self.dir.disable_cleanup(true);
        eprintln!(
            "--- {}: logs in {}",
            self.program,
            self.dir.path().display()
        );
        for (name, text) in [("stdout", self.stdout()), ("stderr", self.stderr())] {
            let lines: Vec<&str> = text.lines().collect();
            for line in &lines[lines.len().saturating_sub(TAIL)..] {
                eprintln!("{} {name}: {line}", self.program);
            }
        }
    }
}

/// A new folder for a program.
pub fn folder(program: &str) -> TempDir {
    let prefix = format!("dapr-e2e-{program}-");
    tempfile::Builder::new()
        .prefix(&prefix)
        .tempdir()
        .expect("the temporary folder is writable")
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// The binary of a program: the one the environment names, else the one cargo built beside this test.
fn binary(program: &str, build: Build) -> PathBuf {
    let whose = match build {
        Build::Ours => "",
        Build::Other => "OTHER_",
    };
    let variable = format!("DAPR_E2E_{whose}{}_PATH", program.to_uppercase());
    if let Some(path) = std::env::var_os(&variable) {
        return path.into();
    }
    assert!(build == Build::Ours, "{variable} names the other build");
    let test = std::env::current_exe().expect("a test has an executable");
    let profile = test
        .ancestors()
        .nth(2)
        .expect("target/<profile>/deps/<test>");
    let path = profile.join(program);
    assert!(
        path.is_file(),
        "{} is not there: build {program} in the same profile, or set {variable}",
        path.display()
    );
    path
}
