//! The programs of the product: what they are built from, how, and where they are found.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The programs of the chart, and the sidecar that the injector adds.
pub const PROGRAMS: [&str; 6] = [
    "daprd",
    "injector",
    "operator",
    "placement",
    "scheduler",
    "sentry",
];

/// The app of the demo and of the cluster suite, and its package.
pub const SAMPLE: &str = "sample";
const SAMPLE_PACKAGE: &str = "demo";

/// The families of components of a sidecar as it is published.
const ALL_COMPONENTS: &str = "allcomponents";

/// The selection of packages of every everyday call of cargo: all of them, whatever is to be built. Cargo gives a library
/// the features that the selected packages ask for, so a smaller selection would compile some of them once more.
pub const EVERYTHING: [&str; 4] = [
    "--workspace",
    "--no-default-features",
    "--features",
    "daprd/allcomponents",
];

/// The profile of everyday programs, those that tests start.
pub const RELEASE: &str = "release";

/// The profile of programs as they are published.
pub const DIST: &str = "dist";

/// Published programs stand alone in their image. That is 2.5 MB less of memory for each process, which has no libraries
/// of its own to map and to relocate. They look names up in files and DNS, as `/etc/nsswitch.conf` of the image says.
const STATIC: &str = r#"["-C", "target-feature=+crt-static"]"#;

/// Flags of this chore, and of those that begin with it, which have groups of the same name.
#[derive(clap::Args)]
#[group(skip)]
pub struct Arguments {
    /// Cargo profile of the programs; `dist` is how they are published
    #[arg(long, env = "PROFILE", default_value = RELEASE)]
    pub profile: String,
    /// Families of components of the sidecar, separated by commas
    #[arg(long, env = "COMPONENTS", default_value = ALL_COMPONENTS)]
    pub components: String,
}

impl Arguments {
    /// The programs with all components.
    pub fn complete(profile: &str) -> Self {
        Self {
            profile: profile.to_owned(),
            components: ALL_COMPONENTS.to_owned(),
        }
    }
}

/// Builds the programs.
pub fn run(
    Arguments {
        profile,
        components,
    }: &Arguments,
) -> Result<()> {
    let mut command = cargo();
    command.args(["build", "--profile", profile, "--no-default-features"]);
    for family in components.split(',') {
        command.args(["--features", &format!("daprd/{family}")]);
    }
    if profile == DIST {
        // What is published has the features that it asks for itself, and no others.
        for package in PROGRAMS.into_iter().chain([SAMPLE_PACKAGE]) {
            command.args(["--package", package]);
        }
        // With a target of their own: flags for "the host" would also hold for macros, which are libraries.
        let target = target();
        let flags = format!("target.{target}.rustflags={STATIC}");
        command.args(["--target", &target, "--config", &flags]);
    } else {
        command.arg("--workspace");
        for program in PROGRAMS.into_iter().chain([SAMPLE]) {
            command.args(["--bin", program]);
        }
    }
    let status = command.status().context("start cargo")?;
    ensure!(status.success(), "cargo build: {status}");
    Ok(())
}

/// The cargo that runs this chore, or the one of the path.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
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
pub fn target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}
