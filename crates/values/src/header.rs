//! Header names as Go spells them, for what shows names to users: `x-request-id` is `X-Request-Id`.

/// The name with a capital at each word.
pub fn canonical(name: &str) -> String {
    let mut upper = true;
    let letters = name.chars().map(|letter| {
        let shown = match upper {
            true => letter.to_ascii_uppercase(),
            false => letter.to_ascii_lowercase(),
        };
        upper = letter == '-';
        shown
    });
    letters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_begin_with_a_capital() {
        assert_eq!(canonical("x-request-id"), "X-Request-Id");
        assert_eq!(canonical("ETAG"), "Etag");
    }
}
