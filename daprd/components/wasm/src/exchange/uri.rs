//! The URI that a guest sets: a path with a query, or a whole URL, of which only those count.

use http::{
    Uri,
    uri::{PathAndQuery, Scheme},
};

use super::Misuse;

/// Reads it. What a guest leaves unescaped is escaped; nothing at all is the root.
pub fn parse(text: &[u8]) -> Result<PathAndQuery, Misuse> {
    let no = |problem: &str| {
        let text = String::from_utf8_lossy(text);
        Misuse(format!("{text:?} is no URI of a request: {problem}"))
    };
    let path = path(text).ok_or_else(|| no("it has to begin with a slash"))?;
    let end = path.iter().position(|byte| *byte == b'?');
    let (before, _) = path.split_at(end.unwrap_or(path.len()));
    if !escapes_are_whole(before) {
        return Err(no("an escape is broken"));
    }
    let mut escaped = String::with_capacity(path.len());
    for byte in path {
        match *byte {
            byte if byte.is_ascii_control() => return Err(no("it has control characters")),
            byte if stands_for_itself(byte) => escaped.push(char::from(byte)),
            byte => escaped += &format!("%{byte:02X}"),
        }
    }
    PathAndQuery::try_from(escaped).map_err(|error| no(&error.to_string()))
}

/// The same URI with another path.
pub fn with_path(uri: &Uri, path: PathAndQuery) -> Result<Uri, Misuse> {
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path);
    if parts.authority.is_some() && parts.scheme.is_none() {
        parts.scheme = Some(Scheme::HTTP);
    }
    Uri::from_parts(parts).map_err(|error| Misuse(error.to_string()))
}

fn path(text: &[u8]) -> Option<&[u8]> {
    if text.is_empty() {
        return Some(b"/");
    }
    if text.starts_with(b"/") {
        return Some(text);
    }
    let after = text.windows(3).position(|three| three == b"://")? + 3;
    let scheme = &text[..after - 3];
    if scheme.is_empty() || !scheme.iter().all(u8::is_ascii_alphanumeric) {
        return None;
    }
    let rest = &text[after..];
    match rest.iter().position(|byte| matches!(byte, b'/' | b'?')) {
        None => Some(b"/"),
        Some(at) => Some(&rest[at..]).filter(|path| path.starts_with(b"/")),
    }
}

fn escapes_are_whole(path: &[u8]) -> bool {
    let mut bytes = path.iter();
    while let Some(byte) = bytes.next() {
        let mut digit = || bytes.next().is_some_and(u8::is_ascii_hexdigit);
        if *byte == b'%' && !(digit() && digit()) {
            return false;
        }
    }
    true
}

fn stands_for_itself(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%[]".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_path_and_query_count() {
        for (text, wanted) in [
            ("", "/"),
            ("/a?b=c", "/a?b=c"),
            ("/a?", "/a?"),
            ("/a b#c", "/a%20b%23c"),
            ("/%41/ä", "/%41/%C3%A4"),
            ("http://elsewhere:1/a?b", "/a?b"),
            ("http://elsewhere", "/"),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap().as_str(), wanted, "{text}");
        }
        for no in [
            "a",
            "a/b",
            "/%4",
            "/%zz",
            "/a\nb",
            "/a\0",
            "://a/",
            "http://a?b",
        ] {
            assert!(parse(no.as_bytes()).is_err(), "{no:?}");
        }
    }

    #[test]
    fn scheme_and_authority_stay() {
        let uri = Uri::from_static("https://here/a?b");
        let uri = with_path(&uri, parse(b"/c").unwrap()).unwrap();
        assert_eq!(uri, "https://here/c");
    }
}
