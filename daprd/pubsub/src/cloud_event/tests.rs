//! Table tests of the envelope.

use serde_json::{Value, json};

use super::*;

fn now() -> Timestamp {
    "2026-01-02T03:04:05.6Z".parse().unwrap()
}

fn metadata(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn parts(content_type: &str) -> Parts<'_> {
    Parts {
        app_id: "app",
        pubsub: "bus",
        topic: "orders",
        content_type,
        trace_parent: "00-a-b-01",
        trace_state: "k=v",
    }
}

fn published(content_type: &str, data: &[u8], pairs: &[(&str, &str)]) -> Value {
    let text = envelope(parts(content_type), data, &metadata(pairs), now(), None).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn an_envelope_has_every_default() {
    let mut event = published("", b"hi", &[]);
    let id = event.as_object_mut().unwrap().remove("id").unwrap();
    assert!(uuid::Uuid::parse_str(id.as_str().unwrap()).is_ok());
    assert_eq!(
        event,
        json!({
            "specversion": "1.0", "datacontenttype": "text/plain", "source": "app",
            "type": "com.dapr.event.sent", "topic": "orders", "pubsubname": "bus",
            "traceid": "00-a-b-01", "traceparent": "00-a-b-01", "tracestate": "k=v",
            "time": "2026-01-02T03:04:05Z", "data": "hi"
        })
    );
}

#[test]
fn data_follows_the_content_type() {
    for (content_type, data, field, expected) in [
        (
            "application/json",
            &b"{\"b\":1, \"a\":2}"[..],
            "data",
            json!({"a": 2, "b": 1}),
        ),
        // Empty as they are, they are data: see findings/cloudevents-js-empty-data.sh.
        ("application/json", b"0", "data", json!(0)),
        ("application/json", b"false", "data", json!(false)),
        ("application/json", b"\"\"", "data", json!("")),
        ("application/json", b"{bad", "data", json!("{bad")),
        ("application/json", b"", "data", json!("")),
        ("application/json; charset=utf-8", b"7", "data", json!(7)),
        (
            "application/octet-stream",
            b"hi",
            "data_base64",
            json!("aGk="),
        ),
        (
            "application/cloudevents+protobuf",
            b"hi",
            "data_base64",
            json!("aGk="),
        ),
        ("text/xml", b"<a/>", "data", json!("<a/>")),
        ("application/foo", b"\xff", "data", json!("\u{fffd}")),
    ] {
        let event = published(content_type, data, &[]);
        assert_eq!(event[field], expected, "{content_type} {data:?}");
    }
}

#[test]
fn numbers_keep_their_digits_and_keys_are_sorted() {
    let event = envelope(
        parts("application/json"),
        b"{\"n\": 12345678901234567890.10, \"a\": \"<\"}",
        &metadata(&[("cloudevent.id", "1")]),
        now(),
        None,
    )
    .unwrap();
    assert!(
        event
            .starts_with(r#"{"data":{"a":"\u003c","n":12345678901234567890.10},"datacontenttype""#),
        "{event}"
    );
}

#[test]
fn an_envelope_is_written_byte_for_byte_as_ever() {
    let id = [("cloudevent.id", "1"), ("cloudevent.subject", "a\"b")];
    let text = |content_type: &str, data: &[u8]| {
        envelope(parts(content_type), data, &metadata(&id), now(), None).unwrap()
    };
    let rest = concat!(
        r#""id":"1","pubsubname":"bus","source":"app","specversion":"1.0","subject":"a\"b","#,
        r#""time":"2026-01-02T03:04:05Z","topic":"orders","traceid":"00-a-b-01","#,
        r#""traceparent":"00-a-b-01","tracestate":"k=v","type":"com.dapr.event.sent"}"#
    );
    for (content_type, data, start) in [
        (
            "application/json",
            &b" {\"z\": [1.0, {\"b\":null,\"a\":\"&\"}]}"[..],
            r#"{"data":{"z":[1.0,{"a":"\u0026","b":null}]},"datacontenttype":"application/json","#,
        ),
        (
            "application/octet-stream",
            b"hi",
            r#"{"data_base64":"aGk=","datacontenttype":"application/octet-stream","#,
        ),
        (
            "",
            b"x\n",
            r#"{"data":"x\n","datacontenttype":"text/plain","#,
        ),
    ] {
        assert_eq!(text(content_type, data), format!("{start}{rest}"));
    }
}

#[test]
fn rules_see_an_event_as_it_is() {
    let event = CloudEvent::parse(br#"{"a":{"b":[1]},"c":"x"}"#, &metadata(&[])).unwrap();
    assert_eq!(
        event.to_value().unwrap(),
        json!({"a": {"b": [1]}, "c": "x"})
    );
}

#[test]
fn attributes_are_overridden_without_regard_to_case() {
    for (key, field, value) in [
        ("cloudevent.id", "id", "1"),
        ("CloudEvent.Source", "source", "s"),
        ("cloudevent.TYPE", "type", "t"),
        ("cloudevent.subject", "subject", "sub"),
        ("cloudevent.tracestate", "tracestate", "x=y"),
        ("cloudevent.traceid", "traceparent", "id"),
        ("cloudevent.traceparent", "traceid", "parent"),
    ] {
        assert_eq!(
            published("", b"", &[(key, value)])[field],
            json!(value),
            "{key}"
        );
    }
    let both = [
        ("cloudevent.traceid", "id"),
        ("cloudevent.traceparent", "parent"),
    ];
    assert_eq!(published("", b"", &both)["traceid"], json!("parent"));
    assert_eq!(
        published("", b"", &[("cloudevent.topic", "x")])["topic"],
        json!("orders")
    );
}

#[test]
fn an_apps_own_event_is_completed() {
    let data =
        br#"{"id": "1", "type": null, "topic": "mine", "traceid": "x", "time": "then", "n": 1.0}"#;
    let event = published(
        "application/cloudevents+json",
        data,
        &[("cloudevent.id", "no")],
    );
    assert_eq!(
        event,
        json!({
            "id": "1", "type": "com.dapr.event.sent", "source": "Dapr", "specversion": "1.0",
            "topic": "orders", "pubsubname": "bus", "traceid": "x", "tracestate": "k=v",
            "time": "then", "n": 1.0
        })
    );
}

#[test]
fn what_claims_to_be_an_event_and_is_none_is_refused() {
    for data in [&b"{bad"[..], b"[]", b"7", b"null", b"", b"\"text\""] {
        let result = envelope(
            parts("application/cloudevents+json"),
            data,
            &metadata(&[]),
            now(),
            None,
        );
        assert!(result.is_err(), "{data:?}");
    }
}

#[test]
fn raw_messages_become_binary_events() {
    let traced = metadata(&[("traceid", "t"), ("traceparent", "p"), ("tracestate", "s")]);
    let event = CloudEvent::raw(b"hi", "bus", "orders", &traced);
    assert_eq!(event.text("data_base64").unwrap(), "aGk=");
    assert_eq!(
        event.text("datacontenttype").unwrap(),
        "application/octet-stream"
    );
    assert_eq!(event.text("traceid").unwrap(), "p");
    let plain = CloudEvent::raw(b"hi", "bus", "orders", &metadata(&[]));
    assert!(plain.text("traceid").is_none());
}

#[test]
fn binary_events_take_attributes_from_metadata() {
    let data = Bytes::from_static(b"\x00\x01");
    let event = CloudEvent::binary(
        &data,
        "application/octet-stream",
        &metadata(&[("CE_Id", "7"), ("x", "y")]),
    );
    assert_eq!(event.text("id").unwrap(), "7");
    assert_eq!(event.binary_data(), Some(&data));
    assert!(event.value("x").is_none());
}

#[test]
fn traces_of_the_message_fill_gaps() {
    let outside = metadata(&[("traceparent", "p"), ("tracestate", "s")]);
    let event = CloudEvent::parse(b"{\"traceid\":\"own\"}", &outside).unwrap();
    assert_eq!(event.text("traceid").unwrap(), "p");
    let event = CloudEvent::parse(b"{\"traceparent\":7}", &outside).unwrap();
    assert!(event.text("traceparent").is_none());
    assert!(event.value("traceparent").is_some());
    assert!(CloudEvent::parse(b"[]", &outside).is_err());
}

#[test]
fn events_expire() {
    let event = |ttl| {
        let text = envelope(parts(""), b"", &metadata(&[]), now(), ttl).unwrap();
        CloudEvent::parse(text.as_bytes(), &metadata(&[])).unwrap()
    };
    assert!(!event(None).has_expired(now()));
    let ending = event(Some(Duration::from_secs(10)));
    assert_eq!(ending.text("expiration").unwrap(), "2026-01-02T03:04:15Z");
    assert!(!ending.has_expired(now()));
    assert!(ending.has_expired(now() + Duration::from_secs(11)));
    let odd = CloudEvent::parse(b"{\"expiration\":\"soon\"}", &metadata(&[])).unwrap();
    assert!(!odd.has_expired(now()));
    assert!(!event(Some(Duration::MAX)).has_expired(now()));
}

#[test]
fn times_to_live_are_durations_or_seconds() {
    for (pairs, expected) in [
        (&[("ttlInSeconds", "20")][..], Some(20)),
        (&[("TTL", "2m")], Some(120)),
        (&[("ttl", "1s"), ("ttlInSeconds", "9")], Some(1)),
        (&[("ttl", "-1s")], Some(0)),
        (&[("ttl", "-1")], None),
        (&[("ttl", "20b")], None),
        (&[("ttl", "")], None),
        (&[], None),
    ] {
        let found = time_to_live(&metadata(pairs)).map(|ttl| ttl.as_secs());
        assert_eq!(found, expected, "{pairs:?}");
    }
}

#[test]
fn raw_payload_is_a_strict_boolean() {
    assert_eq!(is_raw(&metadata(&[("rawPayload", "True")])), Ok(true));
    assert_eq!(is_raw(&metadata(&[("rawpayload", "true")])), Ok(false));
    assert_eq!(
        is_raw(&metadata(&[("rawPayload", "invalidBooleanValue")])).unwrap_err(),
        "rawPayload value must be a valid boolean: actual is 'invalidBooleanValue'"
    );
}
