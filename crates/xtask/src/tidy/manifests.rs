//! Dependencies are chosen once, in the root manifest; members only say which of them they use.

use crate::tree::TextFile;

/// Complaints about dependencies of members that are not taken from the workspace. What begins a workspace of its own is no member.
pub fn complaints(files: &[TextFile]) -> Vec<String> {
    let members = files
        .iter()
        .filter(|file| file.path.ends_with("/Cargo.toml"))
        .filter(|file| !file.text.lines().any(|line| line.trim() == "[workspace]"));
    members.flat_map(of_manifest).collect()
}

fn of_manifest(file: &TextFile) -> Vec<String> {
    let mut found = Vec::new();
    let mut section = Section::Other;
    let close = |section: &Section, found: &mut Vec<String>| {
        if let Section::Single {
            name,
            inherited: false,
        } = section
        {
            found.push(format!("{}: take {name} from the workspace", file.path));
        }
    };
    for line in file.text.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            close(&section, &mut found);
            section = Section::of(header.trim_end_matches(']'));
            continue;
        }
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let compact: String = line.split_whitespace().collect();
        match &mut section {
            Section::Other => {}
            Section::Single { inherited, .. } => *inherited |= compact == "workspace=true",
            Section::List => {
                let inherits =
                    compact.contains(".workspace=true") || compact.contains("{workspace=true");
                // The rest of a dependency whose features stand on lines of their own.
                let continues = !compact.contains('=');
                if !inherits && !continues {
                    let name = compact.split(['=', '.']).next().unwrap_or_default();
                    found.push(format!("{}: take {name} from the workspace", file.path));
                }
            }
        }
    }
    close(&section, &mut found);
    found
}

enum Section {
    /// `[dependencies]` and its like.
    List,
    /// `[dependencies.name]`.
    Single {
        name: String,
        inherited: bool,
    },
    Other,
}

impl Section {
    fn of(header: &str) -> Self {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let is_target = header.starts_with("target.");
            if header == kind || (is_target && header.ends_with(&format!(".{kind}"))) {
                return Self::List;
            }
            let single = header
                .split_once(&format!("{kind}."))
                .filter(|(before, _)| before.is_empty() || is_target);
            if let Some((_, name)) = single {
                return Self::Single {
                    name: name.to_owned(),
                    inherited: false,
                };
            }
        }
        Self::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> usize {
        complaints(&[TextFile {
            path: "a/Cargo.toml".into(),
            text: text.into(),
        }])
        .len()
    }

    #[test]
    fn dependencies_come_from_the_workspace() {
        assert_eq!(
            count("[package]\nversion = \"1\"\n[dependencies]\nserde.workspace = true\n"),
            0
        );
        assert_eq!(
            count(
                "[dependencies]\nkube = { workspace = true, features = [\n    \"client\",\n] }\n"
            ),
            0
        );
        assert_eq!(count("[dependencies]\nserde = \"1\"\n"), 1);
        assert_eq!(
            count("[dev-dependencies]\nserde = { version = \"1\" }\nrand.version = \"1\"\n"),
            2
        );
        assert_eq!(count("[target.'cfg(unix)'.dependencies]\nnix = \"1\"\n"), 1);
        assert_eq!(count("[dependencies.serde]\nversion = \"1\"\n"), 1);
        assert_eq!(
            count("[build-dependencies.serde]\nworkspace = true\n[features]\na = []\n"),
            0
        );
        assert_eq!(count("[workspace]\n[dependencies]\nserde = \"1\"\n"), 0);
    }
}
