//! Structural schemas (the subset of OpenAPI that a Kubernetes API server takes) of the types.
//!
//! schemars describes what serde reads; a few rewrites make that structural: no `$ref`, one `type` per
//! node, enums as lists, and no defaults but those that are asked for with `x-default`.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::Kind;

/// The structural schema of a type. Fields that are always written are required.
pub fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| {
            settings.meta_schema = None;
            settings.inline_subschemas = true;
        })
        .for_serialize();
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    structural(&mut schema);
    schema
}

/// The schema of a kind as its CRD carries it: `metadata` is the API server's business, and nothing is
/// required at the root.
pub fn root<K: Kind>() -> Value {
    let mut schema = of::<K>();
    let Some(node) = schema.as_object_mut() else {
        return schema;
    };
    node.remove("required");
    if let Some(Value::Object(properties)) = node.get_mut("properties") {
        properties.insert("metadata".into(), json!({ "type": "object" }));
        for (name, text) in [
            ("apiVersion", "Group and version of the resource."),
            ("kind", "Kind of the resource."),
        ] {
            properties.insert(
                name.into(),
                json!({ "type": "string", "description": text }),
            );
        }
    }
    schema
}

fn structural(schema: &mut Value) {
    // `true` is how JSON Schema says "anything".
    if schema.as_bool().is_some() {
        *schema = json!({ "x-kubernetes-preserve-unknown-fields": true });
    }
    let Some(node) = schema.as_object_mut() else {
        return;
    };
    without_null(node);
    list_constants(node);
    node.remove("title");
    node.remove("default");
    if let Some(default) = node.remove("x-default") {
        node.insert("default".into(), default);
    }
    if let Some(Value::String(text)) = node.get_mut("description") {
        *text = text.replace('\n', " ");
    }
    if let Some(Value::Object(properties)) = node.get_mut("properties") {
        properties.values_mut().for_each(structural);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = node.get_mut(key) {
            structural(inner);
        }
    }
}

/// An optional field may be left out, but not be `null`: the API server prunes `null`s and applies
/// defaults only where they are not allowed.
fn without_null(node: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = node.get_mut("type") {
        types.retain(|name| name != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            node.insert("type".into(), one);
        }
    }
    if let Some(Value::Array(values)) = node.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    if let Some(Value::Array(mut choices)) = node.remove("anyOf") {
        choices.retain(|choice| choice.get("type") != Some(&json!("null")));
        if let [Value::Object(only)] = choices.as_slice() {
            for (key, value) in only {
                // What stands at the field (its description, for one) goes before what stands at its type.
                node.entry(key.clone()).or_insert_with(|| value.clone());
            }
        } else {
            node.insert("anyOf".into(), Value::Array(choices));
        }
    }
}

/// Enums whose values are documented come as a choice of constants.
fn list_constants(node: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = node.get("oneOf") else {
        return;
    };
    let constants: Option<Vec<Value>> = choices
        .iter()
        .map(|choice| choice.get("const").cloned())
        .collect();
    if let Some(constants) = constants {
        node.remove("oneOf");
        node.insert("type".into(), json!("string"));
        node.insert("enum".into(), Value::Array(constants));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Component, HttpEndpoint, McpServer, WorkflowAccessPolicy};

    #[test]
    fn required_fields_are_those_always_written() {
        let schema = root::<Component>();
        assert_eq!(schema.get("required"), None);
        assert_eq!(
            schema["properties"]["spec"]["required"],
            json!(["type", "version", "metadata"])
        );
        assert_eq!(
            schema["properties"]["auth"]["required"],
            json!(["secretStore"])
        );
        let pair = &schema["properties"]["spec"]["properties"]["metadata"]["items"];
        assert_eq!(pair["required"], json!(["name"]));
        assert_eq!(pair["properties"]["value"].get("type"), None);
        assert_eq!(
            pair["properties"]["value"]["x-kubernetes-preserve-unknown-fields"],
            true
        );
    }

    #[test]
    fn enums_limits_and_rules_are_kept() {
        let tls = root::<HttpEndpoint>()["properties"]["spec"]["properties"]["clientTLS"].clone();
        let renegotiation = &tls["properties"]["renegotiation"];
        assert_eq!(
            renegotiation["enum"],
            json!(["Never", "OnceAsClient", "FreelyAsClient"])
        );
        assert_eq!(renegotiation["default"], "Never");
        let policy = root::<WorkflowAccessPolicy>();
        let rule = &policy["properties"]["spec"]["properties"]["rules"]["items"];
        assert_eq!(rule["properties"]["callers"]["minItems"], 1);
        let operations = &rule["properties"]["workflows"]["items"]["properties"]["operations"];
        assert_eq!(operations["x-kubernetes-list-type"], "set");
        assert_eq!(operations["items"]["enum"].as_array().unwrap().len(), 8);
        let endpoint = &root::<McpServer>()["properties"]["spec"]["properties"]["endpoint"];
        assert!(endpoint["x-kubernetes-validations"][0]["rule"].is_string());
    }

    /// Keys that an API server refuses in a structural schema, or that would change what it accepts.
    #[test]
    fn schemas_are_structural() {
        fn walk(node: &Value, path: &str) {
            let Some(map) = node.as_object() else {
                panic!("{path} is not a schema: {node}");
            };
            for key in [
                "$ref",
                "$defs",
                "$schema",
                "oneOf",
                "anyOf",
                "const",
                "title",
                "nullable",
                "x-default",
            ] {
                assert!(!map.contains_key(key), "{path} has {key}");
            }
            let free = map.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true));
            assert!(
                free || map.get("type").is_some_and(Value::is_string),
                "{path} has no type"
            );
            for (name, inner) in map
                .get("properties")
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
            {
                walk(inner, &format!("{path}.{name}"));
            }
            for key in ["items", "additionalProperties"] {
                if let Some(inner) = map.get(key) {
                    walk(inner, &format!("{path}[]"));
                }
            }
        }
        for definition in crate::definitions::all() {
            for version in definition.json["spec"]["versions"].as_array().unwrap() {
                walk(&version["schema"]["openAPIV3Schema"], definition.plural);
            }
        }
    }
}
