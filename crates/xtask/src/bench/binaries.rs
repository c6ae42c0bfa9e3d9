//! Which binaries are measured: ours, or others by path.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use crate::programs::{self, DIST, RELEASE};

/// A program with a name for the result.
#[derive(Clone, Debug)]
pub(super) struct Binary {
    /// What the columns are headed with.
    pub label: String,
    /// Which program it is: decides its flags.
    pub program: String,
    pub path: PathBuf,
}

/// A binary as a flag spells it: `program=path`, or `label:program=path`.
pub(super) fn parse(text: &str) -> Result<Binary> {
    let (name, path) = text
        .split_once('=')
        .with_context(|| format!("{text:?} is not program=path"))?;
    let (label, program) = match name.split_once(':') {
        Some((label, program)) => (format!("{label} {program}"), program.to_owned()),
        None => (name.to_owned(), name.to_owned()),
    };
    let path = PathBuf::from(path);
    ensure!(path.is_file(), "{} is no file", path.display());
    Ok(Binary {
        label,
        program,
        path,
    })
}

/// The sidecars that flags name, each as `path` or `label:daprd=path`; ours if none is named.
pub(super) fn daprds(flags: &[String]) -> Result<Vec<Binary>> {
    if flags.is_empty() {
        return Ok(vec![own("daprd")?]);
    }
    let named = |text: &String| match text.contains('=') {
        true => parse(text),
        false => parse(&format!("{text}:daprd={text}")),
    };
    flags.iter().map(named).collect()
}

/// What flags name, or our build of a program.
pub(super) fn several(flags: &[String], program: &str) -> Result<Vec<Binary>> {
    if flags.is_empty() {
        return Ok(vec![own(program)?]);
    }
    flags.iter().map(|text| parse(text)).collect()
}

/// What a flag names, or our build of a program.
pub(super) fn one(flag: Option<&str>, program: &str) -> Result<Binary> {
    flag.map_or_else(|| own(program), parse)
}

/// Our own build of a program: the published profile if it was built, else the everyday one.
pub(super) fn own(program: &str) -> Result<Binary> {
    // This chore is itself a product of the build, in target/<profile>.
    let chore = std::env::current_exe()?;
    let target = chore
        .ancestors()
        .nth(2)
        .context("the chore has no target folder")?;
    for profile in [DIST, RELEASE] {
        let path = programs::folder(target, profile).join(program);
        if path.is_file() {
            let label = format!("{program} ({profile})");
            return Ok(Binary {
                label,
                program: program.to_owned(),
                path,
            });
        }
    }
    bail!("{program} was not built: `xtask build --profile {DIST}` does it")
}
