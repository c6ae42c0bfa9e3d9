//! Container images without a container engine and without a registry: a program, the libraries it is linked with,
//! a CA bundle and a numeric user, written as docker-archive files that `ctr images import`, `docker load` and
//! `kind load image-archive` read. The same inputs give the same bytes, so an image's id says which build it is.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::json;

use self::archive::{Image, Start};
use crate::programs::{self, PROGRAMS, SAMPLE};

mod archive;
pub mod pack;

/// The registry part of our images' names. `localhost` is read as a registry's host and is nobody's, so a name
/// that is not in the node's store is an error and never somebody else's image (Q-image-names).
const REGISTRY: &str = "localhost/dapr";

/// Whom the programs run as: not root, and a number, because Kubernetes cannot tell from a name that it is not root.
const USER: u32 = 65532;

/// The broker of the demo, which comes from Debian: name of the image, path of the program.
const REDIS: (&str, &str) = ("sample-redis", "/usr/bin/redis-server");

/// The image of `--etcd`.
const ETCD: &str = "sample-etcd";

/// Flags of the chore.
#[derive(clap::Args)]
pub struct Arguments {
    /// Folder for the archives and images.json [default: images in cargo's target folder]
    #[arg(long)]
    out: Option<PathBuf>,
    /// First part of the images' names
    #[arg(long, default_value = REGISTRY)]
    registry: String,
    /// Tag of the images [default: the version of the workspace]
    #[arg(long)]
    tag: Option<String>,
    #[command(flatten)]
    programs: programs::Arguments,
    /// Also those of the demo and of the cluster suite: the sample app, and a Redis from Debian's redis-server
    #[arg(long)]
    samples: bool,
    /// Also this program, as the etcd beside schedulers in the cluster suite
    #[arg(long)]
    etcd: Option<PathBuf>,
    /// Pack the programs that are there
    #[arg(long)]
    no_build: bool,
}

/// Builds the programs and packs an image of each.
pub fn run(arguments: &Arguments) -> Result<()> {
    let workspace = cargo_metadata::MetadataCommand::new().no_deps().exec()?;
    if !arguments.no_build {
        programs::run(&arguments.programs)?;
    }
    let target = workspace.target_directory.as_std_path();
    let folder = programs::folder(target, &arguments.programs.profile);
    let out = arguments
        .out
        .clone()
        .unwrap_or_else(|| target.join("images"));
    let tag = match &arguments.tag {
        Some(tag) => tag.clone(),
        None => version(&workspace)?,
    };
    let mut wanted: Vec<(&str, PathBuf)> = PROGRAMS.map(|name| (name, folder.join(name))).into();
    if arguments.samples {
        wanted.push((SAMPLE, folder.join(SAMPLE)));
        wanted.push((REDIS.0, REDIS.1.into()));
    }
    if let Some(etcd) = &arguments.etcd {
        wanted.push((ETCD, etcd.clone()));
    }
    let mut index = BTreeMap::new();
    for (name, program) in wanted {
        let image = Image {
            name: format!("{}/{name}:{tag}", arguments.registry),
            program,
            user: USER,
            start: Start::Command,
        };
        let archive = out.join(format!("{name}.tar"));
        let id = image.write(&archive)?;
        writeln!(std::io::stdout(), "{} {id}", archive.display())?;
        index.insert(
            image.name,
            json!({ "archive": format!("{name}.tar"), "id": id }),
        );
    }
    let path = out.join("images.json");
    std::fs::write(&path, serde_json::to_vec_pretty(&index)?)
        .with_context(|| format!("write {}", path.display()))
}

fn version(workspace: &cargo_metadata::Metadata) -> Result<String> {
    let daprd = workspace
        .packages
        .iter()
        .find(|package| package.name.as_str() == "daprd");
    Ok(daprd
        .context("no package daprd in the workspace")?
        .version
        .to_string())
}
