//! Builds all tests in one call of cargo, so that every library is compiled once, and runs them crate by crate: first the
//! crates that a change touches and those that use them, and each with the time that it took.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cargo_metadata::{Message, MetadataCommand, PackageId};

use crate::programs::{self, EVERYTHING, RELEASE, cargo};
use crate::tidy::floors;
use crate::tree;

mod changes;
mod order;

/// A suite of `e2e` that needs more than this repository gives, and runs by itself.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Suite {
    /// Needs a Kubernetes
    Cluster,
    /// Needs another build of the programs
    Exchange,
}

impl Suite {
    /// The test program that holds it; a feature of `e2e` has the same name.
    fn name(self) -> &'static str {
        match self {
            Suite::Cluster => "cluster",
            Suite::Exchange => "exchange",
        }
    }
}

/// Flags of the chore.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only the tests of these crates
    packages: Vec<String>,
    /// This suite, and nothing else
    #[arg(long, value_enum)]
    suite: Option<Suite>,
    /// Build them and run nothing
    #[arg(long)]
    no_run: bool,
    /// Cargo profile
    #[arg(long, env = "PROFILE", default_value = RELEASE)]
    profile: String,
    /// Arguments of the test programs, such as a part of a test's name
    #[arg(last = true)]
    pass: Vec<String>,
}

/// A test program.
#[derive(Debug)]
struct Program {
    path: PathBuf,
    /// Where cargo starts it: the folder of its crate.
    folder: PathBuf,
}

/// Builds and runs; fails with the first crate whose tests do.
pub fn run(arguments: &Arguments) -> Result<()> {
    let root = tree::root();
    let workspace = MetadataCommand::new()
        .current_dir(&root)
        .no_deps()
        .exec()
        .context("cannot read the workspace")?;
    let members = floors::members(&workspace);
    for name in &arguments.packages {
        let known = members.iter().any(|member| member.name == *name);
        ensure!(known, "there is no crate {name}");
    }
    let mut built = build(arguments)?;
    if arguments.no_run {
        return Ok(());
    }

    let folders = workspace.workspace_packages().into_iter().map(|package| {
        let folder = package.manifest_path.parent().expect("a file has a folder");
        (package.name.to_string(), folder.as_std_path().to_owned())
    });
    let touched = changes::crates(&root, &folders.collect());
    let order = order::order(&members, &touched);
    if !touched.is_empty() && arguments.suite.is_none() {
        let names: Vec<&str> = touched.iter().map(String::as_str).collect();
        say(&format!("changed, so first: {}", names.join(" ")))?;
    }
    for name in order {
        let wanted = arguments.packages.is_empty() || arguments.packages.contains(&name);
        if let Some(programs) = built.remove(&name).filter(|_| wanted) {
            timed(&format!("test {name}"), || {
                programs.iter().try_for_each(|it| it.run(&arguments.pass))
            })?;
        }
    }
    if arguments.packages.is_empty() && arguments.suite.is_none() {
        timed("test documentation", || documentation(arguments))?;
    }
    Ok(())
}

/// Builds the programs that tests start, then the tests; answers the test programs of each crate.
fn build(arguments: &Arguments) -> Result<BTreeMap<String, Vec<Program>>> {
    // Those of the cluster run from their images.
    if !matches!(arguments.suite, Some(Suite::Cluster)) {
        let programs = programs::Arguments::complete(&arguments.profile);
        timed("build programs", || programs::run(&programs))?;
    }
    timed("build tests", || match arguments.suite {
        Some(suite) => {
            let feature = format!("e2e/{}", suite.name());
            compile(arguments, &["--features", &feature, "--test", suite.name()])
        }
        None => compile(arguments, &[]),
    })
}

fn compile(arguments: &Arguments, targets: &[&str]) -> Result<BTreeMap<String, Vec<Program>>> {
    let began = Instant::now();
    let mut child = cargo()
        .args(["test", "--no-run", "--profile", &arguments.profile])
        .args(EVERYTHING)
        .args(targets)
        .args(["--message-format", "json-render-diagnostics"])
        .stdout(Stdio::piped())
        .spawn()
        .context("start cargo")?;
    let output = child.stdout.take().context("cargo has an output")?;
    let mut built: BTreeMap<String, Vec<Program>> = BTreeMap::new();
    let mut seen: BTreeSet<PackageId> = BTreeSet::new();
    for message in Message::parse_stream(BufReader::new(output)) {
        let Message::CompilerArtifact(artifact) = message.context("read what cargo says")? else {
            continue;
        };
        let Some(executable) = artifact.executable.filter(|_| artifact.profile.test) else {
            continue;
        };
        let folder = artifact.manifest_path.parent().context("a folder")?;
        let name = name_of(&artifact.package_id);
        if !artifact.fresh && seen.insert(artifact.package_id) {
            let seconds = began.elapsed().as_secs();
            say(&format!("built after {seconds} s: tests of {name}"))?;
        }
        built.entry(name).or_default().push(Program {
            path: executable.into(),
            folder: folder.into(),
        });
    }
    let status = child.wait().context("wait for cargo")?;
    ensure!(status.success(), "cargo test --no-run: {status}");
    for programs in built.values_mut() {
        programs.sort_by(|one, other| one.path.cmp(&other.path));
    }
    Ok(built)
}

/// The name of a member in its id: `path+file:///folder/name#version` or `path+file:///folder#name@version`.
fn name_of(id: &PackageId) -> String {
    let (source, fragment) = id.repr.split_once('#').unwrap_or((&id.repr, ""));
    let name = match fragment.split_once('@') {
        Some((name, _)) => name,
        None => source.rsplit('/').next().unwrap_or_default(),
    };
    name.to_owned()
}

impl Program {
    fn run(&self, pass: &[String]) -> Result<()> {
        say(&format!("running {}", self.path.display()))?;
        let status = std::process::Command::new(&self.path)
            .args(pass)
            .current_dir(&self.folder)
            .env("CARGO_MANIFEST_DIR", &self.folder)
            .status()
            .with_context(|| format!("start {}", self.path.display()))?;
        ensure!(status.success(), "{}: {status}", self.path.display());
        Ok(())
    }
}

fn documentation(arguments: &Arguments) -> Result<()> {
    let status = cargo()
        .args(["test", "--doc", "--profile", &arguments.profile])
        .args(EVERYTHING)
        .status()
        .context("start cargo")?;
    ensure!(status.success(), "cargo test --doc: {status}");
    Ok(())
}

/// Does a step and says how long it took, in the form that `.ci/run` takes into its list.
fn timed<T>(step: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    say(&format!("==> {step}"))?;
    let began = Instant::now();
    let done = work();
    say(&format!("{:6} s    {step}", began.elapsed().as_secs()))?;
    done.with_context(|| step.to_owned())
}

fn say(line: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").context("cannot write to the standard output")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_named_by_its_id() {
        for (id, name) in [
            ("path+file:///a/daprd/api#0.1.0", "api"),
            (
                "path+file:///a/daprd/components/redis#component-redis@0.1.0",
                "component-redis",
            ),
        ] {
            assert_eq!(
                name_of(&PackageId {
                    repr: id.to_owned()
                }),
                name
            );
        }
    }
}
