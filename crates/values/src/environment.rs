//! Variables in text: `$NAME` and `${NAME}` replaced by what a lookup knows, as shells and Go programs do it.

/// Replaces `$NAME` and `${NAME}`; an unknown name becomes empty text. A `$` that starts no name stays as it is.
/// The lookup is handed in because nothing below a program reads the process environment.
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (name, skip) = match rest.strip_prefix('{') {
            Some(braced) => match braced.find('}') {
                Some(end) => (&braced[..end], end + 2),
                None => ("", 0),
            },
            None => {
                let end = rest
                    .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                    .unwrap_or(rest.len());
                (&rest[..end], end)
            }
        };
        if skip == 0 {
            out.push('$');
            continue;
        }
        out.push_str(&lookup(name).unwrap_or_default());
        rest = &rest[skip..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn names_are_replaced_once() {
        let lookup = |name: &str| (name == "HOME").then(|| "/home/$me".to_owned());
        assert_eq!(
            expand("$HOME/.dapr:${HOME}", lookup),
            "/home/$me/.dapr:/home/$me"
        );
        assert_eq!(expand("a$UNKNOWN-b ${open $ $", lookup), "a-b ${open $ $");
    }
}
