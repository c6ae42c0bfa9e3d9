//! A check of objects against structural schemas, small but enough to tell the examples apart: types,
//! required fields, enums, lengths, counts, sets, and the three rules that are written in CEL.

use serde_json::Value;

/// What an API server would refuse; empty when it takes the object.
pub fn violations(object: &Value, schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(object, schema, "", &mut found);
    found
}

fn check(value: &Value, schema: &Value, path: &str, found: &mut Vec<String>) {
    let fits = match schema["type"].as_str() {
        None => true,
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some(other) => panic!("{path}: unexpected type {other}"),
    };
    if !fits {
        found.push(format!("{path}: {value} is not {}", schema["type"]));
        return;
    }
    if let Some(choices) = schema["enum"].as_array()
        && !choices.contains(value)
    {
        found.push(format!("{path}: {value} is none of {choices:?}"));
    }
    match value {
        Value::Object(map) => {
            for name in schema["required"].as_array().into_iter().flatten() {
                if !map.contains_key(name.as_str().unwrap()) {
                    found.push(format!("{path}: {name} is missing"));
                }
            }
            for (key, inner) in map {
                let field = match schema["properties"].get(key) {
                    Some(field) => field,
                    None => &schema["additionalProperties"],
                };
                check(inner, field, &format!("{path}.{key}"), found);
            }
        }
        Value::Array(items) => {
            bounds(items.len(), schema, "Items", path, found);
            let is_set = schema["x-kubernetes-list-type"] == "set";
            for (index, item) in items.iter().enumerate() {
                check(item, &schema["items"], &format!("{path}[{index}]"), found);
                if is_set && items[..index].contains(item) {
                    found.push(format!("{path}: {item} stands twice"));
                }
            }
        }
        Value::String(text) => bounds(text.chars().count(), schema, "Length", path, found),
        _ => {}
    }
    for rule in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        if !holds(value, rule["rule"].as_str().unwrap()) {
            found.push(format!("{path}: {}", rule["message"]));
        }
    }
}

fn bounds(count: usize, schema: &Value, what: &str, path: &str, found: &mut Vec<String>) {
    let limit = |edge: &str| {
        schema[format!("{edge}{what}")]
            .as_u64()
            .map(|limit| limit as usize)
    };
    if limit("min").is_some_and(|limit| count < limit)
        || limit("max").is_some_and(|limit| count > limit)
    {
        found.push(format!("{path}: {count} is out of bounds"));
    }
}

/// The rules by what they are about; a rule that is not known here fails the test.
fn holds(value: &Value, rule: &str) -> bool {
    let count = |key: &str| value[key].as_array().map_or(0, Vec::len);
    if rule.contains("streamableHTTP") {
        ["streamableHTTP", "sse", "stdio"]
            .iter()
            .filter(|key| value.get(**key).is_some())
            .count()
            == 1
    } else if rule.contains("self.activities") {
        count("workflows") + count("activities") > 0
    } else if rule.contains("self.requires") {
        count("requires") == 0 || value["operations"] == serde_json::json!(["schedule"])
    } else {
        panic!("unknown rule {rule}")
    }
}
