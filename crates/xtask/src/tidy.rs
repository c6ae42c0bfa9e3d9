//! The rules of the repository that a program can check, in seconds. Each rule is a function from what it
//! looks at to a list of complaints; `tests/tidy.rs` runs them all.

pub mod catalog;
pub mod compat;
pub mod features;
pub mod floors;
pub mod graph;
pub mod licences;
pub mod manifests;
pub mod names;
pub mod sources;

use std::path::Path;

use anyhow::Context;
use cargo_metadata::{Metadata, MetadataCommand};

use crate::tree::{self, TextFile};

/// Flags of the chore: none.
#[derive(clap::Args)]
pub struct Arguments {}

/// What rules look at.
pub struct Repository {
    /// All text files.
    pub files: Vec<TextFile>,
    /// The members of the workspace and their direct dependencies.
    pub members: Metadata,
}

impl Repository {
    /// Reads the repository at a root.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let members = MetadataCommand::new()
            .current_dir(root)
            .no_deps()
            .other_options(["--offline".to_owned()])
            .exec()
            .context("cannot read the workspace")?;
        Ok(Self {
            files: tree::files(root)?,
            members,
        })
    }
}

/// Fails with all complaints of all rules.
pub fn run(_: &Arguments) -> anyhow::Result<()> {
    let root = tree::root();
    let repository = Repository::read(&root)?;
    let mut complaints = Vec::new();
    for (_, rule) in RULES {
        complaints.extend(rule(&repository));
    }
    complaints.extend(graph::complaints(&root)?);
    complaints.extend(features::complaints(&root)?);
    complaints.extend(licences::complaints(&root)?);
    complaints.extend(crate::generate::stale(&root)?);
    anyhow::ensure!(
        complaints.is_empty(),
        "not tidy:\n{}",
        complaints.join("\n")
    );
    Ok(())
}

/// A rule: complaints about a repository, one line each.
pub type Rule = fn(&Repository) -> Vec<String>;

/// The rules that need nothing but the repository's own files.
pub const RULES: [(&str, Rule); 6] = [
    ("floors", |it| {
        floors::complaints(&floors::members(&it.members))
    }),
    ("sources", |it| sources::complaints(&it.files)),
    ("names", |it| names::complaints(&it.files)),
    ("manifests", |it| manifests::complaints(&it.files)),
    ("compat", |it| compat::complaints(&it.files)),
    ("catalog", |it| catalog::complaints(&it.files)),
];
