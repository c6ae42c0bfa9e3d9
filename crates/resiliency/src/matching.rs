//! Which status codes a retry policy retries: lists of codes and ranges such as `429,500-599` (contract 10.1).

use std::ops::RangeInclusive;

/// Codes an HTTP list may name.
pub const HTTP_CODES: RangeInclusive<i32> = 100..=599;

/// Codes a gRPC list may name.
pub const GRPC_CODES: RangeInclusive<i32> = 0..=16;

/// What is wrong with a list of codes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Neither a number nor two numbers around a minus sign.
    #[error("`{0}` is neither a code nor a range of codes")]
    Pattern(String),
    /// A code the protocol does not have.
    #[error("code {code} in `{pattern}` is not between {} and {}", valid.start(), valid.end())]
    OutOfRange {
        /// The code.
        code: i32,
        /// The entry it stands in.
        pattern: String,
        /// What would be right.
        valid: RangeInclusive<i32>,
    },
    /// A range whose end is smaller than its start.
    #[error("range `{0}` ends before it starts")]
    Backwards(String),
}

/// The codes of one protocol; the default matches every code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Codes(Option<Vec<RangeInclusive<i32>>>);

impl Codes {
    /// Parses a comma-separated list; an empty text matches every code, and empty entries are skipped.
    ///
    /// # Errors
    /// [`Error`] names the first entry that is wrong.
    pub fn parse(text: &str, valid: &RangeInclusive<i32>) -> Result<Self, Error> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let ranges = text
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
            .map(|entry| range(entry, valid))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self(Some(ranges)))
    }

    /// Whether `code` is in the list.
    pub fn contains(&self, code: i32) -> bool {
        self.0
            .as_ref()
            .is_none_or(|ranges| ranges.iter().any(|range| range.contains(&code)))
    }
}

/// The codes of both protocols.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matching {
    /// HTTP status codes that are retried.
    pub http: Codes,
    /// gRPC status codes that are retried.
    pub grpc: Codes,
}

fn range(pattern: &str, valid: &RangeInclusive<i32>) -> Result<RangeInclusive<i32>, Error> {
    let (first, last) = pattern.split_once('-').unwrap_or((pattern, pattern));
    let first = code(first, pattern, valid)?;
    let last = code(last, pattern, valid)?;
    if last < first {
        return Err(Error::Backwards(pattern.to_owned()));
    }
    Ok(first..=last)
}

fn code(text: &str, pattern: &str, valid: &RangeInclusive<i32>) -> Result<i32, Error> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Error::Pattern(pattern.to_owned()));
    }
    let code = text
        .parse()
        .map_err(|_| Error::Pattern(pattern.to_owned()))?;
    if !valid.contains(&code) {
        return Err(Error::OutOfRange {
            code,
            pattern: pattern.to_owned(),
            valid: valid.clone(),
        });
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_name_codes_and_ranges() {
        let codes = Codes::parse("429, 500-599,,404", &HTTP_CODES).unwrap();
        for code in [404, 429, 500, 550, 599] {
            assert!(codes.contains(code), "{code}");
        }
        for code in [200, 403, 430, 499] {
            assert!(!codes.contains(code), "{code}");
        }
        let grpc = Codes::parse("0,14-16", &GRPC_CODES).unwrap();
        assert!(grpc.contains(0) && grpc.contains(15) && !grpc.contains(2));
    }

    #[test]
    fn no_list_matches_everything_and_an_empty_list_nothing() {
        assert!(Codes::parse("", &HTTP_CODES).unwrap().contains(404));
        assert!(!Codes::parse(",", &HTTP_CODES).unwrap().contains(404));
    }

    #[test]
    fn bad_entries_are_named() {
        for (text, part) in [
            ("abc", "`abc`"),
            ("500-", "`500-`"),
            ("-500", "`-500`"),
            ("500-550-599", "`500-550-599`"),
            ("99", "99"),
            ("500-600", "600"),
            ("599-500", "ends before"),
            ("99999999999", "`99999999999`"),
        ] {
            let error = Codes::parse(text, &HTTP_CODES).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(Codes::parse("17", &GRPC_CODES).is_err());
    }
}
