//! The schema against the counts of contract 1.1, and the bytes of a few messages against their field
//! numbers in contract 1.3.

use prost::Message;
use proto::json::descriptors;

#[test]
fn every_service_has_its_methods() {
    let expected = [
        ("dapr.proto.runtime.v1.Dapr", 72),
        ("dapr.proto.runtime.v1.AppCallback", 7),
        ("dapr.proto.runtime.v1.AppCallbackAlpha", 2),
        ("dapr.proto.runtime.v1.AppCallbackHealthCheck", 1),
        ("dapr.proto.internals.v1.ServiceInvocation", 5),
        ("dapr.proto.operator.v1.Operator", 16),
        ("dapr.proto.sentry.v1.CA", 1),
        ("dapr.proto.placement.v1.Placement", 1),
        ("dapr.proto.scheduler.v1.Scheduler", 8),
        ("dapr.proto.components.v1.StateStore", 9),
        ("dapr.proto.components.v1.QueriableStateStore", 1),
        ("dapr.proto.components.v1.TransactionalStateStore", 1),
        ("dapr.proto.components.v1.TransactionalStoreMultiMaxSize", 1),
        ("dapr.proto.components.v1.PubSub", 8),
        ("dapr.proto.components.v1.InputBinding", 3),
        ("dapr.proto.components.v1.OutputBinding", 4),
        ("dapr.proto.components.v1.SecretStore", 5),
        ("TaskHubSidecarService", 17),
        // Of etcd.
        ("etcdserverpb.KV", 5),
        ("etcdserverpb.Watch", 1),
        ("etcdserverpb.Auth", 1),
        ("etcdserverpb.Lease", 4),
        ("etcdserverpb.Maintenance", 3),
        // Of our own.
        ("daprrust.operator.v1.ComponentStatus", 1),
        ("daprrust.placement.v1.Members", 4),
    ];
    for (name, methods) in expected {
        let service = descriptors()
            .get_service_by_name(name)
            .unwrap_or_else(|| panic!("no service {name}"));
        assert_eq!(service.methods().len(), methods, "{name}");
    }
    assert_eq!(descriptors().services().count(), expected.len());
}

#[test]
fn streams_of_the_operator() {
    let operator = descriptors()
        .get_service_by_name("dapr.proto.operator.v1.Operator")
        .unwrap();
    assert_eq!(
        operator
            .methods()
            .filter(|method| method.is_server_streaming())
            .count(),
        7
    );
    assert!(
        !operator
            .methods()
            .any(|method| method.is_client_streaming())
    );
}

#[test]
fn files_have_the_names_that_reflection_shows() {
    for name in [
        "dapr/proto/runtime/v1/dapr.proto",
        "dapr/proto/common/v1/common.proto",
        "orchestrator_service.proto",
    ] {
        assert!(descriptors().get_file_by_name(name).is_some(), "{name}");
    }
}

#[test]
fn deprecations_reach_clients_through_reflection_only() {
    let dapr = descriptors()
        .get_service_by_name("dapr.proto.runtime.v1.Dapr")
        .unwrap();
    let marked = dapr.methods().filter(|method| {
        method
            .method_descriptor_proto()
            .options
            .as_ref()
            .is_some_and(|options| options.deprecated())
    });
    assert_eq!(marked.count(), 13);
}

#[test]
fn field_numbers_on_the_wire() {
    let event = proto::runtime::v1::TopicEventRequest {
        topic: "t".into(),
        data: bytes::Bytes::from_static(b"d"),
        pubsub_name: "p".into(),
        path: "/".into(),
        ..Default::default()
    };
    assert_eq!(
        event.encode_to_vec(),
        b"\x32\x01t\x3a\x01d\x42\x01p\x4a\x01/"
    ); // topic 6, data 7, pubsub_name 8, path 9
    let invoke = proto::runtime::v1::InvokeServiceRequest {
        id: "a".into(),
        message: Some(Default::default()),
    };
    assert_eq!(invoke.encode_to_vec(), b"\x0a\x01a\x1a\x00"); // id 1, message 3
}

#[test]
fn decoding_shares_the_buffer() {
    let item = proto::common::v1::StateItem {
        value: vec![7; 4096].into(),
        ..Default::default()
    };
    let encoded = bytes::Bytes::from(item.encode_to_vec());
    let decoded = proto::common::v1::StateItem::decode(encoded.clone()).unwrap();
    let (whole, part) = (encoded.as_ptr_range(), decoded.value.as_ptr_range());
    assert!(whole.start <= part.start && part.end <= whole.end);
}
