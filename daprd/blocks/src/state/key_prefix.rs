//! Which key a state store sees: the caller's, behind a prefix that keeps apps apart (contract 2.9).

use super::Error;

/// Separates prefix and key; illegal in either.
pub const SEPARATOR: &str = "||";

/// The strategy of a store, from its metadata `keyPrefix`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPrefix {
    /// Keys are stored as they are.
    None,
    /// Keys are stored behind this text.
    Text(String),
}

impl KeyPrefix {
    /// Reads the strategy: `appid` (the default), `name`, `namespace`, `none`, or any other text.
    ///
    /// # Errors
    /// [`Error::IllegalKey`] where the text holds the separator.
    pub fn parse(
        strategy: Option<&str>,
        store: &str,
        app_id: &str,
        namespace: &str,
    ) -> Result<Self, Error> {
        let strategy = strategy.unwrap_or("appid").to_lowercase();
        check(store, &strategy)?;
        let text = match strategy.as_str() {
            "none" => return Ok(Self::None),
            "name" => store.to_owned(),
            "appid" => app_id.to_owned(),
            "namespace" if app_id.is_empty() || namespace.is_empty() => app_id.to_owned(),
            "namespace" => format!("{namespace}.{app_id}"),
            _ => strategy,
        };
        Ok(if text.is_empty() {
            Self::None
        } else {
            Self::Text(text)
        })
    }

    /// The key to store under.
    ///
    /// # Errors
    /// [`Error::IllegalKey`] where the key holds the separator.
    pub fn apply(&self, store: &str, key: &str) -> Result<String, Error> {
        check(store, key)?;
        Ok(match self {
            Self::None => key.to_owned(),
            Self::Text(prefix) => format!("{prefix}{SEPARATOR}{key}"),
        })
    }

    /// The caller's key of a stored one.
    pub fn strip<'a>(&self, stored: &'a str) -> &'a str {
        match self {
            Self::None => stored,
            Self::Text(prefix) => stored
                .strip_prefix(prefix.as_str())
                .and_then(|rest| rest.strip_prefix(SEPARATOR))
                .unwrap_or(stored),
        }
    }
}

fn check(store: &str, key: &str) -> Result<(), Error> {
    if key.contains(SEPARATOR) {
        return Err(Error::IllegalKey {
            store: store.to_owned(),
            key: key.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(strategy: Option<&str>, namespace: &str) -> String {
        KeyPrefix::parse(strategy, "store", "app", namespace)
            .unwrap()
            .apply("store", "k")
            .unwrap()
    }

    #[test]
    fn each_strategy_has_its_prefix() {
        assert_eq!(stored(None, "ns"), "app||k");
        assert_eq!(stored(Some("appid"), "ns"), "app||k");
        assert_eq!(stored(Some("name"), "ns"), "store||k");
        assert_eq!(stored(Some("namespace"), "ns"), "ns.app||k");
        assert_eq!(stored(Some("namespace"), ""), "app||k");
        assert_eq!(stored(Some("none"), "ns"), "k");
        assert_eq!(stored(Some("MyPrefix"), "ns"), "myprefix||k");
    }

    #[test]
    fn the_separator_is_illegal_in_key_and_prefix() {
        assert!(KeyPrefix::parse(Some("a||b"), "store", "app", "").is_err());
        let error = KeyPrefix::None.apply("store", "a||b").unwrap_err();
        assert_eq!(
            error.to_string(),
            "input key/keyPrefix 'a||b' can't contain '||'"
        );
    }

    #[test]
    fn the_callers_key_comes_back() {
        let prefix = KeyPrefix::Text("app".into());
        assert_eq!(prefix.strip("app||k"), "k");
        assert_eq!(KeyPrefix::None.strip("k"), "k");
    }
}
