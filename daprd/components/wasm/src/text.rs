//! Texts that a module or its guest has a part in, as they may stand in logs and errors: on one line, and not for ever.

/// Longest reason, in bytes: what a module names, and a guest hands over, may be as long as its memory.
pub const MOST_REASON: usize = 512;

/// Control characters would let a guest write lines that look like the sidecar's own.
pub fn one_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end();
    text.chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect()
}

/// The reason of an error, cut where it is longer than [`MOST_REASON`].
pub fn reason(text: impl ToString) -> String {
    let text = text.to_string();
    let cut = text.floor_char_boundary(MOST_REASON);
    let mut reason = one_line(&text.as_bytes()[..cut]);
    if cut < text.len() {
        reason.push_str("...");
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_short_line() {
        assert_eq!(reason("a\nb\x1b[1m"), "a b [1m");
        let long = reason("\u{e9}".repeat(MOST_REASON));
        assert_eq!(long.len(), MOST_REASON + 3);
        assert!(long.ends_with("\u{e9}..."));
    }
}
