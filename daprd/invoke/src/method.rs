//! The method of an invocation is a path: decoded and cleaned where the call enters, so that access lists see what the app
//! will see, and escaped again where it leaves for the app.

use component::Body;
use http::{Request, Uri};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

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

/// Decodes an escaped path, resolves its dots and doubled slashes, and refuses what no path may hold.
pub fn normalise(escaped: &str) -> Result<String, Error> {
    let decoded = percent_decode_str(escaped)
        .decode_utf8()
        .map_err(|_| Error::Method(format!("{escaped:?} is not UTF-8")))?;
    // What dots take away does not matter any more.
    let cleaned = clean(&decoded);
    check(&cleaned)?;
    Ok(cleaned)
}

/// The same for the method of a message, which is taken as it is: gRPC apps may call theirs what they like, and get the
/// slash that it begins with.
pub fn normalise_message(method: &str) -> Result<String, Error> {
    check(method)?;
    let root = if method.starts_with('/') { "/" } else { "" };
    Ok(format!("{root}{}", clean(method)))
}

fn check(path: &str) -> Result<(), Error> {
    if path.contains(['#', '?', '\0']) {
        return Err(Error::Method(format!(
            "method contains forbidden character: {path:?}"
        )));
    }
    match path.find(|c: char| c < ' ' || c == '\u{7f}') {
        Some(at) => Err(Error::Method(format!(
            "method contains control character at position {at}: {path:?}"
        ))),
        None => Ok(()),
    }
}

/// Without slashes around it, dots and doubled slashes.
fn clean(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    segments.join("/")
}

/// Puts a method on a request for the app, with the request's own query.
pub fn address(method: &str, mut request: Request<Body>) -> Result<Request<Body>, Error> {
    let query = request.uri().query().map(str::to_owned);
    *request.uri_mut() = uri(method, query.as_deref())?;
    Ok(request)
}

/// The path of a method and a query, as the app gets it.
pub fn uri(method: &str, query: Option<&str>) -> Result<Uri, Error> {
    check_escapes(method)?;
    let mut text = format!(
        "/{}",
        utf8_percent_encode(method.trim_start_matches('/'), ESCAPED)
    );
    if let Some(query) = query.filter(|query| !query.is_empty()) {
        text.push('?');
        text.extend(utf8_percent_encode(query, ESCAPED));
    }
    text.parse()
        .map_err(|_| Error::Method(format!("{method:?} is no path")))
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

    #[test]
    fn paths_are_decoded_and_cleaned() {
        for (escaped, method) in [
            ("test%22stream", "test\"stream"),
            ("admin%2F..%2Fpublic", "public"),
            ("public///extra", "public/extra"),
            ("..%2Fpublic", "public"),
            ("a%2Fb%2Fc%2F..%2F..%2F..%2Fpublic", "public"),
            ("test%5Cstream", "test\\stream"),
            ("", ""),
        ] {
            assert_eq!(normalise(escaped).unwrap(), method, "{escaped}");
        }
    }

    #[test]
    fn what_no_path_may_hold_is_refused() {
        for escaped in ["a%23", "a%3Fb", "a%00", "a%0D", "a%7F", "%ff"] {
            assert!(normalise(escaped).is_err(), "{escaped}");
        }
    }

    #[test]
    fn methods_of_messages_are_not_decoded() {
        for (method, normalised) in [
            ("test%stream", "test%stream"),
            ("admin%2F..%2Fpublic", "admin%2F..%2Fpublic"),
            ("/admin%0D/../public/", "/public"),
            ("admin/../../public", "public"),
            ("", ""),
        ] {
            assert_eq!(normalise_message(method).unwrap(), normalised, "{method}");
        }
        assert!(normalise_message("/admin\r/../public").is_err());
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        let text = |escaped| normalise(escaped).unwrap_err().to_string();
        assert_eq!(
            text("echo%23x"),
            "rpc error: code = InvalidArgument desc = invalid method: \
             method contains forbidden character: \"echo#x\""
        );
        assert!(text("ab%0D").ends_with("control character at position 2: \"ab\\r\""));
    }

    #[test]
    fn the_app_gets_an_escaped_path() {
        let of = |method, query| uri(method, query).unwrap().to_string();
        assert_eq!(of("a b/\"c", Some("x=1 2")), "/a%20b/%22c?x=1%202");
        assert_eq!(of("test%20x", None), "/test%20x");
        assert_eq!(of("", None), "/");
        assert!(uri("a%stream", None).is_err());
    }
}
