//! The rules of the repository as tests, one per rule, so that the name of what fails says what to mend.

use std::sync::LazyLock;

use xtask::tidy::{RULES, Repository, features, graph, licences};
use xtask::{generate, tree};

static REPOSITORY: LazyLock<Repository> =
    LazyLock::new(|| Repository::read(&tree::root()).expect("the repository can be read"));

fn none(complaints: &[String]) {
    assert!(
        complaints.is_empty(),
        "{} complaints:\n{}",
        complaints.len(),
        complaints.join("\n")
    );
}

fn rule(name: &str) {
    let (_, rule) = RULES
        .iter()
        .find(|(known, _)| *known == name)
        .expect("a known rule");
    none(&rule(&REPOSITORY));
}

#[test]
fn the_repository_is_seen() {
    assert!(
        REPOSITORY
            .files
            .iter()
            .any(|file| file.path == "crates/xtask/tests/tidy.rs")
    );
    assert!(REPOSITORY.members.workspace_packages().len() > 5);
}

#[test]
fn crates_use_lower_floors_only() {
    rule("floors");
}

#[test]
fn sources_are_short_and_introduced() {
    rule("sources");
}

#[test]
fn names_say_something() {
    rule("names");
}

#[test]
fn dependencies_come_from_the_workspace() {
    rule("manifests");
}

#[test]
fn imitations_of_upstream_are_listed() {
    rule("compat");
}

#[test]
fn only_the_catalog_names_components() {
    rule("catalog");
}

#[test]
fn nothing_banned_is_compiled() {
    none(&graph::complaints(&tree::root()).expect("cargo lists what is compiled"));
}

#[test]
fn libraries_are_compiled_once() {
    none(&features::complaints(&tree::root()).expect("cargo lists the features"));
}

#[test]
fn licences_and_registries_are_allowed() {
    none(&licences::complaints(&tree::root()).expect("cargo describes the libraries"));
}

#[test]
fn printed_files_are_fresh() {
    none(&generate::stale(&tree::root()).expect("the folders can be read"));
}

#[test]
fn every_rule_has_a_test() {
    let source = include_str!("tidy.rs");
    for (name, _) in RULES {
        assert!(
            source.contains(&format!("rule(\"{name}\")")),
            "no test runs the rule {name}"
        );
    }
}
