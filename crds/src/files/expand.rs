//! `$VAR` and `${VAR}` in the text of Configuration files.

/// Replaces variables in a text; one that `lookup` does not know becomes empty.
///
/// Compat: the rules are those of Go's `os.Expand`, on the whole text and without any escape: `$$` and
/// `$1` are variables too, `${}` and an open `${` vanish, and a `$` before anything else stays. Q-config-expand
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        let (found, length) = variable(&rest[dollar + 1..]);
        match found {
            Found::Name(name) => out.push_str(&lookup(name).unwrap_or_default()),
            Found::Broken => {}
            Found::Plain => out.push('$'),
        }
        rest = &rest[dollar + 1 + length..];
    }
    out.push_str(rest);
    out
}

enum Found<'a> {
    Name(&'a str),
    Broken,
    Plain,
}

/// What stands after a `$`, and how many bytes of it belong to the variable.
fn variable(text: &str) -> (Found<'_>, usize) {
    let special = |byte: u8| {
        matches!(
            byte,
            b'*' | b'#' | b'$' | b'@' | b'!' | b'?' | b'-' | b'0'..=b'9'
        )
    };
    if let Some(inner) = text.strip_prefix('{') {
        return match inner.find('}') {
            None => (Found::Broken, 1),
            Some(0) => (Found::Broken, 2),
            Some(end) => (Found::Name(&inner[..end]), end + 2),
        };
    }
    match text.bytes().next() {
        Some(first) if special(first) => (Found::Name(&text[..1]), 1),
        _ => {
            let word = |byte: u8| byte == b'_' || byte.is_ascii_alphanumeric();
            let length = text.bytes().take_while(|byte| word(*byte)).count();
            if length == 0 {
                (Found::Plain, 0)
            } else {
                (Found::Name(&text[..length]), length)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced() {
        let lookup = |name: &str| match name {
            "HOST" => Some("zipkin".to_owned()),
            "PORT_2" => Some("9411".to_owned()),
            _ => None,
        };
        for (text, expected) in [
            ("http://$HOST:${PORT_2}/", "http://zipkin:9411/"),
            ("a$MISSING.b", "a.b"),
            ("${MISSING}", ""),
            ("cost: 5$", "cost: 5$"),
            ("a $ b", "a $ b"),
            ("$$HOST", "HOST"),
            ("$1x", "x"),
            ("${}x ${open", "x open"),
            ("é$HOSTé", "ézipkiné"),
        ] {
            assert_eq!(expand(text, lookup), expected, "{text}");
        }
    }
}
