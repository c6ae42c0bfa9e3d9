//! SQL's LIKE as the pattern language of Redis: `%` becomes `*`, `_` becomes `?`, and what Redis takes for a wildcard is escaped.

/// Translates a pattern.
pub fn from_like(pattern: &str) -> String {
    let mut glob = String::with_capacity(pattern.len());
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '%' => glob.push('*'),
            '_' => glob.push('?'),
            // A backslash at the very end stands for itself.
            '\\' => literal(&mut glob, characters.next().unwrap_or('\\')),
            other => literal(&mut glob, other),
        }
    }
    glob
}

fn literal(glob: &mut String, character: char) {
    if matches!(character, '*' | '?' | '[' | ']' | '^' | '\\') {
        glob.push('\\');
    }
    glob.push(character);
}

#[cfg(test)]
mod tests {
    use super::from_like;

    #[test]
    fn patterns_are_translated() {
        for (like, glob) in [
            ("app||%", "app||*"),
            ("a_b", "a?b"),
            ("a\\_b\\%", "a_b%"),
            ("a*b?[c]", "a\\*b\\?\\[c\\]"),
            ("a\\\\b", "a\\\\b"),
            ("end\\", "end\\\\"),
        ] {
            assert_eq!(from_like(like), glob, "{like}");
        }
    }
}
