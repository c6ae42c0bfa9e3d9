//! Resources that suites load into sidecars. The in-memory components are complete and need no server.

use std::fmt::Write as _;

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

/// A component with metadata.
pub fn component(name: &str, kind: &str, metadata: &[(&str, &str)]) -> String {
    let mut yaml = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: {name}\nspec:\n  type: {kind}\n  version: v1\n"
    );
    if !metadata.is_empty() {
        yaml.push_str("  metadata:\n");
    }
    for (name, value) in metadata {
        write!(yaml, "  - name: {name}\n    value: {value:?}\n").expect("a string grows");
    }
    yaml
}

/// A Configuration with this spec, which is indented by two spaces.
pub fn configuration(spec: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata:\n  name: appconfig\nspec:\n{spec}\n"
    )
}
