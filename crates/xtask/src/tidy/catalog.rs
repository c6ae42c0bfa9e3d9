//! Component crates are named in one file, so that the list of what daprd can do is one list.

use regex::Regex;

use crate::tree::TextFile;

/// The one place.
const CATALOG: &str = "daprd/src/catalog.rs";

/// Complaints about the sidecar's own sources that name a component crate. (Other crates cannot: the
/// floors forbid the dependency.)
pub fn complaints(files: &[TextFile]) -> Vec<String> {
    let name = Regex::new(r"\bcomponent_([a-z0-9]+)::").expect("the pattern is fixed");
    let sources = files
        .iter()
        .filter(|file| file.path.starts_with("daprd/src/") && file.path != CATALOG);
    let mut found = Vec::new();
    for file in sources {
        for captures in name.captures_iter(&file.text) {
            let family = &captures[1];
            let is_crate = files
                .iter()
                .any(|other| other.path == format!("daprd/components/{family}/Cargo.toml"));
            if is_crate {
                found.push(format!(
                    "{}: component_{family} belongs into {CATALOG}",
                    file.path
                ));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_catalog_names_component_crates() {
        let file = |path: &str, text: &str| TextFile {
            path: path.into(),
            text: text.into(),
        };
        let files = [
            file("daprd/components/redis/Cargo.toml", ""),
            file(CATALOG, "component_redis::register(c)"),
            file(
                "daprd/src/run.rs",
                "component_redis::register(c); component_type::x()",
            ),
            file("daprd/pubsub/src/lib.rs", "component_redis::x()"),
        ];
        assert_eq!(
            complaints(&files),
            ["daprd/src/run.rs: component_redis belongs into daprd/src/catalog.rs"]
        );
    }
}
