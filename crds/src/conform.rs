//! Fits what a person wrote in YAML to the schema of a kind, before serde sees it.
//!
//! Compat: upstream's reader turns YAML numbers and booleans into text where text is wanted
//! (`version: 1`), takes field names in any case (`pubsubName`), and ignores empty fields; files in
//! use rely on that. Q-file-leniency. The walk also knows where it is, so that an error names the field.

use serde_json::{Map, Value};

use crate::name_value::number_text;

/// Deepest nesting that the walk follows; deeper values are free-form and stay as they are.
const MAX_DEPTH: usize = 32;

/// Unknown fields that are told of one object.
const MOST_UNKNOWN: usize = 20;

/// A value that its field cannot hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// Path of the field, e.g. `spec.metadata[2].name`.
    pub field: String,
    /// What the field holds, e.g. `string`.
    pub expected: String,
    /// What was written, e.g. `a list`.
    pub found: &'static str,
}

/// Changes `value` to fit `schema` where that is possible without guessing. Answers the fields that the schema does not
/// know, by their paths; they are ignored, which is hardly what their author meant.
pub(crate) fn conform(value: &mut Value, schema: &Value) -> Result<Vec<String>, Mismatch> {
    let mut unknown = Vec::new();
    walk(value, schema, "", 0, &mut unknown)?;
    Ok(unknown)
}

/// A field of an object by its name, or else by the same name in another case.
pub(crate) fn field<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    let map = value.as_object()?;
    map.get(name).or_else(|| {
        let mut fields = map.iter();
        let same = fields.find(|(key, _)| key.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value)
    })
}

/// The same, to be changed.
pub(crate) fn field_mut<'v>(value: &'v mut Value, name: &str) -> Option<&'v mut Value> {
    let map = value.as_object_mut()?;
    let key = match map.contains_key(name) {
        true => name.to_owned(),
        false => map
            .keys()
            .find(|key| key.eq_ignore_ascii_case(name))?
            .clone(),
    };
    map.get_mut(&key)
}

fn walk(
    value: &mut Value,
    schema: &Value,
    path: &str,
    depth: usize,
    unknown: &mut Vec<String>,
) -> Result<(), Mismatch> {
    let kind = schema
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if kind.is_empty() || depth > MAX_DEPTH {
        return Ok(());
    }
    scalar(value, kind);
    match (kind, &mut *value) {
        ("object", Value::Object(map)) => object(map, schema, path, depth, unknown),
        ("array", Value::Array(items)) => {
            let inner = schema.get("items").unwrap_or(&Value::Null);
            for (index, item) in items.iter_mut().enumerate() {
                walk(item, inner, &format!("{path}[{index}]"), depth + 1, unknown)?;
            }
            Ok(())
        }
        ("string", Value::String(text)) => one_of(text, schema, path),
        ("boolean", Value::Bool(_))
        | ("integer" | "number", Value::Number(_))
        | (_, Value::Null) => Ok(()),
        (_, other) => Err(Mismatch {
            field: path.to_owned(),
            expected: kind.to_owned(),
            found: name(other),
        }),
    }
}

fn scalar(value: &mut Value, kind: &str) {
    let replacement = match (kind, &*value) {
        ("string", Value::Number(number)) => Value::String(number_text(number)),
        ("string", Value::Bool(on)) => Value::String(on.to_string()),
        // 5.0 is the integer 5 after a round through JSON; the cast is exact below 2^53.
        ("integer", Value::Number(number)) if number.is_f64() => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < 9e15 => Value::from(float as i64),
            _ => return,
        },
        _ => return,
    };
    *value = replacement;
}

fn object(
    map: &mut Map<String, Value>,
    schema: &Value,
    path: &str,
    depth: usize,
    unknown: &mut Vec<String>,
) -> Result<(), Mismatch> {
    let at = |key: &str| {
        if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}.{key}")
        }
    };
    if let Some(inner) = schema.get("additionalProperties") {
        map.retain(|_, value| !value.is_null());
        return map
            .iter_mut()
            .try_for_each(|(key, value)| walk(value, inner, &at(key), depth + 1, unknown));
    }
    let Some(Value::Object(properties)) = schema.get("properties") else {
        return Ok(());
    };
    let strangers: Vec<String> = map
        .keys()
        .filter(|key| !properties.contains_key(*key))
        .cloned()
        .collect();
    for key in strangers {
        let known = properties
            .keys()
            .find(|known| known.eq_ignore_ascii_case(&key));
        if let Some(known) = known
            && !map.contains_key(known)
            && let Some(value) = map.remove(&key)
        {
            map.insert(known.clone(), value);
        } else if known.is_none() && !is_open(path, &key) && unknown.len() < MOST_UNKNOWN {
            unknown.push(at(&key));
        }
    }
    for (key, inner) in properties {
        let Some(value) = map.get_mut(key) else {
            continue;
        };
        if value.is_null() {
            map.remove(key);
        } else {
            walk(value, inner, &at(key), depth + 1, unknown)?;
        }
    }
    Ok(())
}

/// What every object has besides the fields of its kind.
fn is_open(path: &str, key: &str) -> bool {
    match path {
        "" => ["apiVersion", "kind", "metadata", "status"]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(key)),
        _ => path == "metadata" || path.starts_with("metadata."),
    }
}

fn one_of(text: &str, schema: &Value, path: &str) -> Result<(), Mismatch> {
    match schema.get("enum") {
        Some(Value::Array(choices)) if !choices.iter().any(|choice| choice == text) => {
            let names: Vec<&str> = choices.iter().filter_map(Value::as_str).collect();
            let expected = format!("one of {}", names.join(", "));
            Err(Mismatch {
                field: path.to_owned(),
                expected,
                found: "another word",
            })
        }
        _ => Ok(()),
    }
}

fn name(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Component, Resiliency, Subscription, schema};

    #[test]
    fn scalars_become_the_text_that_is_wanted() {
        let mut value = json!({
            "metadata": {"name": 7, "labels": {"a": true}},
            "spec": {"type": "state.redis", "version": 1.5, "metadata": [{"name": 1, "value": 2}], "initTimeout": null},
            "scopes": [12]
        });
        conform(&mut value, &schema::of::<Component>()).unwrap();
        assert_eq!(
            value,
            json!({
                "metadata": {"name": "7", "labels": {"a": "true"}},
                "spec": {"type": "state.redis", "version": "1.5", "metadata": [{"name": "1", "value": 2}]},
                "scopes": ["12"]
            })
        );
    }

    #[test]
    fn field_names_match_in_any_case() {
        let mut value =
            json!({"Spec": {"pubsubName": "bus", "pubsubname": "wins", "TOPIC": "t", "other": 1}});
        let unknown = conform(&mut value, &schema::of::<Subscription>()).unwrap();
        assert_eq!(unknown, ["spec.other"]);
        assert_eq!(value["spec"]["pubsubname"], "wins");
        assert_eq!(value["spec"]["topic"], "t");
        assert_eq!(value["spec"]["other"], 1);
    }

    #[test]
    fn unknown_fields_are_named() {
        let mut value = json!({
            "apiVersion": "a", "kind": "k", "metadata": {"name": "n", "odd": 1}, "scope": ["app"],
            "spec": {"polices": {}, "policies": {"retries": {"r": {"maxRetry": 3, "duration": "1s"}}}}
        });
        let unknown = conform(&mut value, &schema::of::<Resiliency>()).unwrap();
        assert_eq!(
            unknown,
            ["scope", "spec.polices", "spec.policies.retries.r.maxRetry"]
        );
    }

    #[test]
    fn mismatches_name_the_field() {
        let mut value = json!({"spec": {"policies": {"retries": {"r": {"maxRetries": "many"}}}}});
        let mismatch = conform(&mut value, &schema::of::<Resiliency>()).unwrap_err();
        assert_eq!(mismatch.field, "spec.policies.retries.r.maxRetries");
        assert_eq!(
            (mismatch.expected.as_str(), mismatch.found),
            ("integer", "text")
        );
        let mut whole = json!({"spec": {"policies": {"retries": {"r": {"maxRetries": 3.0}}}}});
        conform(&mut whole, &schema::of::<Resiliency>()).unwrap();
        assert_eq!(
            whole["spec"]["policies"]["retries"]["r"]["maxRetries"],
            json!(3)
        );
    }
}
