//! Reasons of the pub/sub block.

use tonic::Code;

use super::Reason;

const CATEGORY: &str = "pubsub";

macro_rules! rows {
    ($($name:ident = $code:literal, $info:literal, $http:literal, $grpc:ident;)*) => {
        $(pub static $name: Reason = Reason::rich($code, $info, $http, Code::$grpc, CATEGORY);)*
        pub static ALL: &[&Reason] = &[$(&$name),*];
    };
}

rows! {
    NAME_EMPTY = "ERR_PUBSUB_EMPTY", "DAPR_PUBSUB_NAME_EMPTY", 404, InvalidArgument;
    NOT_FOUND = "ERR_PUBSUB_NOT_FOUND", "DAPR_PUBSUB_NOT_FOUND", 404, InvalidArgument;
    TOPIC_EMPTY = "ERR_TOPIC_NAME_EMPTY", "DAPR_PUBSUB_TOPIC_NAME_EMPTY", 404, InvalidArgument;
    FORBIDDEN = "ERR_PUBSUB_FORBIDDEN", "DAPR_PUBSUB_FORBIDDEN", 403, PermissionDenied;
    PUBLISH = "ERR_PUBSUB_PUBLISH_MESSAGE", "DAPR_PUBSUB_PUBLISH_MESSAGE", 500, Internal;
    METADATA = "ERR_PUBSUB_REQUEST_METADATA", "DAPR_PUBSUB_METADATA_DESERIALIZATION", 400, InvalidArgument;
    CLOUD_EVENT = "ERR_PUBSUB_CLOUD_EVENTS_SER", "DAPR_PUBSUB_CLOUD_EVENT_CREATION", 500, InvalidArgument;
    ENVELOPE = "ERR_PUBSUB_EVENTS_SER", "DAPR_PUBSUB_MARSHAL_ENVELOPE", 400, Internal;
    MARSHAL_EVENTS = "ERR_PUBSUB_EVENTS_SER", "DAPR_PUBSUB_MARSHAL_EVENTS", 400, InvalidArgument;
    UNMARSHAL_EVENTS = "ERR_PUBSUB_EVENTS_SER", "DAPR_PUBSUB_UNMARSHAL_EVENTS", 400, InvalidArgument;
    OUTBOX = "ERR_PUBLISH_OUTBOX", "DAPR_PUBSUB_OUTBOX", 500, Internal;
}
