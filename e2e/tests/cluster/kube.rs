//! kubectl and helm as child processes, and waiting for what they show.

use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(250);
const FORWARDING: Duration = Duration::from_secs(20);

/// What a program said: its standard output, or all it said if it failed.
pub type Said = Result<String, String>;

/// Runs a program to its end with a text on its standard input.
pub async fn run(program: &str, args: &[&str], input: &str) -> Said {
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("start {program}: {error}"));
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_owned();
    let (_, output) = tokio::join!(
        async move {
            // a program that refuses its arguments does not read
            let _ = stdin.write_all(input.as_bytes()).await;
        },
        child.wait_with_output()
    );
    let output = output.unwrap_or_else(|error| panic!("wait for {program}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(said)
    } else {
        let complaint = String::from_utf8_lossy(&output.stderr);
        Err(format!("{program} {}: {}{said}", args.join(" "), complaint))
    }
}

pub async fn try_kubectl(args: &[&str]) -> Said {
    run("kubectl", args, "").await
}

pub async fn kubectl(args: &[&str]) -> String {
    try_kubectl(args)
        .await
        .unwrap_or_else(|said| panic!("{said}"))
}

pub async fn helm(args: &[&str]) -> String {
    run("helm", args, "")
        .await
        .unwrap_or_else(|said| panic!("{said}"))
}

/// What `kubectl get` finds, as JSON.
pub async fn get(args: &[&str]) -> Value {
    let args: Vec<&str> = ["get", "-o", "json"].iter().chain(args).copied().collect();
    let text = kubectl(&args).await;
    serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("kubectl {}: {error}", args.join(" ")))
}

/// The names of what `kubectl get` finds, as `kind/name`.
pub async fn names(args: &[&str]) -> Vec<String> {
    let args: Vec<&str> = ["get", "-o", "name"].iter().chain(args).copied().collect();
    kubectl(&args).await.lines().map(str::to_owned).collect()
}

pub async fn try_apply(objects: &str) -> Said {
    run("kubectl", &["apply", "-f", "-"], objects).await
}

/// Applies objects given as YAML or JSON.
pub async fn apply(objects: &str) {
    try_apply(objects)
        .await
        .unwrap_or_else(|said| panic!("{said}"));
}

/// Says how long something took, past what collects the output of tests. Nothing depends on it.
pub fn took(what: &str, since: Instant) {
    let seconds = since.elapsed().as_secs_f64();
    let _ = writeln!(std::io::stderr(), "{seconds:6.1} s    {what}");
}

/// Waits until a check gives a value; panics with its last complaint when it has not in time.
pub async fn until<T>(
    what: &str,
    seconds: u64,
    mut check: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        match check().await {
            Ok(value) => return value,
            Err(why) if Instant::now() > end => panic!("{what}: not in {seconds} s: {why}"),
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// A port of a pod on a port of this machine, for as long as it lives.
pub struct Forward {
    pub port: u16,
    _kubectl: Child,
}

impl Forward {
    pub async fn open(namespace: &str, pod: &str, port: u16) -> Self {
        let mut kubectl = Command::new("kubectl")
            .args([
                "-n",
                namespace,
                "port-forward",
                "--address",
                "127.0.0.1",
                pod,
                &format!(":{port}"),
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("start kubectl");
        let mut lines = BufReader::new(kubectl.stdout.take().expect("piped")).lines();
        let line = tokio::time::timeout(FORWARDING, lines.next_line()).await;
        let line = line
            .expect("port-forward in time")
            .expect("port-forward's output")
            .unwrap_or_default();
        let local = line
            .strip_prefix("Forwarding from 127.0.0.1:")
            .and_then(|rest| rest.split(' ').next())
            .and_then(|port| port.parse().ok())
            .unwrap_or_else(|| panic!("port-forward to {namespace}/{pod}:{port} said {line:?}"));
        // kubectl says a line for every connection, and stops when nobody reads them
        let drain = async move { while let Ok(Some(_)) = lines.next_line().await {} };
        #[allow(
            clippy::disallowed_methods,
            reason = "ends with kubectl, which ends with this value"
        )]
        tokio::spawn(drain);
        Self {
            port: local,
            _kubectl: kubectl,
        }
    }
}
