//! Golden wire files: the exact status, headers and body of an answer, in `tests/golden/<name>.json`.
//! `"<any>"` in a file matches every value. `DAPR_E2E_BLESS=1` writes the files from what was seen.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::http::Reply;

/// Compares an answer with its golden file: status, the named headers, and the body as JSON (as text, if
/// it is none).
#[track_caller]
pub fn check(name: &str, reply: &Reply, headers: &[&str]) {
    let headers: Map<String, Value> = headers
        .iter()
        .map(|&name| (name.to_owned(), reply.header(name).into()))
        .collect();
    let body = serde_json::from_slice(&reply.body).unwrap_or_else(|_| Value::String(reply.text()));
    compare(
        name,
        &json!({"status": reply.status, "headers": headers, "body": body}),
    );
}

/// Compares a JSON value with its golden file.
#[track_caller]
pub fn compare(name: &str, seen: &Value) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(format!("{name}.json"));
    if std::env::var_os("DAPR_E2E_BLESS").is_some() {
        let text = serde_json::to_string_pretty(seen).expect("a value prints");
        std::fs::write(&path, text + "\n").expect("the golden folder is writable");
        return;
    }
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let expected: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut differences = Vec::new();
    differ("", &expected, seen, &mut differences);
    assert!(
        differences.is_empty(),
        "{name} differs from its golden file:\n{}\nseen: {seen:#}",
        differences.join("\n")
    );
}

fn differ(place: &str, expected: &Value, seen: &Value, differences: &mut Vec<String>) {
    match (expected, seen) {
        (Value::String(any), _) if any == "<any>" => {}
        (Value::Object(expected), Value::Object(seen)) => {
            for (key, value) in expected {
                match seen.get(key) {
                    Some(seen) => differ(&format!("{place}/{key}"), value, seen, differences),
                    None => differences.push(format!("{place}/{key}: missing, expected {value}")),
                }
            }
            for key in seen.keys().filter(|key| !expected.contains_key(*key)) {
                differences.push(format!("{place}/{key}: unexpected"));
            }
        }
        (Value::Array(expected), Value::Array(seen)) if expected.len() == seen.len() => {
            for (index, (expected, seen)) in expected.iter().zip(seen).enumerate() {
                differ(&format!("{place}/{index}"), expected, seen, differences);
            }
        }
        _ if expected == seen => {}
        _ => differences.push(format!("{place}: expected {expected}, saw {seen}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differences(expected: Value, seen: Value) -> Vec<String> {
        let mut found = Vec::new();
        differ("", &expected, &seen, &mut found);
        found
    }

    #[test]
    fn finds_every_difference() {
        assert!(differences(json!({"a": [1, "<any>"]}), json!({"a": [1, {"b": 2}]})).is_empty());
        assert_eq!(
            differences(json!({"a": 1, "b": 2}), json!({"a": 2, "c": 3})).len(),
            3
        );
        assert_eq!(differences(json!([1]), json!([1, 2])).len(), 1);
    }
}
