//! Resources of Dapr as YAML.

use std::fmt::Write as _;

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
