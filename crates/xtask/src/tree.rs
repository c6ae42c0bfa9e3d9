//! The repository as checks see it: the files that are, or would be, committed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

/// Folders that a walk without git leaves out.
const SKIPPED: [&str; 3] = [".git", "target", "dist"];

/// A text file of the repository.
#[derive(Clone, Debug)]
pub struct TextFile {
    /// Path below the root, with `/` between parts.
    pub path: String,
    /// What the file holds.
    pub text: String,
}

impl TextFile {
    /// Whether the file is Rust source.
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether the file holds nothing but tests.
    pub fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs")
            || self
                .path
                .split('/')
                .any(|part| part == "tests" || part == "benches")
    }

    /// Whether a program wrote the file, as its first lines say.
    pub fn is_generated(&self) -> bool {
        let mark = concat!("@gene", "rated");
        self.text.lines().take(5).any(|line| line.contains(mark))
    }
}

/// The root of the repository: two folders above this crate.
pub fn root() -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder
        .ancestors()
        .nth(2)
        .expect("the crate lies in crates/xtask")
        .to_owned()
}

/// All text files of the repository, in order of their paths.
pub fn files(root: &Path) -> anyhow::Result<Vec<TextFile>> {
    let mut paths = match listed_by_git(root) {
        Some(paths) => paths,
        None => walked(root)?,
    };
    paths.sort();
    paths.dedup();
    let read = paths.into_iter().filter_map(|path| {
        // A file that git knows may be gone from disk, and one that is not text is nobody's business here.
        let bytes = std::fs::read(root.join(&path)).ok()?;
        Some(TextFile {
            path,
            text: String::from_utf8(bytes).ok()?,
        })
    });
    Ok(read.collect())
}

fn listed_by_git(root: &Path) -> Option<Vec<String>> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(
        text.split('\0')
            .filter(|path| !path.is_empty())
            .map(str::to_owned)
            .collect(),
    )
}

fn walked(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder)
            .with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                if !SKIPPED.iter().any(|skipped| entry.file_name() == *skipped) {
                    folders.push(path);
                }
            } else if let Ok(below) = path.strip_prefix(root) {
                found.push(below.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    Ok(found)
}
