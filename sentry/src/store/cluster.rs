//! Credentials in the Secret `dapr-trust-bundle`; the public part also in the ConfigMap of the same name, which is
//! what pods mount. The Secret decides: a ConfigMap that differs is brought in line.
//!
//! Compat: upstream makes a new authority when the ConfigMap differs, which throws away certificates that a user
//! has put into the Secret alone. Q-sentry-bundle-secret-wins

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Credentials, Error, Stored, key_of, present};
use crate::api_server::{self, ApiServer, Kind};
use crate::settings::Paths;

const NAME: &str = "dapr-trust-bundle";

pub async fn load(api: &ApiServer, namespace: &str, paths: &Paths) -> Result<Stored, Error> {
    let secret = api
        .object(Kind::Secret, namespace, NAME)
        .await
        .map_err(failed(namespace))?;
    let config_map = api
        .object(Kind::ConfigMap, namespace, NAME)
        .await
        .map_err(failed(namespace))?;
    let read = |path| {
        let Some(text) = secret["data"][key_of(path)].as_str() else {
            return Ok(None);
        };
        let decoded = STANDARD.decode(text).map_err(|_| Error::Object {
            reason: "a value is no base64",
        })?;
        Ok(present(decoded))
    };
    let credentials = Credentials {
        root: read(&paths.root)?,
        chain: read(&paths.chain)?,
        key: read(&paths.key)?,
        jwt_key: read(&paths.jwt_key)?,
        jwks: read(&paths.jwks)?,
        record: read(&paths.record)?,
    };
    Ok(Stored {
        credentials,
        objects: Some((secret, config_map)),
    })
}

pub async fn save(
    api: &ApiServer,
    namespace: &str,
    paths: &Paths,
    stored: &Stored,
    (wanted, stage): (&Credentials, Option<&str>),
) -> Result<(), Error> {
    let Some((secret, config_map)) = &stored.objects else {
        return Err(Error::Object {
            reason: "it was not read before",
        });
    };
    if let Some(changed) = changed_secret(secret, paths, wanted, stage) {
        api.replace(Kind::Secret, namespace, NAME, &changed)
            .await
            .map_err(failed(namespace))?;
    }
    if let Some(changed) = changed_config_map(config_map, paths, wanted, stage) {
        let applied = applied_config_map(config_map, paths, wanted, stage);
        match api.apply(Kind::ConfigMap, namespace, NAME, &applied).await {
            // Upstream's chart does not allow it.
            Err(api_server::Error::Forbidden { .. }) => {
                api.replace(Kind::ConfigMap, namespace, NAME, &changed)
                    .await
            }
            ended => ended,
        }
        .map_err(failed(namespace))?;
    }
    Ok(())
}

fn changed_secret(
    secret: &Value,
    paths: &Paths,
    wanted: &Credentials,
    stage: Option<&str>,
) -> Option<Value> {
    let mut changed = secret.clone();
    for (path, content) in [
        (&paths.root, &wanted.root),
        (&paths.chain, &wanted.chain),
        (&paths.key, &wanted.key),
        (&paths.jwt_key, &wanted.jwt_key),
        (&paths.jwks, &wanted.jwks),
        (&paths.record, &wanted.record),
    ] {
        if let Some(content) = content {
            put(&mut changed, &key_of(path), &STANDARD.encode(content));
        }
    }
    annotate(&mut changed, stage);
    (changed != *secret).then_some(changed)
}

fn changed_config_map(
    config_map: &Value,
    paths: &Paths,
    wanted: &Credentials,
    stage: Option<&str>,
) -> Option<Value> {
    let mut changed = config_map.clone();
    for (path, content) in [(&paths.root, &wanted.root), (&paths.jwks, &wanted.jwks)] {
        if let Some(content) = content {
            put(
                &mut changed,
                &key_of(path),
                &String::from_utf8_lossy(content),
            );
        }
    }
    annotate(&mut changed, stage);
    (changed != *config_map).then_some(changed)
}

/// What sentry has to say of the ConfigMap, which it has read in this version.
fn applied_config_map(
    config_map: &Value,
    paths: &Paths,
    wanted: &Credentials,
    stage: Option<&str>,
) -> Value {
    let metadata =
        json!({"name": NAME, "resourceVersion": config_map["metadata"]["resourceVersion"]});
    let none = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
    changed_config_map(&none, paths, wanted, stage).unwrap_or(none)
}

fn put(object: &mut Value, key: &str, value: &str) {
    if !object["data"].is_object() {
        object["data"] = json!({});
    }
    object["data"][key] = value.into();
}

/// Shows where the rotation stands; nothing where the credentials are somebody else's.
fn annotate(object: &mut Value, stage: Option<&str>) {
    match stage {
        Some(stage) => {
            if !object["metadata"]["annotations"].is_object() {
                object["metadata"]["annotations"] = json!({});
            }
            object["metadata"]["annotations"][STAGE] = stage.into();
        }
        None => {
            let annotations = object["metadata"]["annotations"].as_object_mut();
            if let Some(annotations) = annotations {
                annotations.remove(STAGE);
            }
        }
    }
}

const STAGE: &str = "dapr.io/certificate-rotation";

/// Writes an Event about the Secret.
pub async fn tell(
    api: &ApiServer,
    namespace: &str,
    name: &str,
    (reason, message): (&str, &str),
    warning: bool,
) -> Result<(), api_server::Error> {
    let now = jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string();
    let event = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": format!("{NAME}.{name}"), "namespace": namespace},
        "involvedObject": {"apiVersion": "v1", "kind": "Secret", "name": NAME, "namespace": namespace},
        "reason": reason,
        "message": message,
        "type": if warning { "Warning" } else { "Normal" },
        "source": {"component": "dapr-sentry"},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    });
    api.event(namespace, &event).await
}

fn failed(namespace: &str) -> impl Fn(api_server::Error) -> Error {
    move |error| match error {
        api_server::Error::Conflict { .. } => Error::Conflict,
        source => Error::Cluster {
            name: NAME,
            namespace: namespace.to_owned(),
            source,
        },
    }
}
