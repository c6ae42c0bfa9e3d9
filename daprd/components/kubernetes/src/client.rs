//! The connection to the Kubernetes API, and its errors as those of a component.

use component::{Error, ErrorKind, Result};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::metadata::Settings;

/// Makes a client; nothing is sent yet.
///
/// # Errors
/// Where no cluster is configured, or the configuration is unusable.
pub async fn connect(settings: &Settings) -> Result<Client> {
    let config = match &settings.kubeconfig {
        Some(path) => {
            let unusable = |error: kube::config::KubeconfigError| {
                Error::invalid_metadata("kubeconfigPath", path.display()).with_source(error)
            };
            let file = Kubeconfig::read_from(path).map_err(unusable)?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .map_err(unusable)?
        }
        // The pod's own account comes first: a file that happens to be in the image must not win.
        None => match Config::incluster() {
            Ok(config) => config,
            Err(_) => Config::infer().await.map_err(|error| {
                Error::new(
                    ErrorKind::InvalidMetadata,
                    "neither a cluster around this process nor a kubeconfig file was found",
                )
                .with_source(error)
            })?,
        },
    };
    Client::try_from(config)
        .map_err(|error| Error::internal("the kubernetes client cannot be made", error))
}

/// An answer of the API as the error of a component.
pub fn failure(what: &str, error: kube::Error) -> Error {
    let kind = match &error {
        kube::Error::Api(status) => match status.code {
            404 => ErrorKind::NotFound,
            401 | 403 => ErrorKind::Unauthorized,
            400 | 422 => ErrorKind::InvalidRequest,
            429 => ErrorKind::RateLimited,
            500.. => ErrorKind::Unavailable,
            _ => ErrorKind::Internal,
        },
        kube::Error::HyperError(_) | kube::Error::Service(_) => ErrorKind::Unavailable,
        kube::Error::Auth(_) => ErrorKind::Unauthorized,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, what).with_source(error)
}
