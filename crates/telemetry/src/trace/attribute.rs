//! Names of span attributes, as traces of Dapr have always carried them (contract 10.7).

/// The API that was called: method and path, or the full gRPC method.
pub const DAPR_API: &str = "dapr.api";
/// `http` or `grpc`.
pub const DAPR_PROTOCOL: &str = "dapr.protocol";
/// HTTP status code of the answer.
pub const DAPR_STATUS_CODE: &str = "dapr.status_code";
/// Method of a service invocation.
pub const DAPR_INVOKE_METHOD: &str = "dapr.invoke_method";
/// Actor type and id, joined by a dot.
pub const DAPR_ACTOR: &str = "dapr.actor";
/// Building block of a component call.
pub const DB_SYSTEM: &str = "db.system";
/// Name of the component.
pub const DB_NAME: &str = "db.name";
/// What was asked of the component.
pub const DB_STATEMENT: &str = "db.statement";
/// Type of the component.
pub const DB_CONNECTION_STRING: &str = "db.connection_string";
/// Always `pubsub`.
pub const MESSAGING_SYSTEM: &str = "messaging.system";
/// The topic.
pub const MESSAGING_DESTINATION: &str = "messaging.destination.name";
/// gRPC service.
pub const RPC_SERVICE: &str = "rpc.service";
/// gRPC or HTTP, of the called side.
pub const RPC_SYSTEM: &str = "rpc.system";
/// The app that is called.
pub const NET_PEER_NAME: &str = "net.peer.name";
/// HTTP method.
pub const HTTP_REQUEST_METHOD: &str = "http.request.method";
/// Address of the caller.
pub const SERVER_ADDRESS: &str = "server.address";
/// Port of the caller.
pub const SERVER_PORT: &str = "server.port";
/// Request target with its query.
pub const URL_FULL: &str = "url.full";
