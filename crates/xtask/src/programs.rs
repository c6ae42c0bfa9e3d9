//! The programs of the product: what they are built from, how, and where they are found.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The programs of the chart, and the sidecar that the injector adds.
pub const PROGRAMS: [&str; 5] = ["daprd", "injector", "operator", "placement", "sentry"];

/// The app of the demo and of the cluster suite, and its package. It is built with the programs: another selection of
/// packages would give some libraries other features, and compile them once more.
pub const SAMPLE: &str = "sample";
const SAMPLE_PACKAGE: &str = "demo";

/// The everyday build leaves families of components out; a program has them all.
const ALL_COMPONENTS: &str = "daprd/allcomponents";

/// The profile of everyday programs, those that tests start.
pub const RELEASE: &str = "release";

/// The profile of programs as they are published.
pub const DIST: &str = "dist";

/// Published programs stand alone in their image. That is 2.5 MB less of memory for each process, which has no libraries
/// of its own to map and to relocate. They look names up in files and DNS, as `/etc/nsswitch.conf` of the image says.
const STATIC: &str = r#"["-C", "target-feature=+crt-static"]"#;

/// Flags of this chore, and of those that begin with it.
#[derive(clap::Args)]
pub struct Arguments {
    /// Cargo profile of the programs; `dist` is how they are published
    #[arg(long, env = "PROFILE", default_value = RELEASE)]
    pub profile: String,
}

/// Builds the programs.
pub fn run(Arguments { profile }: &Arguments) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--profile", profile, "--features", ALL_COMPONENTS]);
    for package in PROGRAMS.into_iter().chain([SAMPLE_PACKAGE]) {
        command.args(["--package", package]);
    }
    if profile == DIST {
        // With a target of their own: flags for "the host" would also hold for macros, which are libraries.
        let target = target();
        let flags = format!("target.{target}.rustflags={STATIC}");
        command.args(["--target", &target, "--config", &flags]);
    }
    let status = command.status().context("start cargo")?;
    ensure!(status.success(), "cargo build: {status}");
    Ok(())
}

/// Where the programs of a profile are, below cargo's target folder.
pub fn folder(target_folder: &Path, profile: &str) -> PathBuf {
    match profile {
        DIST => target_folder.join(target()).join(DIST),
        "dev" => target_folder.join("debug"),
        other => target_folder.join(other),
    }
}

/// Images are for Linux on processors of this machine's kind.
fn target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}
