//! The JSON mapping against what Go's `protojson` writes and reads.

use prost_types::value::Kind as Json;
use serde_json::json;

use super::*;
use crate::{
    common::v1 as common, internals::v1 as internals, runtime::v1 as runtime,
    scheduler::v1 as scheduler,
};

fn round_trip<M: Message + Name + Default + PartialEq + std::fmt::Debug>(
    message: &M,
    expected: Value,
) {
    assert_eq!(to_value(message).unwrap(), expected);
    assert_eq!(
        &from_json::<M>(&serde_json::to_vec(&expected).unwrap()).unwrap(),
        message
    );
    assert_eq!(&from_value::<M>(expected).unwrap(), message);
}

#[test]
fn bytes_maps_and_enums() {
    let item = common::StateItem {
        key: "planet".into(),
        value: bytes::Bytes::from_static(b"\x00\xff\xfe"),
        etag: Some(common::Etag { value: "7".into() }),
        metadata: [("ttlInSeconds".into(), "5".into())].into(),
        options: Some(common::StateOptions {
            concurrency: common::state_options::StateConcurrency::ConcurrencyFirstWrite.into(),
            consistency: common::state_options::StateConsistency::ConsistencyStrong.into(),
        }),
    };
    round_trip(
        &item,
        json!({
            "key": "planet",
            "value": "AP/+",
            "etag": {"value": "7"},
            "metadata": {"ttlInSeconds": "5"},
            "options": {"concurrency": "CONCURRENCY_FIRST_WRITE", "consistency": "CONSISTENCY_STRONG"},
        }),
    );
}

#[test]
fn names_are_camel_case_and_both_spellings_are_read() {
    let request = runtime::PublishEventRequest {
        pubsub_name: "orders".into(),
        data_content_type: "text/plain".into(),
        ..Default::default()
    };
    round_trip(
        &request,
        json!({"pubsubName": "orders", "dataContentType": "text/plain"}),
    );
    let read: runtime::PublishEventRequest = from_json(
        br#"{"pubsub_name": "orders", "data_content_type": "text/plain", "unheard_of": [1]}"#,
    )
    .unwrap();
    assert_eq!(read, request);
}

#[test]
fn odd_names() {
    let reminder = runtime::GetActorReminderRequest {
        actor_type: "cat".into(),
        actor_id: "tom".into(),
        name: "feed".into(),
    };
    round_trip(
        &reminder,
        json!({"actorType": "cat", "actorID": "tom", "name": "feed"}),
    );

    let register = runtime::RegisterActorReminderRequest {
        failure_policy: Some(common::JobFailurePolicy {
            policy: Some(common::job_failure_policy::Policy::Constant(
                common::JobFailurePolicyConstant {
                    interval: Some(prost_types::Duration {
                        seconds: 3,
                        nanos: 0,
                    }),
                    max_retries: Some(2),
                },
            )),
        }),
        ..Default::default()
    };
    round_trip(
        &register,
        json!({"failure_policy": {"constant": {"interval": "3s", "maxRetries": 2}}}),
    );

    let transaction = runtime::ExecuteStateTransactionRequest {
        store_name: "statestore".into(),
        ..Default::default()
    };
    round_trip(&transaction, json!({"storeName": "statestore"}));
    let operation = runtime::TransactionalStateOperation {
        operation_type: "upsert".into(),
        request: None,
    };
    round_trip(&operation, json!({"operationType": "upsert"}));
}

#[test]
fn long_integers_are_strings_and_both_forms_are_read() {
    let target = scheduler::Job {
        repeats: Some(4),
        ..Default::default()
    };
    round_trip(&target, json!({"repeats": 4}));
    let status = internals::TimerFiredEvent {
        generation: u64::MAX,
        ..Default::default()
    };
    round_trip(&status, json!({"generation": "18446744073709551615"}));
    let read: internals::TimerFiredEvent = from_json(br#"{"generation": 12}"#).unwrap();
    assert_eq!(read.generation, 12);
}

#[test]
fn json_values_inside_a_message() {
    let job: internals::JobHttpRequest =
        from_json(br#"{"schedule": "@every 1s", "data": {"a": [1, null]}}"#).unwrap();
    let Some(Json::StructValue(object)) = job.data.as_ref().and_then(|data| data.kind.as_ref())
    else {
        panic!("data is no object: {job:?}");
    };
    assert!(object.fields.contains_key("a"));
    assert_eq!(
        to_value(&job).unwrap(),
        json!({"schedule": "@every 1s", "data": {"a": [1.0, null]}})
    );
}

#[test]
fn whole_numbers_have_no_fraction_in_texts() {
    let text = br#"{"schedule":"@every 1s","data":[1,2.5,-0.0,1e21,1e-7,12345678901234567890]}"#;
    let job: internals::JobHttpRequest = from_json(text).unwrap();
    assert_eq!(
        String::from_utf8(to_json(&job).unwrap()).unwrap(),
        r#"{"data":[1,2.5,0,1e21,1e-7,12345678901234567000],"schedule":"@every 1s"}"#
    );
}

#[test]
fn any_holds_known_messages_only() {
    let known = prost_types::Any {
        type_url: "type.googleapis.com/dapr.proto.common.v1.Etag".into(),
        value: common::Etag { value: "1".into() }.encode_to_vec(),
    };
    let response = common::InvokeResponse {
        data: Some(known),
        content_type: String::new(),
    };
    round_trip(
        &response,
        json!({"data": {"@type": "type.googleapis.com/dapr.proto.common.v1.Etag", "value": "1"}}),
    );
    let unknown = prost_types::Any {
        type_url: "type.googleapis.com/nobody.Knows".into(),
        value: vec![1, 2],
    };
    let response = common::InvokeResponse {
        data: Some(unknown),
        content_type: String::new(),
    };
    assert!(matches!(to_value(&response), Err(Error::Write { .. })));
}

#[test]
fn unpopulated_fields_on_demand() {
    assert_eq!(
        to_value(&runtime::TryLockResponse::default()).unwrap(),
        json!({})
    );
    assert_eq!(
        to_value_with(&runtime::TryLockResponse::default(), Emit::All).unwrap(),
        json!({"success": false})
    );
    let item = common::StateItem {
        options: Some(common::StateOptions::default()),
        ..Default::default()
    };
    assert_eq!(
        to_value_with(&item, Emit::All).unwrap(),
        json!({
            "key": "", "value": "", "etag": null, "metadata": {},
            "options": {"concurrency": "CONCURRENCY_UNSPECIFIED", "consistency": "CONSISTENCY_UNSPECIFIED"},
        })
    );
    // Neither `optional` fields nor members of a oneof are filled in.
    assert_eq!(
        to_value_with(&common::JobFailurePolicyConstant::default(), Emit::All).unwrap(),
        json!({"interval": null})
    );
    assert_eq!(
        to_value_with(&common::JobFailurePolicy::default(), Emit::All).unwrap(),
        json!({})
    );
}

#[test]
fn bad_input_names_message_and_place() {
    for bad in [
        "",
        "[]",
        "{\"key\": 1}",
        "{\"value\": \"%%\"}",
        "{} x",
        "{\"metadata\": {\"a\": {}}}",
    ] {
        let error = from_json::<common::StateItem>(bad.as_bytes()).expect_err(bad);
        assert_eq!(
            error.to_string(),
            "invalid JSON for dapr.proto.common.v1.StateItem"
        );
        assert!(std::error::Error::source(&error).is_some());
    }
    let deep = format!("{{\"data\": {}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(from_json::<internals::JobHttpRequest>(deep.as_bytes()).is_err());
}

#[test]
fn messages_of_others_by_name() {
    let status = tonic_types::Status {
        code: 5,
        message: "gone".into(),
        details: Vec::new(),
    };
    let value = encoded_to_value("google.rpc.Status", &status.encode_to_vec()).unwrap();
    assert_eq!(value, json!({"code": 5, "message": "gone"}));
    assert!(
        matches!(encoded_to_value("no.Such", b""), Err(Error::Unknown(name)) if name == "no.Such")
    );
    assert!(matches!(
        encoded_to_value("google.rpc.Status", b"\xff"),
        Err(Error::Descriptor { .. })
    ));
}

#[test]
fn messages_without_a_package() {
    let request = crate::durabletask::RerunWorkflowFromEventRequest {
        source_instance_id: "a".into(),
        event_id: 3,
        ..Default::default()
    };
    round_trip(&request, json!({"sourceInstanceID": "a", "eventID": 3}));
}
