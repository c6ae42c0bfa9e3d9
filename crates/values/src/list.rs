//! Comma-separated lists and `key=value` lists, as flags and annotations spell them.

/// The items of a comma-separated list, trimmed; empty items are dropped.
pub fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

/// The items of a comma-separated list as owned strings.
pub fn owned(text: &str) -> Vec<String> {
    items(text).map(str::to_owned).collect()
}

/// The pairs of a `key=value,key2=value2` list, both sides trimmed. An item without `=` is handed back as the error.
pub fn pairs(text: &str) -> Result<Vec<(&str, &str)>, &str> {
    items(text)
        .map(|item| match item.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => Ok((key.trim(), value.trim())),
            _ => Err(item),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_are_dropped() {
        assert_eq!(owned(" a, ,b,"), ["a", "b"]);
        assert!(owned("").is_empty());
    }

    #[test]
    fn pairs_keep_equals_signs_of_the_value() {
        assert_eq!(pairs("a=b=c, d = e"), Ok(vec![("a", "b=c"), ("d", "e")]));
        assert_eq!(pairs("a=b,nope"), Err("nope"));
    }
}
