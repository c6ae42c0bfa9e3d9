//! Declarations of every kind of field, read and described.

use std::{path::PathBuf, time::Duration};

use values::GoDuration;

use super::*;

metadata! {
    /// Of a component that has everything.
    pub struct Everything {
        /// Where it is,
        /// in two lines.
        host: String => "host" | "url";
        /// Whether it is fast.
        fast: bool => "fast";
        /// How long it waits.
        wait: Duration => "wait", default(Duration::from_millis(1500)), unit(MILLISECOND);
        /// How long it stays, below zero for ever.
        stay: Option<GoDuration> => "stay" | "stayInSeconds", unit(SECOND);
        /// How long it sleeps.
        sleep: Option<Duration> => "sleep";
        /// How many.
        count: u16 => "count", default(7);
        /// How large.
        size: Option<Size> => "size";
        /// Who.
        names: Vec<String> => "names", default(vec!["a".to_owned(), "b".to_owned()]);
        /// A file.
        file: Option<PathBuf> => "file", deprecated("host");
        /// A number that nobody may see.
        pin: Option<u32> => "pin", secret;
    }
    ignored { "poolSize": Integer }
}

fn read(fields: &[(&str, &str)]) -> Result<Everything> {
    Everything::read(&Metadata::from_iter(fields.iter().copied()))
}

#[test]
fn what_is_not_set_has_its_default() {
    let it = read(&[("HOST", "a"), ("url", "b"), ("count", "")]).unwrap();
    assert_eq!(it.host, "a");
    assert!(!it.fast && it.stay.is_none() && it.sleep.is_none() && it.size.is_none());
    assert_eq!((it.wait, it.count), (Duration::from_millis(1500), 7));
    assert_eq!(it.names, ["a", "b"]);
    assert!(it.file.is_none() && it.pin.is_none());
}

#[test]
fn texts_are_read_as_the_type_asks() {
    let it = read(&[
        ("URL", "b"),
        ("fast", " Yes"),
        ("wait", "20"),
        ("stayInSeconds", "-2"),
        ("sleep", "1m"),
        ("size", "4Ki"),
        ("names", "x, ,y"),
        ("file", "/tmp"),
        ("pin", "1234"),
    ])
    .unwrap();
    assert_eq!((&*it.host, it.fast), ("b", true));
    assert_eq!(it.wait, Duration::from_millis(20));
    assert_eq!(it.stay, Some(GoDuration::from_secs(-2)));
    assert_eq!(it.sleep, Some(Duration::from_secs(60)));
    assert_eq!((it.size, it.pin), (Some(Size(4096)), Some(1234)));
    assert_eq!(it.names, ["x", "y"]);
    assert_eq!(it.file, Some(PathBuf::from("/tmp")));
}

#[test]
fn a_wrong_text_names_the_field() {
    for (field, text, expected) in [
        ("count", "70000", "metadata field count: \"70000\": "),
        ("wait", "-1", "metadata field wait: \"-1\": is negative"),
        ("sleep", "5", "metadata field sleep: \"5\": missing unit"),
        ("stayInSeconds", "1 s", "metadata field stay: \"1 s\": "),
        ("stay", "9223372036854775807", "is too long"),
        ("size", "-1", "is no size in bytes"),
    ] {
        let error = read(&[("host", "a"), (field, text)]).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidMetadata, "{field}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    let error = read(&[("host", "a"), ("pin", "hunter2")]).err().unwrap();
    assert!(!error.to_string().contains("hunter2"), "{error}");
    let error = read(&[]).err().unwrap();
    assert_eq!(error.to_string(), "metadata field host: is required");
}

#[test]
fn the_description_follows_from_the_declaration() {
    let fields = Everything::fields();
    let rows: Vec<_> = fields
        .iter()
        .map(|field| (field.name, field.required, field.default.as_deref()))
        .collect();
    assert_eq!(
        rows,
        [
            ("host", true, None),
            ("fast", false, Some("false")),
            ("wait", false, Some("1.5s")),
            ("stay", false, None),
            ("sleep", false, None),
            ("count", false, Some("7")),
            ("size", false, None),
            ("names", false, Some("a,b")),
            ("file", false, None),
            ("pin", false, None),
            ("poolSize", false, None),
        ]
    );
    let host = fields.find("URL").unwrap();
    assert_eq!(host.about, "Where it is, in two lines.");
    assert!(fields.find("pin").unwrap().secret && fields.find("poolsize").unwrap().ignored);
}

#[test]
fn what_nobody_reads_is_told() {
    let metadata = Metadata::from_iter([
        ("Host", "a"),
        ("hots", "a"),
        ("poolSize", "3"),
        ("file", "f"),
        ("keyPrefix", "none"),
        ("outboxPublishTopic", "t"),
        ("empty", ""),
    ]);
    let fields = Everything::fields();
    assert_eq!(
        fields.warnings(&metadata),
        [
            "metadata field file is deprecated: use host",
            "metadata field hots is not known and has no effect",
            "metadata field poolSize has no effect here",
        ]
    );
    assert_eq!(fields.and_others().warnings(&metadata).len(), 2);
}
