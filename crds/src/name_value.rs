//! Names with values, as component metadata, headers and environments are written (contract 3.2).

use std::borrow::Cow;

use macro_rules_attribute::apply;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Number, Value};

use crate::{lenient, object::object};

/// One property: a name and either a plain value, a reference to a secret, or the name of an
/// environment variable of the sidecar.
#[apply(object)]
pub struct NameValuePair {
    /// Name of the property.
    pub name: String,
    /// Plain value of the property: any JSON scalar.
    pub value: Option<DynamicValue>,
    /// The secret that holds the value.
    pub secret_key_ref: Option<SecretKeyRef>,
    /// The environment variable of the sidecar that holds the value.
    pub env_ref: Option<String>,
}

impl NameValuePair {
    /// A pair with a plain string value.
    pub fn plain(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: Some(DynamicValue::from(value.into())),
            ..Self::default()
        }
    }

    /// The plain value as text; empty when there is none.
    pub fn text(&self) -> Cow<'_, str> {
        self.value
            .as_ref()
            .map_or(Cow::Borrowed(""), DynamicValue::text)
    }
}

/// A reference to a value in a secret store.
#[apply(object)]
pub struct SecretKeyRef {
    /// Name of the secret.
    pub name: String,
    /// Field inside the secret; the secret's name when left out.
    #[serde(
        skip_serializing_if = "String::is_empty",
        deserialize_with = "lenient::or_default"
    )]
    pub key: String,
}

/// Reads a secret reference; one without a name, as Go prints an unset one, means "not given".
pub(crate) fn secret_key_ref<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SecretKeyRef>, D::Error> {
    Ok(Option::<SecretKeyRef>::deserialize(deserializer)?.filter(|secret| !secret.name.is_empty()))
}

impl SecretKeyRef {
    /// The field to read: `key`, or the name of the secret when `key` is empty (contract 3.2).
    pub fn field(&self) -> &str {
        if self.key.is_empty() {
            &self.name
        } else {
            &self.key
        }
    }
}

/// A value that users write as any JSON scalar and that is used as text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DynamicValue(pub Value);

impl DynamicValue {
    /// The value as text: a string is taken as it is, anything else as its JSON text; `null` is empty.
    pub fn text(&self) -> Cow<'_, str> {
        match &self.0 {
            Value::Null => Cow::Borrowed(""),
            Value::String(text) => Cow::Borrowed(text),
            Value::Number(number) => Cow::Owned(number_text(number)),
            other => Cow::Owned(other.to_string()),
        }
    }
}

impl From<String> for DynamicValue {
    fn from(text: String) -> Self {
        Self(Value::String(text))
    }
}

impl From<&str> for DynamicValue {
    fn from(text: &str) -> Self {
        Self(Value::String(text.to_owned()))
    }
}

impl JsonSchema for DynamicValue {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "DynamicValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "x-kubernetes-preserve-unknown-fields": true })
    }
}

/// The schema of an object that may hold anything.
pub(crate) fn free_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// Compat: numbers are printed as Go's JSON encoder prints them (`1.0` is `1`, `1e21` is `1e+21`),
/// because users see this text in component metadata. Q-number-text
pub(crate) fn number_text(number: &Number) -> String {
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else {
        return number.to_string();
    };
    let size = float.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{float:e}");
        return if size >= 1e21 {
            text.replace('e', "e+")
        } else {
            text
        };
    }
    float.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(value: Value) -> String {
        DynamicValue(value).text().into_owned()
    }

    #[test]
    fn values_become_text() {
        assert_eq!(text(json!("plain \"quoted\"")), "plain \"quoted\"");
        assert_eq!(text(json!(42)), "42");
        assert_eq!(text(json!(-1)), "-1");
        assert_eq!(text(json!(1.0)), "1");
        assert_eq!(text(json!(0.25)), "0.25");
        assert_eq!(text(json!(1e21)), "1e+21");
        assert_eq!(text(json!(1e-7)), "1e-7");
        assert_eq!(text(json!(true)), "true");
        assert_eq!(text(json!({"b": [1]})), r#"{"b":[1]}"#);
        assert_eq!(text(Value::Null), "");
    }

    #[test]
    fn unset_fields_of_go_writers_are_absent() {
        let pair: NameValuePair = serde_json::from_value(json!({
            "name": "host", "value": null, "secretKeyRef": {"name": "", "key": ""}, "envRef": ""
        }))
        .unwrap();
        assert_eq!(
            pair,
            NameValuePair {
                name: "host".into(),
                ..NameValuePair::default()
            }
        );
        assert_eq!(
            serde_json::to_value(&pair).unwrap(),
            json!({"name": "host"})
        );
    }

    #[test]
    fn the_key_of_a_secret_defaults_to_its_name() {
        let mut secret = SecretKeyRef {
            name: "db".into(),
            key: String::new(),
        };
        assert_eq!(secret.field(), "db");
        secret.key = "password".into();
        assert_eq!(secret.field(), "password");
    }
}
