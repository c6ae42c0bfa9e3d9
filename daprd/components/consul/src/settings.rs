//! The objects in the resolver's configuration: their members are found in any case, as Go finds them.

use component::{Error, Result};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// How the agent is reached.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Client {
    pub address: String,
    pub scheme: String,
    pub datacenter: String,
    pub token: String,
    #[serde(rename = "tokenfile")]
    pub token_file: String,
    #[serde(rename = "httpauth")]
    pub http_auth: Option<HttpAuth>,
    #[serde(rename = "tlsconfig")]
    pub tls: Tls,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct HttpAuth {
    pub username: String,
    pub password: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Tls {
    #[serde(rename = "cafile")]
    pub authorities: String,
    #[serde(rename = "certfile")]
    pub certificate: String,
    #[serde(rename = "keyfile")]
    pub key: String,
    #[serde(rename = "insecureskipverify")]
    pub insecure: bool,
}

/// What is asked with a lookup.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Query {
    pub datacenter: String,
    pub namespace: String,
    pub partition: String,
    pub token: String,
    pub near: String,
    pub filter: String,
    #[serde(rename = "allowstale")]
    pub stale: bool,
    #[serde(rename = "requireconsistent")]
    pub consistent: bool,
    #[serde(rename = "usecache")]
    pub cached: bool,
    #[serde(rename = "nodemeta")]
    pub node_meta: std::collections::BTreeMap<String, String>,
}

/// Reads the object of a field.
///
/// # Errors
/// Names the field.
pub fn object<T: DeserializeOwned>(field: &str, text: &str) -> Result<T> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| Error::invalid_metadata(field, error))?;
    if !value.is_object() {
        return Err(Error::invalid_metadata(field, "it is no JSON object"));
    }
    serde_json::from_value(lower(value)).map_err(|error| Error::invalid_metadata(field, error))
}

/// Names in small letters, but those of what users name themselves.
fn lower(value: Value) -> Value {
    let Value::Object(members) = value else {
        return value;
    };
    let members: Map<String, Value> = members
        .into_iter()
        .map(|(name, value)| {
            let name = name.to_ascii_lowercase();
            let value = match name.as_str() {
                "nodemeta" => value,
                _ => lower(value),
            };
            (name, value)
        })
        .collect();
    Value::Object(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case() {
        let text = r#"{"Address": "a:1", "HTTPAuth": {"Username": "u", "password": "p"},
                       "tlsConfig": {"CAFile": "f", "InsecureSkipVerify": true}}"#;
        let client: Client = object("client", text).unwrap();
        assert_eq!((&*client.address, &*client.tls.authorities), ("a:1", "f"));
        assert!(client.tls.insecure);
        assert_eq!(client.http_auth.unwrap().username, "u");
        let query: Query = object("queryOptions", r#"{"nodeMeta": {"Rack": "1"}}"#).unwrap();
        assert_eq!(query.node_meta["Rack"], "1");
        assert!(object::<Query>("queryOptions", "[]").is_err());
    }
}
