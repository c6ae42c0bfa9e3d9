//! The few calls to the Kubernetes API. Objects are read by name when they are needed and nothing is cached: a pod
//! asks for a certificate twice a day, while a copy of all pods would cost memory in step with the cluster. Q-sentry-pod-by-name

use std::path::Path;

use crds::Configuration;
use http::{Method, Request};
use kube::Client;
use kubernetes::client::status;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// A client of the API server. Cheap to clone.
#[derive(Clone)]
pub struct ApiServer(Client);

/// Why an object is not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path} does not exist")]
    NotFound { path: String },
    #[error("{path} has been changed by someone else")]
    Conflict { path: String },
    #[error("{path} may not be read or written")]
    Forbidden { path: String },
    #[error("the name {name:?} is not a kubernetes name")]
    Name { name: String },
    #[error("the request for {path} failed")]
    Api {
        path: String,
        source: Box<kube::Error>,
    },
    #[error("the answer for {path} is not what was asked for")]
    Answer {
        path: String,
        source: serde_json::Error,
    },
}

/// What matters of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Pod {
    pub metadata: PodHead,
    pub spec: PodSpec,
    pub status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodHead {
    pub name: String,
    pub namespace: String,
    pub annotations: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    pub service_account_name: String,
    pub containers: Option<Vec<Container>>,
    pub init_containers: Option<Vec<Container>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Container {
    pub name: String,
    pub image: String,
    pub restart_policy: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodStatus {
    pub container_statuses: Option<Vec<ContainerStatus>>,
    pub init_container_statuses: Option<Vec<ContainerStatus>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ContainerStatus {
    pub name: String,
    #[serde(rename = "imageID")]
    pub image_id: String,
}

/// The outcome of a token review.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Review {
    pub authenticated: bool,
    pub error: Option<String>,
    pub user: Option<User>,
    /// Which of the audiences that were asked about the token is for; nothing where the answer comes from something that
    /// does not know audiences.
    pub audiences: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct User {
    pub username: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Reviewed {
    status: Review,
}

/// Objects of the core group that are written.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Secret,
    ConfigMap,
}

impl ApiServer {
    /// Connects as [`kubernetes::connect`] does.
    ///
    /// # Errors
    /// When nothing says where the API server is.
    pub async fn connect(kubeconfig: Option<&Path>) -> Result<Self, kubernetes::client::Error> {
        Ok(Self(kubernetes::connect(kubeconfig).await?))
    }

    /// A client over any transport, for tests.
    pub fn new(client: Client) -> Self {
        Self(client)
    }

    /// A Configuration resource.
    pub async fn configuration(&self, namespace: &str, name: &str) -> Result<Configuration, Error> {
        self.get(format!(
            "/apis/dapr.io/v1alpha1/namespaces/{}/configurations/{}",
            checked(namespace)?,
            checked(name)?
        ))
        .await
    }

    /// A pod.
    pub async fn pod(&self, namespace: &str, name: &str) -> Result<Pod, Error> {
        self.get(format!(
            "/api/v1/namespaces/{}/pods/{}",
            checked(namespace)?,
            checked(name)?
        ))
        .await
    }

    /// A Secret or ConfigMap, whole, so that writing it back loses nothing.
    pub async fn object(&self, kind: Kind, namespace: &str, name: &str) -> Result<Value, Error> {
        self.get(kind.path(namespace, name)?).await
    }

    /// Writes an object back; its `resourceVersion` makes this fail if someone else was faster.
    pub async fn replace(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        object: &Value,
    ) -> Result<(), Error> {
        self.send::<Value>(Method::PUT, kind.path(namespace, name)?, Some(object))
            .await
            .map(drop)
    }

    /// Applies what sentry has to say of an object, also where others have said something else, once the log has said so. Its
    /// `resourceVersion` makes this fail if someone else was faster.
    pub async fn apply(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        wanted: &Value,
    ) -> Result<(), Error> {
        let path = kind.path(namespace, name)?;
        let body = wanted.to_string().into_bytes();
        let attempt = async |force| {
            let request = Request::builder()
                .method(Method::PATCH)
                .uri(format!("{path}?fieldManager={FIELD_MANAGER}&force={force}"))
                .header("accept", "application/json")
                .header("content-type", "application/apply-patch+yaml")
                .body(body.clone())
                .map_err(kube::Error::HttpError)?;
            self.0.request_text(request).await
        };
        let applied = kubernetes::apply(&path, attempt).await;
        applied.map(drop).map_err(|error| refused(&path, error))
    }

    /// The CertificateRequests of cert-manager in a namespace.
    pub fn certificate_requests<'a>(&'a self, namespace: &'a str) -> CertificateRequests<'a> {
        CertificateRequests {
            api: self,
            namespace,
        }
    }

    /// Creates an Event; one that is there already is as good.
    pub async fn event(&self, namespace: &str, event: &Value) -> Result<(), Error> {
        let path = format!("/api/v1/namespaces/{}/events", checked(namespace)?);
        match self.send::<Value>(Method::POST, path, Some(event)).await {
            Ok(_) | Err(Error::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Asks the API server about a service account token.
    pub async fn review(&self, token: &str, audiences: &[&str]) -> Result<Review, Error> {
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "metadata": {"creationTimestamp": null},
            "spec": {"token": token, "audiences": audiences},
        });
        let path = "/apis/authentication.k8s.io/v1/tokenreviews".to_owned();
        let reviewed: Reviewed = self.send(Method::POST, path, Some(&review)).await?;
        Ok(reviewed.status)
    }

    async fn get<T: DeserializeOwned>(&self, path: String) -> Result<T, Error> {
        self.send(Method::GET, path, None).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: String,
        body: Option<&Value>,
    ) -> Result<T, Error> {
        let body = body.map_or_else(Vec::new, |body| body.to_string().into_bytes());
        let request = Request::builder()
            .method(method)
            .uri(&path)
            .header("accept", "application/json");
        let request = if body.is_empty() {
            request
        } else {
            request.header("content-type", "application/json")
        };
        let request = request
            .body(body)
            .map_err(|_| Error::Name { name: path.clone() })?;
        // Not the client's typed request: that one logs an answer it cannot parse, and here answers hold keys.
        let text = self
            .0
            .request_text(request)
            .await
            .map_err(|error| refused(&path, error))?;
        serde_json::from_str(&text).map_err(|source| Error::Answer { path, source })
    }
}

/// See [`ApiServer::certificate_requests`].
pub struct CertificateRequests<'a> {
    api: &'a ApiServer,
    namespace: &'a str,
}

impl CertificateRequests<'_> {
    /// Creates one.
    pub async fn create(&self, request: &Value) -> Result<(), Error> {
        let path = self.path("")?;
        let created = self.api.send::<Value>(Method::POST, path, Some(request));
        created.await.map(drop)
    }

    /// Reads one.
    pub async fn get(&self, name: &str) -> Result<Value, Error> {
        self.api.get(self.path(checked(name)?)?).await
    }

    /// Takes one away.
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        let path = self.path(checked(name)?)?;
        let deleted = self.api.send::<Value>(Method::DELETE, path, None);
        deleted.await.map(drop)
    }

    fn path(&self, name: &str) -> Result<String, Error> {
        let all = format!(
            "/apis/cert-manager.io/v1/namespaces/{}/certificaterequests",
            checked(self.namespace)?
        );
        Ok(match name {
            "" => all,
            name => format!("{all}/{name}"),
        })
    }
}

fn refused(path: &str, error: kube::Error) -> Error {
    let path = path.to_owned();
    match status(&error) {
        Some(404) => Error::NotFound { path },
        Some(409) => Error::Conflict { path },
        Some(403) => Error::Forbidden { path },
        _ => Error::Api {
            path,
            source: Box::new(error),
        },
    }
}

/// Under which name sentry applies.
const FIELD_MANAGER: &str = "dapr-sentry";

impl Kind {
    fn path(self, namespace: &str, name: &str) -> Result<String, Error> {
        let plural = match self {
            Self::Secret => "secrets",
            Self::ConfigMap => "configmaps",
        };
        Ok(format!(
            "/api/v1/namespaces/{}/{plural}/{}",
            checked(namespace)?,
            checked(name)?
        ))
    }
}

/// Names come from tokens and annotations.
fn checked(name: &str) -> Result<&str, Error> {
    if !kubernetes::is_name(name) {
        return Err(Error::Name {
            name: name.chars().take(MOST_SHOWN).collect(),
        });
    }
    Ok(name)
}

/// Characters that are shown of what is no name.
const MOST_SHOWN: usize = 253;
