//! Which strings count as true in annotations, metadata and environment (contract 00).

/// True for `y`, `yes`, `true`, `t`, `on` and `1` in any case, with surrounding white space ignored;
/// every other string is false, so there is no error.
pub fn is_truthy(text: &str) -> bool {
    let text = text.trim();
    ["y", "yes", "true", "t", "on", "1"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::is_truthy;

    #[test]
    fn words_in_any_case_are_true_and_everything_else_is_not() {
        assert!(is_truthy(" Yes\n"));
        assert!(!is_truthy("enabled"));
        assert!(!is_truthy("yes yes"));
    }
}
