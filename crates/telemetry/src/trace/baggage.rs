//! The W3C `baggage` header: checked at the door and passed on as it came.

use http::{HeaderMap, HeaderValue};

use crate::Error;

/// Name of the header.
pub const BAGGAGE: &str = "baggage";

/// A checked baggage header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Baggage(String);

impl Baggage {
    /// Checks a header text: members `key=value` with optional properties, separated by commas.
    ///
    /// # Errors
    /// Naming the first member that is malformed, and for more than 8192 bytes or 64 members.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_BYTES {
            return Err(Error::Baggage(format!(
                "{} bytes are more than {MAX_BYTES}",
                text.len()
            )));
        }
        let mut members = 0;
        for member in text.split(',').filter(|_| !text.is_empty()) {
            members += 1;
            if members > MAX_MEMBERS {
                return Err(Error::Baggage(format!(
                    "there are more than {MAX_MEMBERS} members"
                )));
            }
            check(member).map_err(|reason| Error::Baggage(format!("{reason}: {member:?}")))?;
        }
        Ok(Baggage(text.to_owned()))
    }

    /// The baggage of a request; several headers are one list. `None` when there is none.
    ///
    /// # Errors
    /// As [`Baggage::parse`].
    pub fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, Error> {
        let mut joined = String::new();
        for value in headers.get_all(BAGGAGE) {
            let text = value
                .to_str()
                .map_err(|_| Error::Baggage("it is not ASCII".to_owned()))?;
            if !joined.is_empty() {
                joined.push(',');
            }
            joined.push_str(text);
        }
        if joined.is_empty() {
            Ok(None)
        } else {
            Baggage::parse(&joined).map(Some)
        }
    }

    /// Puts it on an answer that has none of its own.
    pub fn echo(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::from_str(&self.0) {
            headers.entry(BAGGAGE).or_insert(value);
        }
    }

    /// The header text, encoded as it came.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check(member: &str) -> Result<(), &'static str> {
    let mut parts = member.split(';');
    let pair = parts.next().unwrap_or_default();
    for property in parts.map(trim).filter(|property| !property.is_empty()) {
        let (key, value) = property.split_once('=').unwrap_or((property, ""));
        if !key_valid(trim(key)) || !value_valid(trim(value)) {
            return Err("invalid baggage list-member property");
        }
    }
    let (key, value) = pair.split_once('=').ok_or("invalid baggage list-member")?;
    if !key_valid(trim(key)) {
        return Err("invalid key");
    }
    if !value_valid(trim(value)) {
        return Err("invalid value");
    }
    Ok(())
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// A token of RFC 7230.
fn key_valid(key: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !key.is_empty() && key.bytes().all(token)
}

/// Printable ASCII without space, quote, comma, semicolon and backslash, well formed percent codes.
fn value_valid(value: &str) -> bool {
    let bytes = value.as_bytes();
    bytes.iter().enumerate().all(|(index, b)| match b {
        b'%' => bytes
            .get(index + 1..index + 3)
            .is_some_and(|code| code.iter().all(u8::is_ascii_hexdigit)),
        0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e => true,
        _ => false,
    })
}

/// Whole header.
const MAX_BYTES: usize = 8192;

/// Members of the list.
const MAX_MEMBERS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good() {
        for good in [
            "",
            "key1=value1,key2=value2",
            "a=",
            "a=b=c",
            "a = b ; p ; q=1, c=%41%20",
            "a=b;",
            // Propagators differ in what a plus sign stands for: see findings/baggage-plus.sh.
            "a=1+1,b=%2B+%20",
        ] {
            assert_eq!(Baggage::parse(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn bad() {
        for bad in [
            "invalid-baggage",
            "a=1,,b=2",
            "a=1,b",
            "=1",
            "a b=1",
            "a=b c",
            "a=%4",
            "a=\u{e9}",
            "a=1;p q",
            "a=1;=x",
        ] {
            let error = Baggage::parse(bad).unwrap_err().to_string();
            assert!(error.starts_with("invalid baggage header: "), "{error}");
        }
        assert!(Baggage::parse(&format!("a={}", "x".repeat(MAX_BYTES))).is_err());
        assert!(Baggage::parse(&vec!["a=1"; 65].join(",")).is_err());
    }

    #[test]
    fn several_headers_are_one_list() {
        let mut headers = HeaderMap::new();
        assert_eq!(Baggage::from_headers(&headers).unwrap(), None);
        headers.append(BAGGAGE, "a=1".parse().unwrap());
        headers.append(BAGGAGE, "b=2".parse().unwrap());
        assert_eq!(
            Baggage::from_headers(&headers).unwrap().unwrap().as_str(),
            "a=1,b=2"
        );
        headers.append(BAGGAGE, "b".parse().unwrap());
        assert!(Baggage::from_headers(&headers).is_err());
    }
}
