//! Files that are printed from code: the custom resource definitions, for this repository's readers and
//! for the Helm chart, and pages that tests of other crates print. They are committed. A tidy check fails when definitions
//! are stale, and the tests fail when the pages are, so that this program need not be built from all that they are about.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::{
    programs::{self, EVERYTHING, RELEASE},
    tree,
};

/// Folders that hold definitions, and nothing else that ends in `.yaml` directly inside.
const DEFINITION_FOLDERS: [&str; 2] = ["crds", "charts/dapr/crds"];

/// What the names of the tests hold that print pages: `docs/api.md` and `docs/components.md`.
const PAGES: &str = "the_list_of_";

/// What makes those tests print.
const PRINT: &str = "DAPR_PRINT";

/// Flags of the chore.
#[derive(clap::Args)]
pub struct Arguments {
    /// Write nothing, and fail if something would be written.
    #[arg(long)]
    check: bool,
}

/// Writes stale files, or complains about them.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let root = tree::root();
    if !arguments.check {
        write(&root)?;
        return pages(&root, true);
    }
    let stale = stale(&root)?;
    anyhow::ensure!(
        stale.is_empty(),
        "stale, run `cargo run -p xtask -- gen`:\n{}",
        stale.join("\n")
    );
    pages(&root, false)
}

/// Runs the tests that compare the pages with what they are printed from, or print them.
fn pages(root: &Path, print: bool) -> anyhow::Result<()> {
    let mut command = programs::cargo();
    command.current_dir(root).env_remove(PRINT);
    if print {
        command.env(PRINT, "1");
    }
    // As this program was built, and with the selection of all else: another profile or another selection would compile
    // libraries once more, which the tests that come after it do not use.
    let profile = if cfg!(debug_assertions) {
        "dev"
    } else {
        RELEASE
    };
    command
        .args(["test", "--quiet", "--profile", profile])
        .args(EVERYTHING)
        .arg(PAGES);
    let status = command.status().context("cannot run cargo")?;
    anyhow::ensure!(status.success(), "a page differs, or cannot be printed");
    Ok(())
}

/// The files as they should be, by path below the root.
pub fn files() -> Vec<(PathBuf, String)> {
    let definitions = crds::definitions::all();
    let in_folder = |folder: &'static str| {
        definitions.iter().map(move |definition| {
            (
                Path::new(folder).join(definition.file_name()),
                definition.yaml(),
            )
        })
    };
    DEFINITION_FOLDERS.into_iter().flat_map(in_folder).collect()
}

/// Writes all files and deletes definitions that are no more.
pub fn write(root: &Path) -> anyhow::Result<()> {
    for path in leftovers(root)? {
        std::fs::remove_file(root.join(&path))
            .with_context(|| format!("cannot delete {}", path.display()))?;
    }
    for (path, text) in files() {
        let target = root.join(&path);
        if std::fs::read_to_string(&target).is_ok_and(|old| old == text) {
            continue;
        }
        let folder = target.parent().expect("generated files lie in folders");
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        std::fs::write(&target, text)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// What differs from [`files`]: one line per file.
pub fn stale(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut found: Vec<String> = leftovers(root)?
        .iter()
        .map(|path| format!("{}: not printed by anything", path.display()))
        .collect();
    for (path, text) in files() {
        match std::fs::read_to_string(root.join(&path)) {
            Ok(old) if old == text => {}
            Ok(_) => found.push(format!("{}: differs from what is printed", path.display())),
            Err(_) => found.push(format!("{}: missing", path.display())),
        }
    }
    Ok(found)
}

fn leftovers(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let wanted: Vec<PathBuf> = files().into_iter().map(|(path, _)| path).collect();
    let mut found = Vec::new();
    for folder in DEFINITION_FOLDERS {
        let Ok(entries) = std::fs::read_dir(root.join(folder)) else {
            continue;
        };
        for entry in entries {
            let path = Path::new(folder).join(entry?.file_name());
            let is_yaml = path
                .extension()
                .is_some_and(|extension| extension == "yaml");
            if is_yaml && !wanted.contains(&path) {
                found.push(path);
            }
        }
    }
    Ok(found)
}
