//! Crates that must not be built in. The list is that of `deny.toml`; this check needs no other tool than
//! cargo, and looks at what is really compiled for this machine (a lock file also names what is not).

use std::path::Path;

use anyhow::Context;
use regex::Regex;

use crate::programs::{EVERYTHING, cargo};

/// A banned crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// Name of the crate.
    pub name: String,
    /// Lowest major version that is banned; 0 bans all.
    pub from_major: u64,
    /// Why.
    pub reason: String,
}

/// Complaints about crates that are compiled.
pub fn complaints(root: &Path) -> anyhow::Result<Vec<String>> {
    let list = std::fs::read_to_string(root.join("deny.toml")).context("cannot read deny.toml")?;
    let bans = bans(&list);
    anyhow::ensure!(!bans.is_empty(), "deny.toml bans nothing");
    Ok(judge(&compiled(root)?, &bans))
}

/// The bans of a `deny.toml`.
pub fn bans(text: &str) -> Vec<Ban> {
    let row = Regex::new(r#"crate = "([A-Za-z0-9_-]+)(?:@>=(\d+))?", reason = "([^"]*)""#)
        .expect("the pattern is fixed");
    let read = row.captures_iter(text).map(|captures| Ban {
        name: captures[1].to_owned(),
        from_major: captures
            .get(2)
            .and_then(|major| major.as_str().parse().ok())
            .unwrap_or(0),
        reason: captures[3].to_owned(),
    });
    read.collect()
}

/// Names and versions of all crates in the programs, their tests and what tests them.
fn compiled(root: &Path) -> anyhow::Result<String> {
    let mut cargo = cargo();
    cargo
        .current_dir(root)
        .args(["tree", "--offline", "--prefix", "none", "--format", "{p}"]);
    cargo.args(EVERYTHING);
    let output = cargo.output().context("cannot start cargo")?;
    anyhow::ensure!(
        output.status.success(),
        "cargo tree: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Complaints about a list of lines that begin with `name vMAJOR.MINOR.PATCH`.
fn judge(compiled: &str, bans: &[Ban]) -> Vec<String> {
    let mut found = Vec::new();
    for line in compiled.lines() {
        let mut words = line.split_whitespace();
        let (Some(name), Some(version)) = (words.next(), words.next()) else {
            continue;
        };
        let number = version
            .trim_start_matches('v')
            .split('.')
            .next()
            .and_then(|number| number.parse::<u64>().ok());
        for ban in bans
            .iter()
            .filter(|ban| ban.name == name && number.unwrap_or(0) >= ban.from_major)
        {
            found.push(format!("{name} {version} is compiled in: {}", ban.reason));
        }
    }
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn banned_crates_are_found() {
        let bans = bans(
            "deny = [\n { crate = \"ring\", reason = \"one\" },\n { crate = \"json-patch@>=5\", reason = \"kube\" },\n]",
        );
        assert_eq!(bans.len(), 2);
        assert_eq!(bans[1].from_major, 5);
        let tree = "daprd v0.1.0 (here)\nring v0.17.14\nring v0.17.14 (*)\njson-patch v4.2.0\n";
        assert_eq!(judge(tree, &bans), ["ring v0.17.14 is compiled in: one"]);
        assert_eq!(judge("json-patch v5.0.1\nspring v1.0.0\n", &bans).len(), 1);
    }
}
