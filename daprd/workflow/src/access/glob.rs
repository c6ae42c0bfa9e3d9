//! Patterns of names as Go's `path.Match` reads them: `*` and `?` do not go across a slash, `[a-z]` and `[^a]` are classes, and a
//! backslash takes the next character as it is.

/// Whether a pattern is one.
pub fn is_valid(pattern: &str) -> bool {
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' if rest.next().is_none() => return false,
            '[' => {
                let Some((_, left)) = class(rest.as_str(), '\0') else {
                    return false;
                };
                rest = left.chars();
            }
            _ => {}
        }
    }
    true
}

/// Whether a name is one of a pattern's.
pub fn matches(pattern: &str, name: &str) -> bool {
    // Where the last star was, and how much of the name it has taken.
    let mut again: Option<(&str, &str)> = None;
    let (mut pattern, mut name) = (pattern, name);
    loop {
        if let Some(left) = pattern.strip_prefix('*') {
            again = Some((left, name));
            pattern = left;
            continue;
        }
        if pattern.is_empty() && name.is_empty() {
            return true;
        }
        if let Some((left, rest)) = one(pattern, name) {
            (pattern, name) = (left, rest);
            continue;
        }
        let Some((left, taken)) = again else {
            return false;
        };
        let mut rest = taken.chars();
        match rest.next() {
            None | Some('/') => return false,
            Some(_) => {
                again = Some((left, rest.as_str()));
                (pattern, name) = (left, rest.as_str());
            }
        }
    }
}

/// Takes one character off both, where they agree.
fn one<'p, 'n>(pattern: &'p str, name: &'n str) -> Option<(&'p str, &'n str)> {
    let (mut wanted, mut chars) = (pattern.chars(), name.chars());
    let (first, c) = (wanted.next()?, chars.next()?);
    let left = match first {
        '?' if c != '/' => wanted.as_str(),
        '?' => return None,
        '[' => {
            let (is_in, left) = class(wanted.as_str(), c)?;
            if !is_in || c == '/' {
                return None;
            }
            left
        }
        '\\' => {
            let same = wanted.next()? == c;
            same.then_some(wanted.as_str())?
        }
        first => (first == c).then_some(wanted.as_str())?,
    };
    Some((left, chars.as_str()))
}

/// Whether a character is in the class that a pattern goes on with, and what comes after it.
fn class(pattern: &str, c: char) -> Option<(bool, &str)> {
    let (negated, mut rest) = match pattern.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let (mut found, mut ranges) = (false, 0);
    loop {
        if ranges > 0
            && let Some(left) = rest.strip_prefix(']')
        {
            return Some((found != negated, left));
        }
        let low;
        (low, rest) = literal(rest)?;
        let mut high = low;
        if let Some(left) = rest.strip_prefix('-') {
            (high, rest) = literal(left)?;
        }
        found |= low <= c && c <= high;
        ranges += 1;
    }
}

fn literal(pattern: &str) -> Option<(char, &str)> {
    let mut chars = pattern.chars();
    match chars.next()? {
        '\\' => Some((chars.next()?, chars.as_str())),
        '-' | ']' => None,
        c => Some((c, chars.as_str())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_matched_as_go_does() {
        for (pattern, name, wanted) in [
            ("*", "anything", true),
            ("*", "a/b", false),
            ("Order*", "OrderShip", true),
            ("Order*", "order", false),
            ("*Ship*", "OrderShipping", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("", "", true),
            ("", "a", false),
            ("a*b*c", "a1b2b3c", true),
        ] {
            assert_eq!(matches(pattern, name), wanted, "{pattern} {name}");
        }
        for broken in ["[", "[a", "[]a]", "[-]", "a\\", "[a-]"] {
            assert!(!is_valid(broken), "{broken}");
        }
    }
}
