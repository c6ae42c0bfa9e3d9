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
    wanted: &Credentials,
) -> Result<(), Error> {
    let Some((secret, config_map)) = &stored.objects else {
        return Err(Error::Object {
            reason: "it was not read before",
        });
    };
    if let Some(changed) = changed_secret(secret, paths, wanted) {
        api.replace(Kind::Secret, namespace, NAME, &changed)
            .await
            .map_err(failed(namespace))?;
    }
    if let Some(changed) = changed_config_map(config_map, paths, wanted) {
        api.replace(Kind::ConfigMap, namespace, NAME, &changed)
            .await
            .map_err(failed(namespace))?;
    }
    Ok(())
}

fn changed_secret(secret: &Value, paths: &Paths, wanted: &Credentials) -> Option<Value> {
    let mut changed = secret.clone();
    for (path, content) in [
        (&paths.root, &wanted.root),
        (&paths.chain, &wanted.chain),
        (&paths.key, &wanted.key),
        (&paths.jwt_key, &wanted.jwt_key),
        (&paths.jwks, &wanted.jwks),
    ] {
        if let Some(content) = content {
            put(&mut changed, &key_of(path), &STANDARD.encode(content));
        }
    }
    (changed != *secret).then_some(changed)
}

fn changed_config_map(config_map: &Value, paths: &Paths, wanted: &Credentials) -> Option<Value> {
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
    (changed != *config_map).then_some(changed)
}

fn put(object: &mut Value, key: &str, value: &str) {
    if !object["data"].is_object() {
        object["data"] = json!({});
    }
    object["data"][key] = value.into();
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
