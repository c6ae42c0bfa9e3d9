//! Lines as a log shipper reads them.

use std::sync::Arc;

use super::*;

fn capture(level: &str, json: bool, app_id: Option<&str>, body: impl FnOnce()) -> String {
    let options = LogOptions {
        level: level.into(),
        json,
        file: None,
        app_id: app_id.map(str::to_owned),
    };
    let lines = Arc::new(Mutex::new(Vec::new()));
    let mut logger = Logger::new(
        &options,
        "dapr.sentry".into(),
        Output::Memory(lines.clone()),
    )
    .unwrap();
    logger.constants.instance = "host-1".into();
    logger.constants.version = "edge";
    tracing::subscriber::with_default(logger, body);
    let bytes = lines.lock().clone();
    String::from_utf8(bytes).unwrap()
}

/// A line without its time, which is checked for its form.
fn untimed(line: &str) -> String {
    let rest = line.strip_prefix("time=\"").unwrap();
    let (time, rest) = rest.split_once("\" ").unwrap();
    assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
    rest.trim_end().to_owned()
}

#[test]
fn text_line() {
    let line = capture("info", false, Some("app one"), || {
        tracing::warn!(target: "dapr.sentry.ca", reason = "a \"b\"\n", count = 3, "bad: thing");
    });
    assert_eq!(
        untimed(&line),
        r#"level=warning msg="bad: thing" app_id="app one" count=3 instance=host-1 reason="a \"b\"\n" scope=dapr.sentry.ca type=log ver=edge"#
    );
}

#[test]
fn scope_of_own_modules_is_the_programs() {
    let line = capture(
        "info",
        false,
        None,
        || tracing::info!(target: "security::svid", "ready"),
    );
    assert_eq!(
        untimed(&line),
        "level=info msg=ready instance=host-1 scope=dapr.sentry type=log ver=edge"
    );
    let line = capture("info", false, None, || {
        tracing::info!(target: "security", scope = "dapr.contrib", "x");
    });
    assert!(line.contains("scope=dapr.contrib"), "{line}");
}

#[test]
fn fatal_and_clashing_fields() {
    let line = capture("fatal", false, None, || {
        tracing::error!(target: "dapr.x", level = "fatal", msg = "other", "gone");
        tracing::warn!(target: "dapr.x", "hidden");
    });
    assert_eq!(
        untimed(&line),
        "level=fatal msg=gone fields.msg=other instance=host-1 scope=dapr.x type=log ver=edge"
    );
}

#[test]
fn libraries_speak_only_to_who_debugs() {
    let chatter = || {
        tracing::info!(target: "h2::codec", "lib info");
        tracing::debug!(target: "h2::codec", "lib debug");
        tracing::debug!(target: "sentry::ca", "own debug");
    };
    assert_eq!(capture("info", false, None, chatter), "");
    let lines = capture("debug", false, None, chatter);
    assert!(
        lines.contains("lib info") && lines.contains("own debug"),
        "{lines}"
    );
    assert!(!lines.contains("lib debug"), "{lines}");
}

#[test]
fn json_line() {
    let line = capture("debug", true, Some("app"), || {
        tracing::debug!(target: "dapr.runtime", code = 200, ok = true, "<b> & \u{e9}");
    });
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["msg"], "<b> & \u{e9}");
    assert_eq!(value["level"], "debug");
    assert_eq!(value["code"], 200);
    assert_eq!(value["app_id"], "app");
    assert!(line.contains(r"\u003cb\u003e \u0026"), "{line}");
    assert!(
        line.starts_with(r#"{"app_id":"app","code":200,"instance":"#),
        "{line}"
    );
}

#[test]
fn times() {
    let at = |nanos: i128| jiff::Timestamp::from_nanosecond(nanos).unwrap();
    let utc = jiff::tz::TimeZone::UTC;
    assert_eq!(format::timestamp(at(0), &utc), "1970-01-01T00:00:00Z");
    assert_eq!(
        format::timestamp(at(1_120_000_000), &utc),
        "1970-01-01T00:00:01.12Z"
    );
    let east = jiff::tz::TimeZone::fixed(jiff::tz::offset(5));
    assert_eq!(
        format::timestamp(at(1), &east),
        "1970-01-01T05:00:00.000000001+05:00"
    );
}

#[test]
fn levels() {
    for name in ["debug", "info", "warn", "error", "fatal", "INFO"] {
        assert!(level(name).is_ok(), "{name}");
    }
    assert!(level("verbose").is_err());
}
