//! Rules on single files: how long, how they begin, and that they name no path of a machine.

use regex::Regex;

use crate::tree::TextFile;

/// Lines that a source file may have.
const MAX_LINES: usize = 800;

/// Complaints about single files.
pub fn complaints(files: &[TextFile]) -> Vec<String> {
    let machine = machine_path();
    files
        .iter()
        .flat_map(|file| of_file(file, &machine))
        .collect()
}

/// Absolute paths below folders where people and builders keep their work. The pattern is put together
/// from pieces so that it does not find itself.
fn machine_path() -> Regex {
    let folders = ["home", "root", "work", "Users"].join("|");
    let pattern = format!(r#"(?m)(^|[\s"'`(=:,])/({folders})/[A-Za-z0-9._-]"#);
    Regex::new(&pattern).expect("the pattern is fixed")
}

fn of_file(file: &TextFile, machine: &Regex) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(place) = machine.find(&file.text) {
        let line = file.text[..place.end()].lines().count();
        found.push(format!("{}:{line}: names a path of a machine", file.path));
    }
    if !file.is_rust() || file.is_generated() {
        return found;
    }
    if !file.text.starts_with("//!") {
        found.push(format!(
            "{}: begin with `//!`: what this is and why it exists",
            file.path
        ));
    }
    let lines = file.text.lines().count();
    if lines > MAX_LINES && !file.is_test() {
        found.push(format!(
            "{}: {lines} lines, {MAX_LINES} are allowed",
            file.path
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        complaints(&[TextFile {
            path: path.into(),
            text: text.into(),
        }])
        .len()
    }

    #[test]
    fn sources_have_a_head_and_an_end() {
        assert_eq!(count("a/src/lib.rs", "//! A.\n"), 0);
        assert_eq!(count("a/src/lib.rs", "use a;\n"), 1);
        assert_eq!(
            count("a/src/lib.rs", &format!("//! A.\n{}", "\n".repeat(900))),
            1
        );
        assert_eq!(
            count("a/src/b/tests.rs", &format!("//! A.\n{}", "\n".repeat(900))),
            0
        );
        assert_eq!(count("a/notes.md", &"\n".repeat(900)), 0);
    }

    #[test]
    fn machine_paths_are_found() {
        for folder in ["home", "root", "work", "Users"] {
            assert_eq!(count("a.md", &format!("see /{folder}/x/y")), 1, "{folder}");
            assert_eq!(
                count("a.md", &format!("see https://host/{folder}/x/y")),
                0,
                "{folder}"
            );
        }
        assert_eq!(count("a.md", "the /root and /workspace/x"), 0);
    }
}
