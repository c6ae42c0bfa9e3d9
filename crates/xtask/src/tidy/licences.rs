//! What is compiled in comes from the one registry and under the licences that `deny.toml` allows. `cargo deny` checks the
//! same and more, but takes longer to build than all that it would look at; this needs no other tool than cargo.

use std::path::Path;

use anyhow::Context;
use cargo_metadata::{MetadataCommand, Package};
use regex::Regex;

use crate::programs;

/// How cargo names the registry that `deny.toml` allows.
const REGISTRY: &str = "registry+";

/// Complaints about libraries of other licences and from elsewhere.
pub fn complaints(root: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(root.join("deny.toml")).context("cannot read deny.toml")?;
    let (licences, registries) = (list(&text, "allow"), list(&text, "allow-registry"));
    anyhow::ensure!(!licences.is_empty(), "deny.toml allows no licence");
    anyhow::ensure!(!registries.is_empty(), "deny.toml allows no registry");
    let target = ["--offline", "--filter-platform", &programs::target()].map(str::to_owned);
    let everything = MetadataCommand::new()
        .current_dir(root)
        .other_options(target)
        .exec()
        .context("cannot read the libraries of the workspace")?;
    let built = everything.resolve.context("cargo resolves")?.nodes;
    let libraries = everything.packages.iter().filter(|package| {
        package.source.is_some() && built.iter().any(|node| node.id == package.id)
    });
    Ok(libraries
        .flat_map(|package| judge(package, &licences, &registries))
        .collect())
}

/// A list of texts of a `deny.toml`.
fn list(text: &str, name: &str) -> Vec<String> {
    let row = format!(r"(?ms)^{name} = \[(.*?)\]");
    let row = Regex::new(&row).expect("the pattern is fixed");
    let item = Regex::new(r#""([^"]*)""#).expect("the pattern is fixed");
    let inside = row
        .captures(text)
        .map_or("", |found| found.get(1).map_or("", |it| it.as_str()));
    item.captures_iter(inside)
        .map(|it| it[1].to_owned())
        .collect()
}

fn judge(package: &Package, licences: &[String], registries: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let name = format!("{} {}", package.name, package.version);
    let source = package
        .source
        .as_ref()
        .map_or("", |source| source.repr.as_str());
    let registry = source.strip_prefix(REGISTRY).unwrap_or_default();
    if !registries.iter().any(|allowed| allowed == registry) {
        found.push(format!("{name} comes from {source}"));
    }
    match &package.license {
        None => found.push(format!("{name} does not say its licence")),
        Some(expression) if !allows(expression, licences) => {
            found.push(format!("{name} is under {expression}"));
        }
        Some(_) => {}
    }
    found
}

/// Whether an SPDX expression can be met with allowed licences; what is not an expression cannot.
fn allows(expression: &str, licences: &[String]) -> bool {
    // Before SPDX, a slash meant a choice.
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let mut words = Words {
        rest: spaced.split_whitespace().peekable(),
        licences,
    };
    let met = words.choice();
    met.unwrap_or(false) && words.rest.next().is_none()
}

struct Words<'a, I: Iterator<Item = &'a str>> {
    rest: std::iter::Peekable<I>,
    licences: &'a [String],
}

impl<'a, I: Iterator<Item = &'a str>> Words<'a, I> {
    fn choice(&mut self) -> Option<bool> {
        let mut met = self.all()?;
        while self.rest.next_if_eq(&"OR").is_some() {
            met |= self.all()?;
        }
        Some(met)
    }

    fn all(&mut self) -> Option<bool> {
        let mut met = self.one()?;
        while self.rest.next_if_eq(&"AND").is_some() {
            met &= self.one()?;
        }
        Some(met)
    }

    fn one(&mut self) -> Option<bool> {
        let first = self.rest.next()?;
        if first == "(" {
            let met = self.choice()?;
            return self.rest.next_if_eq(&")").map(|_| met);
        }
        let licence = match self.rest.next_if_eq(&"WITH") {
            Some(_) => format!("{first} WITH {}", self.rest.next()?),
            None => first.to_owned(),
        };
        Some(self.licences.contains(&licence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_met_by_what_is_allowed() {
        let allowed = list(
            "a = 1\nallow = [\n  \"MIT\",\n  \"A WITH e\",\n]\n",
            "allow",
        );
        assert_eq!(allowed, ["MIT", "A WITH e"]);
        for (expression, met) in [
            ("MIT", true),
            ("MIT OR GPL-3.0", true),
            ("GPL-3.0/MIT", true),
            ("MIT AND GPL-3.0", false),
            ("MIT AND (GPL-3.0 OR A WITH e)", true),
            ("(MIT OR GPL-3.0) AND GPL-3.0", false),
            ("A", false),
            ("A WITH e", true),
            ("(MIT", false),
            ("MIT MIT", false),
            ("", false),
        ] {
            assert_eq!(allows(expression, &allowed), met, "{expression}");
        }
    }
}
