//! Resources that suites load into sidecars. The in-memory components are complete and need no server.

pub use e2e::resources::{component, configuration};
use serde_json::{Value, json};

/// An in-memory state store named `statestore`.
pub const STATE: &str = "
apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: statestore
spec:
  type: state.in-memory
  version: v1
";

/// An in-memory pub/sub named `pubsub`.
pub const PUBSUB: &str = "
apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: pubsub
spec:
  type: pubsub.in-memory
  version: v1
";

/// What an app answers that wants the topic `orders` of that pub/sub at `/orders`.
pub fn orders() -> Value {
    json!([{"pubsubname": "pubsub", "topic": "orders", "route": "/orders"}])
}
