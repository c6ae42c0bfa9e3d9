//! What a path may be taken for: programs decode escapes and resolve dots in their own ways, so whoever judges a path by a
//! rule judges every reading of it.

use std::borrow::Cow;

/// Without slashes around it, dots and doubled slashes.
pub fn clean(path: &str) -> String {
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

/// The path as it stands, decoded once, as most programs do, and decoded to the end; each as it stands and with its dots
/// resolved. Most paths have one reading. What is not UTF-8 is read with replacement characters.
pub fn readings(path: &str) -> Vec<Cow<'_, str>> {
    let mut readings = Vec::with_capacity(1);
    add(&mut readings, Cow::Borrowed(path));
    if path.contains('%') {
        add(&mut readings, Cow::Owned(decode(path)));
        add(&mut readings, Cow::Owned(decode_to_the_end(path)));
    }
    readings
}

/// The readings of a path that a request is for: each with the slash that it begins with, and also without slashes that are
/// doubled or stand at the end, which servers may pass over.
pub fn requested(path: &str) -> Vec<Cow<'_, str>> {
    let mut requested = Vec::with_capacity(1);
    for reading in readings(path) {
        let cleaned = format!("/{}", clean(&reading));
        let reading = match reading.starts_with('/') {
            true => reading,
            false => Cow::Owned(format!("/{reading}")),
        };
        if reading != cleaned && !requested.contains(&Cow::Borrowed(cleaned.as_str())) {
            requested.push(Cow::Owned(cleaned));
        }
        if !requested.contains(&reading) {
            requested.push(reading);
        }
    }
    requested
}

/// The one spelling of all those that a path may be taken for: decoded to the end, with dots resolved, and without slashes that
/// are doubled or stand at the end. For counting; a rule has to look at every reading.
pub fn canonical(path: &str) -> String {
    format!("/{}", clean(&decode_to_the_end(path)))
}

fn add<'p>(readings: &mut Vec<Cow<'p, str>>, reading: Cow<'p, str>) {
    let segments = |text: &str| text.split('/').filter(|it| !it.is_empty()).count();
    let cleaned = clean(&reading);
    if segments(&cleaned) != segments(&reading) {
        readings.push(Cow::Owned(cleaned));
    }
    if !readings.contains(&reading) {
        readings.push(reading);
    }
}

/// Decoded once; a percent sign without two digits behind it stands for itself.
pub fn decode(text: &str) -> String {
    let mut decoded: Vec<u8> = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte == b'%'
            && let [high, low, behind @ ..] = rest
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            decoded.push(high << 4 | low);
            rest = behind;
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Decodes what decoding makes into an escape again, in one pass: escapes never overlap, so the order does not matter.
fn decode_to_the_end(text: &str) -> String {
    let mut decoded: Vec<u8> = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        decoded.push(byte);
        while let [.., b'%', high, low] = decoded[..]
            && let (Some(high), Some(low)) = (digit(high), digit(low))
        {
            decoded.truncate(decoded.len() - 3);
            decoded.push(high << 4 | low);
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(path: &str) -> Vec<String> {
        let mut all: Vec<String> = readings(path).into_iter().map(Cow::into_owned).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn every_decoding_is_a_reading() {
        assert_eq!(sorted("one/two"), ["one/two"]);
        assert_eq!(sorted("one%20two"), ["one two", "one%20two"]);
        assert_eq!(
            sorted("one%2520two"),
            ["one two", "one%20two", "one%2520two"]
        );
        assert_eq!(sorted("50%"), ["50%"]);
        assert_eq!(sorted("a%2fb%"), ["a%2fb%", "a/b%"]);
    }

    #[test]
    fn dots_are_read_in_both_ways() {
        assert_eq!(readings("/one/./two"), ["one/two", "/one/./two"]);
    }

    #[test]
    fn a_request_has_readings_without_slashes_too_many() {
        assert_eq!(requested("/a/b"), ["/a/b"]);
        assert_eq!(requested("/a//b/"), ["/a/b", "/a//b/"]);
        assert_eq!(requested("/a/../b"), ["/b", "/a/../b"]);
        assert_eq!(requested("/%61"), ["/%61", "/a"]);
        assert_eq!(requested("/"), ["/"]);
    }

    #[test]
    fn what_may_be_the_same_path_has_one_spelling() {
        for path in [
            "/a/b",
            "a//b/",
            "/%61/b",
            "/a/./b",
            "/x/%2e%2e/a/b",
            "/a%252fb",
        ] {
            assert_eq!(canonical(path), "/a/b", "{path}");
        }
        assert_eq!(canonical("/"), "/");
    }

    #[test]
    fn decoding_to_the_end_takes_one_pass() {
        let long = format!("%{}41", "25".repeat(1 << 20));
        assert_eq!(decode_to_the_end(&long), "A");
        assert_eq!(decode_to_the_end("%%341"), "A");
        assert_eq!(decode_to_the_end("%zz%4"), "%zz%4");
    }

    #[test]
    fn decoding_once_leaves_what_is_no_escape() {
        for (escaped, plain) in [
            ("%2541", "%41"),
            ("%%41", "%A"),
            ("%", "%"),
            ("%4", "%4"),
            ("%zz", "%zz"),
        ] {
            assert_eq!(decode(escaped), plain, "{escaped}");
        }
    }
}
