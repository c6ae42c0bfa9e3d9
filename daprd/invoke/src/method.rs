//! The method of an invocation is a path: decoded and cleaned where the call enters, so that access lists see what the app
//! will see, and escaped again where it leaves for the app. Apps decode in their own ways, so access lists see every reading.

use std::borrow::Cow;

use component::Body;
use http::{Request, Uri};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use values::path::{self, clean};

use crate::Error;

/// What a path must escape; a percent sign is kept, because decoded methods may hold escapes of their own.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'`')
    .add(b'{')
    .add(b'}')
    .add(b'|')
    .add(b'\\')
    .add(b'^');

/// What becomes of the escapes in the path of a URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Escapes {
    /// They are decoded where the call enters, as upstream does.
    #[default]
    Decoded,
    /// They arrive at the app as they were written: `%2F` is a letter of a segment.
    Kept,
}

/// The path of an invocation, decoded and cleaned where the call enters: the one value that is judged by the access list and
/// dispatched to the app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MethodPath(String);

impl MethodPath {
    /// From the path of a URL: decoded once, or as it was written.
    // Compat: Q-invoke-decoded, an escaped slash separates, and what no path may hold is refused.
    pub fn from_url(escaped: &str, escapes: Escapes) -> Result<Self, Error> {
        let decoded = percent_decode_str(escaped)
            .decode_utf8()
            .map_err(|_| Error::Method(format!("{escaped:?} is not UTF-8")))?;
        if escapes == Escapes::Kept {
            // What is no path may not hide in escapes either; but `#` and `?` are letters there.
            check_controls(&decoded)?;
            check_escapes(escaped)?;
            return Ok(Self(clean(escaped)));
        }
        // What dots take away does not matter any more.
        let cleaned = clean(&decoded);
        check(&cleaned)?;
        Ok(Self(cleaned))
    }

    /// From the method of a message, which is taken as it is: gRPC apps may call theirs what they like, and get the slash
    /// that it begins with.
    pub fn from_message(method: &str) -> Result<Self, Error> {
        check(method)?;
        let root = if method.starts_with('/') { "/" } else { "" };
        Ok(Self(format!("{root}{}", clean(method))))
    }

    /// From the path of a gRPC call that is passed on unread, and so reaches the app as it is.
    pub fn from_grpc(uri: &Uri) -> Self {
        Self(uri.path().to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path and a query, as an HTTP app gets them.
    pub fn uri(&self, query: Option<&str>) -> Result<Uri, Error> {
        check_escapes(&self.0)?;
        let path = utf8_percent_encode(self.0.trim_start_matches('/'), ESCAPED);
        join(format!("/{path}"), query)
    }

    /// Puts the path on a request for the app, with the request's own query.
    pub fn address(&self, mut request: Request<Body>) -> Result<Request<Body>, Error> {
        *request.uri_mut() = self.uri(request.uri().query())?;
        Ok(request)
    }

    /// What an app may take the path for.
    pub fn readings(&self) -> Vec<Cow<'_, str>> {
        path::readings(&self.0)
    }
}

/// A query without a path, for requests whose path is put on last.
pub fn query_only(query: &str) -> Result<Uri, Error> {
    join("/".to_owned(), Some(query))
}

fn check(path: &str) -> Result<(), Error> {
    if path.contains(['#', '?', '\0']) {
        return Err(Error::Method(format!(
            "method contains forbidden character: {path:?}"
        )));
    }
    check_controls(path)
}

fn check_controls(path: &str) -> Result<(), Error> {
    match path.find(|c: char| c < ' ' || c == '\u{7f}') {
        Some(at) => Err(Error::Method(format!(
            "method contains control character at position {at}: {path:?}"
        ))),
        None => Ok(()),
    }
}

fn join(mut text: String, query: Option<&str>) -> Result<Uri, Error> {
    if let Some(query) = query.filter(|query| !query.is_empty()) {
        text.push('?');
        text.extend(utf8_percent_encode(query, ESCAPED));
    }
    text.parse()
        .map_err(|_| Error::Method(format!("{text:?} is no path")))
}

fn check_escapes(method: &str) -> Result<(), Error> {
    let bytes = method.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let digits = bytes.get(at + 1..at + 3);
        let valid = digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        if *byte == b'%' && !valid {
            return Err(Error::Method(format!("{method:?} has a broken escape")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(escaped: &str) -> String {
        MethodPath::from_url(escaped, Escapes::Decoded).unwrap().0
    }

    #[test]
    fn paths_are_decoded_and_cleaned() {
        for (escaped, method) in [
            ("test%22stream", "test\"stream"),
            ("one///two", "one/two"),
            ("one/./two/../three", "one/three"),
            ("../one", "one"),
            ("test%5Cstream", "test\\stream"),
            ("", ""),
        ] {
            assert_eq!(url(escaped), method, "{escaped}");
        }
    }

    #[test]
    fn what_no_path_may_hold_is_refused() {
        for escaped in ["a%23", "a%3Fb", "a%00", "a%0D", "a%7F", "%ff"] {
            let refused = MethodPath::from_url(escaped, Escapes::Decoded);
            assert!(refused.is_err(), "{escaped}");
        }
    }

    #[test]
    fn escapes_are_kept_where_that_is_asked_for() {
        let kept = |escaped| MethodPath::from_url(escaped, Escapes::Kept);
        for (written, arrives) in [
            ("a%2Fb/%23%3F%25", "/a%2Fb/%23%3F%25"),
            ("/one//two/./../%2e%2e/three", "/one/%2e%2e/three"),
            ("%E2%82%AC", "/%E2%82%AC"),
        ] {
            let uri = kept(written).unwrap().uri(None).unwrap();
            assert_eq!(uri.to_string(), arrives, "{written}");
        }
        for refused in ["a%00", "a%0D", "%ff", "50%", "%zz"] {
            assert!(kept(refused).is_err(), "{refused}");
        }
        // Access lists see what an app may make of it.
        let path = kept("a%2Fb").unwrap();
        assert_eq!(path.readings(), ["a%2Fb", "a/b"]);
    }

    #[test]
    fn methods_of_messages_are_not_decoded() {
        for (method, normalised) in [
            ("test%stream", "test%stream"),
            ("one%20two", "one%20two"),
            ("/one/../two/", "/two"),
            ("one/../../two", "two"),
            ("", ""),
        ] {
            let path = MethodPath::from_message(method).unwrap();
            assert_eq!(path.as_str(), normalised, "{method}");
        }
        assert!(MethodPath::from_message("/one\r/two").is_err());
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        let text = |escaped| {
            let refused = MethodPath::from_url(escaped, Escapes::Decoded);
            refused.unwrap_err().to_string()
        };
        assert_eq!(
            text("echo%23x"),
            "rpc error: code = InvalidArgument desc = invalid method: \
             method contains forbidden character: \"echo#x\""
        );
        assert!(text("ab%0D").ends_with("control character at position 2: \"ab\\r\""));
    }

    #[test]
    fn the_app_gets_an_escaped_path() {
        let of = |method: &str, query| MethodPath(method.to_owned()).uri(query);
        let text = |method, query| of(method, query).unwrap().to_string();
        assert_eq!(text("a b/\"c", Some("x=1 2")), "/a%20b/%22c?x=1%202");
        assert_eq!(text("test%20x", None), "/test%20x");
        assert_eq!(text("", None), "/");
        assert!(of("a%stream", None).is_err());
    }
}
