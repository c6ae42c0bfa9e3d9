//! What a change touches: the files that differ from where the branch began, and the crates that they belong to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The branch that changes go into.
const TRUNK: &str = "origin/main";

/// The crates with changed files, of all crates with their folders. None without git or without a history: then no order
/// is better than another.
pub fn crates(root: &Path, folders: &BTreeMap<String, PathBuf>) -> BTreeSet<String> {
    let Some(base) = base(root) else {
        return BTreeSet::new();
    };
    let tracked = git(root, &["diff", "--name-only", "--no-renames", &base]);
    let new = git(root, &["ls-files", "--others", "--exclude-standard"]);
    let files = [tracked, new].map(Option::unwrap_or_default).join("\n");
    owners(root, files.lines(), folders)
}

/// Where the branch left the trunk; on the trunk itself the commit before.
fn base(root: &Path) -> Option<String> {
    let head = git(root, &["rev-parse", "HEAD"])?;
    let fork = git(root, &["merge-base", "HEAD", TRUNK]).filter(|fork| *fork != head);
    fork.or_else(|| git(root, &["rev-parse", "--verify", "--quiet", "HEAD~1"]))
}

fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(root)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The crate of a file has the longest of the folders above it, since crates lie inside others.
fn owners<'a>(
    root: &Path,
    files: impl Iterator<Item = &'a str>,
    folders: &BTreeMap<String, PathBuf>,
) -> BTreeSet<String> {
    let owner = |file: &str| {
        let path = root.join(file);
        let above = folders
            .iter()
            .filter(|(_, folder)| path.starts_with(folder));
        let (name, _) = above.max_by_key(|(_, folder)| folder.as_os_str().len())?;
        Some(name.clone())
    };
    files.filter_map(owner).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_belongs_to_the_innermost_crate() {
        let root = Path::new("/r");
        let folders = [("daprd", "/r/daprd"), ("api", "/r/daprd/api")];
        let folders = folders.map(|(name, folder)| (name.to_owned(), PathBuf::from(folder)));
        let files = ["daprd/api/src/lib.rs", "README.md", "daprd-notes/x"];
        let found = owners(root, files.into_iter(), &folders.clone().into());
        assert_eq!(found, BTreeSet::from(["api".to_owned()]));
        let found = owners(root, ["daprd/src/lib.rs"].into_iter(), &folders.into());
        assert_eq!(found, BTreeSet::from(["daprd".to_owned()]));
    }
}
