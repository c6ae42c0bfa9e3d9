//! Apps of the official SDKs and of plain frameworks (`e2e/sdk`), run by what `e2e/sdk/install` has put beside the compiled programs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{Daprd, process, wait};

/// A language with an SDK.
#[derive(Clone, Copy, Debug)]
pub enum Language {
    Python,
    JavaScript,
    /// Its apps are compiled when they are installed.
    Go,
    /// Its apps are compiled when they are installed, and called by the folder of what they need, and their class.
    Java,
    /// Its apps are one program, which is compiled when it is installed.
    Rust,
}

/// An app that runs a scenario against its sidecar, and ends by itself.
pub struct Scenario {
    child: Child,
    dir: TempDir,
}

impl Scenario {
    /// Starts `file` of the language's folder beside a sidecar.
    pub fn start(language: Language, file: &str, args: &[String], daprd: &Daprd) -> Self {
        let env = [
            ("DAPR_HTTP_PORT", daprd.http_port().to_string()),
            ("DAPR_GRPC_PORT", daprd.grpc_port().to_string()),
        ];
        Self::run(language, file, args, &env)
    }

    /// Starts `file` of the language's folder without a sidecar that it calls.
    pub fn run(language: Language, file: &str, args: &[String], env: &[(&str, String)]) -> Self {
        let dir = process::folder("sdk");
        let (program, before) = program(language, file);
        let log = std::fs::File::create(dir.path().join("log")).expect("the folder was just made");
        let errors = log.try_clone().expect("a second handle");
        let child = Command::new(&program)
            .args(before)
            .args(args)
            .envs(env.iter().map(|(name, value)| (*name, value)))
            .env("NODE_PATH", installed().join("javascript/node_modules"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "cannot start {}: {error}; run `make servers`",
                    program.display()
                )
            });
        Self { child, dir }
    }

    /// Waits until it ends, which it does well.
    pub async fn passes(&mut self) {
        let status = wait::within("the scenario", DEADLINE, self.child.wait()).await;
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        assert!(status.is_ok_and(|status| status.success()), "{log}");
    }
}

/// What runs an app, and the arguments that name it.
fn program(language: Language, file: &str) -> (PathBuf, Vec<OsString>) {
    match language {
        Language::Python => {
            let (program, script) = python(file);
            (program, vec![script.into()])
        }
        Language::JavaScript => {
            let script = source().join("javascript").join(file);
            (PathBuf::from("node"), vec![script.into()])
        }
        Language::Go => (installed().join("golang").join(file), Vec::new()),
        Language::Rust => (installed().join("rust/apps"), vec![file.into()]),
        Language::Java => {
            let (part, class) = file.split_once('/').expect("a folder and a class");
            let folder = installed().join("java").join(part);
            let paths = [folder.join("classes"), folder.join("jars/*")];
            let paths = std::env::join_paths(paths).expect("a path has no colon");
            let words = JVM.iter().copied().chain(["-classpath"]);
            let words = words.map(OsString::from).chain([paths, class.into()]);
            (PathBuf::from("java"), words.collect())
        }
    }
}

/// Starts fast, and leaves the machine to what is tested.
const JVM: [&str; 3] = ["-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];

/// The interpreter that has Python's SDKs, and a script of theirs.
pub fn python(file: &str) -> (PathBuf, PathBuf) {
    let program = installed().join("python/bin/python");
    (program, source().join("python").join(file))
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk")
}

/// Two interpreters start, and wait for each other's programs on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// `target/sdk`, from `target/<profile>/deps/<test>`.
fn installed() -> PathBuf {
    let test = std::env::current_exe().expect("a test has an executable");
    let target = test
        .ancestors()
        .nth(3)
        .expect("target/<profile>/deps/<test>");
    target.join("sdk")
}
