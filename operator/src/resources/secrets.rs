//! Values that stand in Kubernetes Secrets and that the operator puts into resources on their way to sidecars
//! (contract 5.3). Secrets are read by name when needed, and never listed or watched.

mod reader;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use kubernetes::Cluster;
use serde_json::Value;

use self::reader::{Failure, Reader, Secret};
use super::entry::put_version;
use super::{Entry, Kind};

pub use self::reader::{FRESH, RECENT};

/// Why the values of a resource could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read secret {namespace}/{secret} of {resource}")]
    Read {
        resource: String,
        namespace: String,
        secret: String,
        source: Arc<kube::Error>,
    },
    #[error("the kubernetes api does not answer about secret {namespace}/{secret} of {resource}")]
    Silent {
        resource: String,
        namespace: String,
        secret: String,
    },
    #[error("{resource} refers to a secret by what is no name: {secret:?}")]
    NoName { resource: String, secret: String },
    #[error("header {header} of {resource} refers to secret {secret} without a key")]
    NoKey {
        resource: String,
        header: String,
        secret: String,
    },
    #[error("secret {secret} of {resource} has no key {key}")]
    MissingKey {
        resource: String,
        secret: String,
        key: String,
    },
    #[error("{resource} is not valid json")]
    Json {
        resource: String,
        source: serde_json::Error,
    },
}

/// A place in a resource whose value stands in a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// JSON pointer to the object with `secretKeyRef`; its member `value` is what is set.
    place: String,
    secret: String,
    key: String,
}

/// The places of a resource that refer to a Secret the operator resolves.
pub fn references(kind: Kind, object: &Value) -> Vec<Reference> {
    let mut found = Vec::new();
    match kind {
        Kind::Component if in_kubernetes(object.pointer("/auth")) => {
            pairs(object, "/spec/metadata", &mut found);
        }
        Kind::HttpEndpoint if in_kubernetes(object.pointer("/auth")) => {
            pairs(object, "/spec/headers", &mut found);
            for part in ["rootCA", "certificate", "privateKey"] {
                reference(object, format!("/spec/clientTLS/{part}"), &mut found);
            }
        }
        Kind::McpServer => mcp_server(object, &mut found),
        Kind::Configuration => pairs(object, "/spec/tracing/otel/headers", &mut found),
        Kind::Component
        | Kind::HttpEndpoint
        | Kind::Subscription
        | Kind::Resiliency
        | Kind::WorkflowAccessPolicy => {}
    }
    found
}

fn mcp_server(object: &Value, found: &mut Vec<Reference>) {
    for (transport, list) in [
        ("streamableHTTP", "headers"),
        ("sse", "headers"),
        ("stdio", "env"),
    ] {
        let place = format!("/spec/endpoint/{transport}");
        let Some(endpoint) = object
            .pointer(&place)
            .filter(|endpoint| endpoint.is_object())
        else {
            continue;
        };
        if in_kubernetes(endpoint.get("auth")) {
            pairs(object, &format!("{place}/{list}"), found);
        }
        return;
    }
}

/// A resource that names no secret store means the cluster's.
fn in_kubernetes(auth: Option<&Value>) -> bool {
    let store = auth
        .and_then(|auth| auth.get("secretStore"))
        .and_then(Value::as_str);
    matches!(store, None | Some("" | "kubernetes"))
}

fn pairs(object: &Value, list: &str, found: &mut Vec<Reference>) {
    let count = object
        .pointer(list)
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    for index in 0..count {
        reference(object, format!("{list}/{index}"), found);
    }
}

fn reference(object: &Value, place: String, found: &mut Vec<Reference>) {
    let Some(secret) = object
        .pointer(&place)
        .and_then(|pair| pair.get("secretKeyRef"))
    else {
        return;
    };
    let text = |member: &str| {
        let text = secret.get(member).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let name = text("name");
    if !name.is_empty() {
        found.push(Reference {
            place,
            secret: name,
            key: text("key"),
        });
    }
}

/// Reads Secrets and puts their values into resources.
pub struct Resolver {
    reader: Reader,
}

impl Resolver {
    pub fn new(cluster: Cluster) -> Self {
        Self {
            reader: Reader::new(cluster),
        }
    }

    /// The JSON of a resource with its secret values, which are no older than `age`, nor than the resource.
    /// With its version, if it is `versioned`.
    pub async fn resolve(
        &self,
        kind: Kind,
        entry: &Entry,
        age: Duration,
        versioned: bool,
    ) -> Result<Bytes, Error> {
        if !entry.has_secrets && !versioned {
            return Ok(entry.json.clone());
        }
        let resource = format!("{} {}/{}", kind.plural(), entry.namespace, entry.name);
        let mut object: Value =
            serde_json::from_slice(&entry.json).map_err(|source| Error::Json {
                resource: resource.clone(),
                source,
            })?;
        if versioned {
            put_version(&mut object, entry.version);
        }
        if !entry.has_secrets {
            return Ok(Bytes::from(object.to_string()));
        }
        let mut secrets = BTreeMap::new();
        for reference in references(kind, &object) {
            if kind == Kind::Configuration && reference.key.is_empty() {
                return Err(no_key(resource, &object, reference));
            }
            if !secrets.contains_key(&reference.secret) {
                let (namespace, secret) = (&entry.namespace, &reference.secret);
                let version = entry.version.unwrap_or_default();
                let read = self.reader.read(namespace, secret, version, age).await;
                let read = read.map_err(|failure| unread(&resource, namespace, secret, failure))?;
                secrets.insert(reference.secret.clone(), read);
            }
            put(
                kind,
                &resource,
                &mut object,
                &reference,
                &secrets[&reference.secret],
            )?;
        }
        Ok(Bytes::from(object.to_string()))
    }
}

/// Characters that are shown of what is no name.
const MOST_SHOWN: usize = 253;

fn unread(resource: &str, namespace: &str, secret: &str, failure: Failure) -> Error {
    let (resource, namespace, secret) =
        (resource.to_owned(), namespace.to_owned(), secret.to_owned());
    match failure {
        Failure::Read(source) => Error::Read {
            resource,
            namespace,
            secret,
            source,
        },
        Failure::NoName => Error::NoName {
            resource,
            secret: secret.chars().take(MOST_SHOWN).collect(),
        },
        Failure::Silent => Error::Silent {
            resource,
            namespace,
            secret,
        },
    }
}

fn no_key(resource: String, object: &Value, reference: Reference) -> Error {
    let header = object
        .pointer(&reference.place)
        .and_then(|header| header.get("name"))
        .and_then(Value::as_str);
    Error::NoKey {
        resource,
        header: header.unwrap_or_default().to_owned(),
        secret: reference.secret,
    }
}

/// Puts one value in its place. What a key that the Secret lacks does depends on the kind.
fn put(
    kind: Kind,
    resource: &str,
    object: &mut Value,
    reference: &Reference,
    secret: &Secret,
) -> Result<(), Error> {
    let key = if reference.key.is_empty() {
        &reference.secret
    } else {
        &reference.key
    };
    let value = secret.data.as_ref().and_then(|data| data.get(key));
    let value = match (kind, value) {
        (Kind::Configuration, Some(value)) => String::from_utf8_lossy(&value.0).into_owned().into(),
        (Kind::Configuration, None) => {
            return Err(Error::MissingKey {
                resource: resource.to_owned(),
                secret: reference.secret.clone(),
                key: key.clone(),
            });
        }
        (_, Some(value)) => STANDARD.encode(&value.0).into(),
        // Compat: Q-operator-secret-key. A component keeps what it says, the others lose their value.
        (Kind::Component, None) => return Ok(()),
        (_, None) => Value::Null,
    };
    if let Some(Value::Object(pair)) = object.pointer_mut(&reference.place) {
        pair.insert("value".to_owned(), value);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
