//! Words that say nothing, kept out of the names of types and modules.

use regex::Regex;

use crate::tree::TextFile;

/// Words that may not be part of a name, in lower case.
const BANNED: [&str; 12] = [
    "manager",
    "processor",
    "handler",
    "helper",
    "util",
    "common",
    "misc",
    "base",
    "impl",
    "data",
    "universal",
    "meta",
];

/// Complaints about names of types and modules, and of the files that hold modules.
pub fn complaints(files: &[TextFile]) -> Vec<String> {
    let definition = Regex::new(
        r"(?m)^[ \t]*(?:pub(?:\([^)]*\))?[ \t]+)?(?:struct|enum|trait|union|mod)[ \t]+([A-Za-z_][A-Za-z0-9_]*)|^(?:pub(?:\([^)]*\))?[ \t]+)?type[ \t]+([A-Za-z_][A-Za-z0-9_]*)",
    )
    .expect("the pattern is fixed");
    let sources = files
        .iter()
        .filter(|file| file.is_rust() && !file.is_test() && !file.is_generated());
    sources
        .flat_map(|file| of_file(file, &definition))
        .collect()
}

fn of_file(file: &TextFile, definition: &Regex) -> Vec<String> {
    let mut found = Vec::new();
    let below_crate = file
        .path
        .split_once("src/")
        .map_or(file.path.as_str(), |(_, below)| below);
    for part in below_crate.trim_end_matches(".rs").split('/') {
        if let Some(word) = banned_word(part) {
            found.push(format!("{}: the file name says {word:?}", file.path));
        }
    }
    for captures in definition.captures_iter(&file.text) {
        let Some(name) = captures.get(1).or_else(|| captures.get(2)) else {
            continue;
        };
        if let Some(word) = banned_word(name.as_str()) {
            let line = file.text[..name.start()].lines().count();
            found.push(format!(
                "{}:{line}: {} says {word:?}",
                file.path,
                name.as_str()
            ));
        }
    }
    found
}

/// The first banned word of a name. `HttpHandler` and its like are what the field calls them.
fn banned_word(name: &str) -> Option<&'static str> {
    let words = words(name);
    let http = words.iter().any(|word| word == "http");
    let is = |word: &str, banned: &str| word == banned || word.strip_suffix('s') == Some(banned);
    BANNED
        .into_iter()
        .filter(|banned| !(http && *banned == "handler"))
        .find(|banned| words.iter().any(|word| is(word, banned)))
}

/// The words of a name in any of Rust's spellings, in lower case.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut previous_lower = false;
    for letter in name.chars() {
        if letter == '_' || letter == '-' || (letter.is_uppercase() && previous_lower) {
            words.push(String::new());
        }
        if letter.is_alphanumeric()
            && let Some(last) = words.last_mut()
        {
            last.extend(letter.to_lowercase());
        }
        previous_lower = letter.is_lowercase() || letter.is_ascii_digit();
    }
    words
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
    fn empty_words_are_found() {
        for text in [
            "pub struct ActorManager;",
            "pub(crate) enum EventData {}",
            "    struct FooImpl;",
            "mod utils;",
            "pub trait Helper {}",
            "type StateBase = u8;",
        ] {
            assert_eq!(count("a/src/lib.rs", text), 1, "{text}");
        }
        assert_eq!(count("a/src/common.rs", ""), 1);
        assert_eq!(count("a/src/http/handlers.rs", ""), 1);
    }

    #[test]
    fn other_words_pass() {
        for text in [
            "pub struct Metadata;",
            "impl Body for X {\n    type Data = Bytes;\n}",
            "struct Database;",
            "mod base64;",
            "pub struct HttpHandler;",
            "// struct FooManager",
            "let data = 1;",
        ] {
            assert_eq!(count("a/src/lib.rs", text), 0, "{text}");
        }
        assert_eq!(count("e2e/tests/common.rs", "mod helper;"), 0);
    }
}
