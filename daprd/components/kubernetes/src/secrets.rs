//! `secretstores.kubernetes`: the secrets of a namespace, as the sidecar's service account may read them.

use std::collections::BTreeMap;

use async_trait::async_trait;
use component::{
    Component, Error, Open, Result, SecretStore,
    secrets::{Capabilities, Secret},
};
use k8s_openapi::{ByteString, api::core::v1::Secret as Resource};
use kube::{Api, Client, api::ListParams};
use values::is_object_name;

use crate::{
    client::{connect, failure},
    metadata::Settings,
};

/// Request metadata: the namespace to read from.
const NAMESPACE: &str = "namespace";

/// Secrets per page of a listing.
const PAGE: u32 = 500;

/// Most pages of a listing.
const MOST_PAGES: usize = 200;

/// The secrets of a cluster.
pub struct Kubernetes {
    client: Client,
    /// The namespaces to take, in order, where the request names none.
    namespace: Option<String>,
}

impl Kubernetes {
    /// Makes the client; nothing is read yet.
    ///
    /// # Errors
    /// Where no cluster is configured.
    pub async fn open(open: Open) -> Result<Self> {
        let settings = Settings::read(&open.metadata)?;
        let client = connect(&settings).await?;
        Ok(Self::new(client, &open.instance.namespace, settings))
    }

    fn new(client: Client, own: &str, settings: Settings) -> Self {
        let own = Some(own.to_owned()).filter(|own| !own.is_empty());
        Self {
            client,
            namespace: own.or(settings.default_namespace),
        }
    }

    fn api(&self, metadata: &BTreeMap<String, String>) -> Result<Api<Resource>> {
        let asked = metadata.get(NAMESPACE).filter(|asked| !asked.is_empty());
        let Some(namespace) = asked.or(self.namespace.as_ref()) else {
            return Err(Error::invalid_request(
                "namespace is missing on metadata and NAMESPACE env variable, and no default namespace is set",
            ));
        };
        if !is_object_name(namespace) {
            return Err(Error::invalid_request(format!(
                "{namespace:?} is no name of a namespace"
            )));
        }
        Ok(Api::namespaced(self.client.clone(), namespace))
    }
}

/// Bytes that are no text are shown as well as text can.
fn texts(secret: Option<BTreeMap<String, ByteString>>) -> Secret {
    secret
        .unwrap_or_default()
        .into_iter()
        .map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned()))
        .collect()
}

impl Component for Kubernetes {}

#[async_trait]
impl SecretStore for Kubernetes {
    fn capabilities(&self) -> Capabilities {
        Capabilities::EMPTY
    }

    async fn secret(&self, name: &str, metadata: &BTreeMap<String, String>) -> Result<Secret> {
        // The API would take an empty name for the list, a slash for another resource, and a query for another request.
        if !is_object_name(name) {
            return Err(Error::invalid_request(format!(
                "{name:?} is no name of a secret"
            )));
        }
        let found = self.api(metadata)?.get(name).await;
        let secret =
            found.map_err(|error| failure(&format!("cannot read the secret {name}"), error))?;
        Ok(texts(secret.data))
    }

    async fn all(&self, metadata: &BTreeMap<String, String>) -> Result<BTreeMap<String, Secret>> {
        let api = self.api(metadata)?;
        let mut secrets = BTreeMap::new();
        let mut page = ListParams::default().limit(PAGE);
        for _ in 0..MOST_PAGES {
            let list = api
                .list(&page)
                .await
                .map_err(|error| failure("cannot list the secrets", error))?;
            secrets.extend(
                list.items
                    .into_iter()
                    .filter_map(|secret| Some((secret.metadata.name?, texts(secret.data)))),
            );
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(secrets),
            }
        }
        Err(Error::invalid_request(format!(
            "the namespace has more than {} secrets, which is too many to list",
            MOST_PAGES * PAGE as usize
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use component::ErrorKind;
    use kube::client::Body;
    use serde_json::{Value, json};

    /// An API server with the secrets `a` and `b` in the namespace `ns`, listed one by one.
    fn answer(path: &str, query: &str) -> (u16, Value) {
        let secret =
            |name: &str| json!({"metadata": {"name": name}, "data": {"k": "djE=", "l": "/w=="}});
        let list = |name: &str, next: &str| {
            let items = [secret(name)];
            json!({"apiVersion": "v1", "kind": "SecretList", "metadata": {"continue": next}, "items": items})
        };
        let status = |code: u16| json!({"kind": "Status", "status": "Failure", "message": "no", "reason": "r", "code": code});
        match path {
            "/api/v1/namespaces/ns/secrets/a" => (200, secret("a")),
            "/api/v1/namespaces/ns/secrets" if query.contains("continue=more") => {
                (200, list("b", ""))
            }
            "/api/v1/namespaces/ns/secrets" => (200, list("a", "more")),
            "/api/v1/namespaces/closed/secrets/a" => (403, status(403)),
            _ => (404, status(404)),
        }
    }

    fn store(own: &str, default: Option<&str>) -> Kubernetes {
        let service = tower::service_fn(|request: http::Request<Body>| async move {
            let uri = request.uri();
            let (code, body) = answer(uri.path(), uri.query().unwrap_or_default());
            let response = http::Response::builder().status(code);
            response.body(Body::from(body.to_string().into_bytes()))
        });
        let settings = Settings {
            default_namespace: default.map(str::to_owned),
            kubeconfig: None,
        };
        Kubernetes::new(Client::new(service, "unused"), own, settings)
    }

    fn in_namespace(namespace: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(NAMESPACE.to_owned(), namespace.to_owned())])
    }

    #[tokio::test]
    async fn secrets_are_read_from_the_namespace_of_the_request_the_sidecar_or_the_store() {
        let none = BTreeMap::new();
        for (store, metadata) in [
            (store("other", None), in_namespace("ns")),
            (store("ns", Some("other")), none.clone()),
            (store("", Some("ns")), in_namespace("")),
        ] {
            let secret = store.secret("a", &metadata).await.unwrap();
            assert_eq!(secret["k"], "v1");
            assert_eq!(secret["l"], "\u{fffd}");
        }
        let error = store("", None).secret("a", &none).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    }

    #[tokio::test]
    async fn what_the_api_refuses_is_told_apart() {
        let store = store("ns", None);
        for (namespace, name, kind) in [
            ("ns", "absent", ErrorKind::NotFound),
            ("closed", "a", ErrorKind::Unauthorized),
            ("ns", "", ErrorKind::InvalidRequest),
            ("ns", "a?watch=true", ErrorKind::InvalidRequest),
            ("ns/secrets/a?x=", "a", ErrorKind::InvalidRequest),
            ("ns", "a/../b", ErrorKind::InvalidRequest),
        ] {
            let error = store
                .secret(name, &in_namespace(namespace))
                .await
                .unwrap_err();
            assert_eq!(error.kind(), kind, "{namespace} {name}: {error}");
        }
    }

    #[tokio::test]
    async fn listings_are_read_page_by_page() {
        let all = store("ns", None).all(&BTreeMap::new()).await.unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(all["b"]["k"], "v1");
    }
}
