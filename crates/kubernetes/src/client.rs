//! The client: where the API server is, and how long it may take. `kube` repeats what is refused with 429, 503 and 504; that
//! happens within [`ANSWER`].

use std::path::{Path, PathBuf};

use kube::client::{Body, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::BoxError;

use crate::deadline::DeadlineLayer;
pub use crate::deadline::{ANSWER, Overdue, READ, WATCH_ANSWER, WHOLE};

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kubeconfig that was named cannot be used.
    #[error("cannot use the kubeconfig {path}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: kube::config::KubeconfigError,
    },
    /// Nothing says where the API server is.
    #[error("neither a kubeconfig nor a service account says where the kubernetes api is")]
    Unknown(#[from] kube::config::InferConfigError),
    /// What is said about the API server makes no client.
    #[error("cannot make a kubernetes client")]
    Client(#[from] kube::Error),
}

/// A client for the cluster. A kubeconfig that is named wins over everything; without one, `KUBECONFIG`,
/// `~/.kube/config` and the pod's service account are tried in this order.
///
/// # Errors
/// When no API server is named, or it is named in a way that cannot work. It is not asked anything yet.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Client, Error> {
    let config = match kubeconfig {
        Some(path) => {
            let failed = |source| Error::Kubeconfig {
                path: path.to_owned(),
                source,
            };
            let read = Kubeconfig::read_from(path).map_err(failed)?;
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(read, &options).await;
            config.map_err(failed)?
        }
        None => Config::infer().await?,
    };
    let builder = ClientBuilder::try_from(config)?;
    Ok(builder.with_layer(&DeadlineLayer).build())
}

/// A client with the same deadlines over another transport, for tests.
pub fn over<S, B>(service: S) -> Client
where
    S: tower::Service<http::Request<Body>, Response = http::Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let builder = ClientBuilder::new(service, "default");
    builder.with_layer(&DeadlineLayer).build()
}

/// The status code of an API server's refusal; `None` when there was no answer.
pub fn status(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}
