//! Values that stand in Kubernetes Secrets and that the operator puts into resources on their way to sidecars
//! (contract 5.3). Secrets are read by name when needed and never kept.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1;
use kube::Api;
use kube::api::{ApiResource, ObjectMeta};
use kubernetes::Cluster;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::{Entry, Kind};

/// Secrets that are read at the same time; sidecars that start together would flood the API server.
const MOST_READS: usize = 16;

/// How long one may take; those that wait behind it belong to other sidecars.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the values of a resource could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read secret {namespace}/{secret} of {resource}")]
    Read {
        resource: String,
        namespace: String,
        secret: String,
        source: Box<kube::Error>,
    },
    #[error("the kubernetes api does not answer about secret {namespace}/{secret} of {resource}")]
    Silent {
        resource: String,
        namespace: String,
        secret: String,
    },
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

/// What is read of a Secret.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Secret {
    metadata: ObjectMeta,
    data: Option<BTreeMap<String, ByteString>>,
}

kubernetes::excerpt!(Secret);

/// Reads Secrets and puts their values into resources.
pub struct Resolver {
    cluster: Cluster,
    reads: Semaphore,
}

impl Resolver {
    pub fn new(cluster: Cluster) -> Self {
        Self {
            cluster,
            reads: Semaphore::new(MOST_READS),
        }
    }

    /// The JSON of a resource with its secret values.
    pub async fn resolve(&self, kind: Kind, entry: &Entry) -> Result<Bytes, Error> {
        if !entry.has_secrets {
            return Ok(entry.json.clone());
        }
        let resource = format!("{} {}/{}", kind.plural(), entry.namespace, entry.name);
        let mut object: Value =
            serde_json::from_slice(&entry.json).map_err(|source| Error::Json {
                resource: resource.clone(),
                source,
            })?;
        let mut secrets = BTreeMap::new();
        for reference in references(kind, &object) {
            if kind == Kind::Configuration && reference.key.is_empty() {
                return Err(no_key(resource, &object, reference));
            }
            if !secrets.contains_key(&reference.secret) {
                let secret = self
                    .read(&resource, &entry.namespace, &reference.secret)
                    .await?;
                secrets.insert(reference.secret.clone(), secret);
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

    async fn read(&self, resource: &str, namespace: &str, name: &str) -> Result<Secret, Error> {
        let _permit = self.reads.acquire().await;
        let resource_of_secrets = ApiResource::erase::<v1::Secret>(&());
        let secrets: Api<Secret> =
            Api::namespaced_with(self.cluster.client(), namespace, &resource_of_secrets);
        let (resource, namespace, secret) =
            (resource.to_owned(), namespace.to_owned(), name.to_owned());
        match tokio::time::timeout(PATIENCE, secrets.get(name)).await {
            Ok(read) => read.map_err(|source| Error::Read {
                resource,
                namespace,
                secret,
                source: Box::new(source),
            }),
            Err(_) => Err(Error::Silent {
                resource,
                namespace,
                secret,
            }),
        }
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
