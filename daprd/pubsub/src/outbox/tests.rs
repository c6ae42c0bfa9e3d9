//! What a transaction's events look like.

use serde_json::{Value, json};

use super::*;

fn write(key: &str, value: &str, metadata: &[(&str, &str)]) -> Operation {
    let metadata = metadata.iter();
    Operation::Upsert(SetRequest {
        key: key.to_owned(),
        value: value.to_owned().into(),
        metadata: metadata
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..SetRequest::default()
    })
}

fn event(operation: &Operation, json_values: bool) -> Value {
    let Operation::Upsert(write) = operation else {
        panic!("a write")
    };
    let parts = Parts {
        app_id: "app",
        pubsub: "bus",
        topic: "orders",
        ..Parts::default()
    };
    let now = "2024-01-02T03:04:05Z".parse().unwrap();
    let payload = event::Payload::of(write, json_values);
    let event = payload.event(parts, "outbox-1", &write.metadata, now);
    serde_json::from_slice(&event).unwrap()
}

#[test]
fn values_of_the_http_api_are_text_unless_they_say_that_they_are_json() {
    for (value, metadata, json_values, content_type, data) in [
        (r#""two\n""#, &[][..], true, "text/plain", json!("two\n")),
        (r#"{"a":1}"#, &[], true, "text/plain", json!(r#"{"a":1}"#)),
        ("1.10", &[], true, "text/plain", json!("1.10")),
        (r#""two""#, &[], false, "text/plain", json!(r#""two""#)),
        (
            r#""two""#,
            &[("contentType", "application/json")],
            true,
            "application/json",
            json!("two"),
        ),
        (
            r#"{"a":[1]}"#,
            &[("contentType", "application/json")],
            false,
            "application/json",
            json!({"a": [1]}),
        ),
        (
            r#""<a/>""#,
            &[("contentType", "application/xml")],
            true,
            "application/xml",
            json!("<a/>"),
        ),
    ] {
        let event = event(&write("k", value, metadata), json_values);
        assert_eq!(event["data"], data, "{value} {metadata:?}");
        assert_eq!(event["datacontenttype"], content_type, "{value}");
    }
}

/// A reader that takes numbers for doubles would not see the difference, so the bytes are looked at.
#[test]
fn digits_stay_as_they_were_sent() {
    let metadata = BTreeMap::from([("contentType".to_owned(), "application/json".to_owned())]);
    let write = SetRequest {
        value: r#"{"n":31.245270191439438,"m":123456789012345678901234567890}"#.into(),
        metadata,
        ..SetRequest::default()
    };
    let payload = event::Payload::of(&write, true);
    let now = "2024-01-02T03:04:05Z".parse().unwrap();
    let event = payload.event(Parts::default(), "outbox-1", &write.metadata, now);
    let text = std::str::from_utf8(&event).unwrap();
    assert!(text.contains("31.245270191439438"), "{text}");
    assert!(text.contains("123456789012345678901234567890"), "{text}");
}

/// Q-outbox-fields
#[test]
fn metadata_of_a_write_are_fields_except_id_and_data() {
    let metadata = [
        ("outbox.cloudevent.myapp", "myapp1"),
        ("data", "a"),
        ("id", "b"),
        ("subject", "s"),
    ];
    let event = event(&write("k", "2", &metadata), true);
    assert_eq!(event["outbox.cloudevent.myapp"], "myapp1");
    assert_eq!(event["subject"], "s");
    assert_eq!(event["data"], "2");
    assert_eq!(event["id"], "outbox-1");
    assert_eq!(event["source"], "app");
    assert_eq!(event["topic"], "orders");
    assert_eq!(event["pubsubname"], "bus");
}

#[test]
fn projections_are_said_and_not_committed() {
    let projection = [("outbox.projection", "true")];
    let operations = vec![
        write("a", "1", &[]),
        write("a", "2", &projection),
        write("b", "3", &[("outbox.projection", "false")]),
        write("c", "4", &projection),
        Operation::Delete(component::state::DeleteRequest::default()),
    ];
    assert_eq!(event::committed(&operations), 5);
    let (committed, projections) = event::split(operations);
    let keys: Vec<_> = writes(&committed).map(|write| &*write.key).collect();
    assert_eq!(keys, ["a", "b"]);
    assert_eq!(committed.len(), 3);
    assert_eq!(&projections["a"].value[..], b"2");
}

#[test]
fn an_outbox_needs_a_component_and_a_topic() {
    let read = |fields: &[(&str, &str)]| Config::read(&fields.iter().copied().collect());
    let (pubsub, topic) = (("outboxPublishPubsub", "bus"), ("outboxPublishTopic", "t"));
    assert_eq!(read(&[pubsub]), None);
    assert_eq!(read(&[topic]), None);
    let config = read(&[pubsub, topic]).unwrap();
    assert_eq!((&*config.via, config.discards), ("bus", false));
    let discards = ("outboxDiscardWhenMissingState", "true");
    let config = read(&[pubsub, topic, ("outboxPubsub", "own"), discards]).unwrap();
    assert_eq!((&*config.via, config.discards), ("own", true));
}
