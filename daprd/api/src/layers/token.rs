//! The API token that the app must send, when one is set (contract 2.1, 1.2).

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::HeaderMap;

/// Header and gRPC metadata key.
pub const HEADER: &str = "dapr-api-token";

/// The token of this sidecar; none lets every call in.
#[derive(Clone, Default)]
pub struct ApiToken(Option<Box<[u8]>>);

impl ApiToken {
    /// An empty token is none.
    pub fn new(token: Option<String>) -> Self {
        Self(
            token
                .filter(|token| !token.is_empty())
                .map(|token| token.into_bytes().into()),
        )
    }

    /// Checks the token of a call and takes it off, so that nothing behind sees it.
    pub fn admit(&self, headers: &mut HeaderMap) -> bool {
        let given = headers.remove(HEADER);
        let Some(expected) = &self.0 else {
            return true;
        };
        // Without telling by its duration how much was right.
        given.is_some_and(|given| verify_slices_are_equal(expected, given.as_bytes()).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn admitted(token: Option<&str>, given: Option<&'static str>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(given) = given {
            headers.insert(HEADER, HeaderValue::from_static(given));
        }
        let admitted = ApiToken::new(token.map(str::to_owned)).admit(&mut headers);
        assert!(!headers.contains_key(HEADER));
        admitted
    }

    #[test]
    fn only_the_right_token_is_let_in() {
        assert!(admitted(None, None));
        assert!(admitted(Some(""), None));
        assert!(admitted(Some("secret"), Some("secret")));
        assert!(!admitted(Some("secret"), Some("secreT")));
        assert!(!admitted(Some("secret"), Some("secret1")));
        assert!(!admitted(Some("secret"), None));
    }
}
