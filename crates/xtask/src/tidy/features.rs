//! A library has the same features in programs and in tests, or it would be compiled for each of them, and all that use it
//! as well. What a test needs beyond what programs ask for stands in the manifest of `e2e`, which is built with both.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context;

use crate::programs::{EVERYTHING, cargo};

/// Complaints about libraries that tests would have compiled again.
pub fn complaints(root: &Path) -> anyhow::Result<Vec<String>> {
    let programs = resolved(root, "normal,build")?;
    let tests = resolved(root, "normal,build,dev")?;
    Ok(judge(&programs, &tests))
}

/// A line for each library, of its name, its version and its features.
fn resolved(root: &Path, edges: &str) -> anyhow::Result<String> {
    let output = cargo()
        .current_dir(root)
        .args([
            "tree",
            "--offline",
            "--prefix",
            "none",
            "--format",
            "{p}\t{f}",
        ])
        .args(["--edges", edges])
        .args(EVERYTHING)
        .output()
        .context("cannot start cargo")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "cargo tree: {errors}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn judge(programs: &str, tests: &str) -> Vec<String> {
    let known = features(programs);
    let mut found = Vec::new();
    for (library, sets) in features(tests) {
        let Some(before) = known.get(library) else {
            continue;
        };
        for set in sets.difference(before) {
            found.push(format!("{library} has other features in tests: {set}"));
        }
    }
    found
}

/// What each library is compiled with: for the machine that builds it may be something else than for what is built.
fn features(tree: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in tree.lines() {
        if let Some((library, features)) = line.split_once('\t') {
            let features = features.trim_end_matches("(*)").trim();
            found.entry(library).or_default().insert(features);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_features_in_tests_are_found() {
        let programs = "tokio v1.0.0\tnet\ntokio v1.0.0\tnet (*)\nsyn v2.0.0\tfull\n";
        let tests = "tokio v1.0.0\tnet,test-util\nsyn v2.0.0\tfull\nproptest v1.0.0\tstd\n";
        assert_eq!(judge(programs, programs), [""; 0]);
        assert_eq!(
            judge(programs, tests),
            ["tokio v1.0.0 has other features in tests: net,test-util"]
        );
    }
}
