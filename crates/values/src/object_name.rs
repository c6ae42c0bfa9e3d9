//! Names of Kubernetes that come from outside, in tokens, annotations and requests: they stand in paths, and one that is no name must not become
//! another path, or a query that lifts deadlines.

/// The longest name in Kubernetes.
pub const LONGEST: usize = 253;

/// Whether a text may be the name of an object, or of a namespace: one segment of a path that means nothing else.
pub fn is_object_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let is_dots = text.bytes().all(|byte| byte == b'.');
    text.len() <= LONGEST && !is_dots && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_another_path_is_no_name() {
        for name in ["a", "dapr-system", "a.b", "my_app", "x..y"] {
            assert!(is_object_name(name), "{name}");
        }
        let long = "a".repeat(LONGEST + 1);
        for text in [
            "",
            ".",
            "..",
            "a/b",
            "a?watch=true",
            "a#b",
            "a%2fb",
            "a b",
            "\u{e4}",
            &long,
        ] {
            assert!(!is_object_name(text), "{text}");
        }
    }
}
