//! The metadata of `secretstores.kubernetes`: which cluster, and which namespace where nothing else names one.

use std::path::PathBuf;

use component::Metadata;

/// What a store is opened with.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Used where neither the request nor the sidecar has a namespace.
    pub default_namespace: Option<String>,
    /// A kubeconfig file; nothing for the cluster this process runs in, or the user's own file.
    pub kubeconfig: Option<PathBuf>,
}

impl Settings {
    /// Reads the metadata; both fields are optional.
    pub fn read(metadata: &Metadata) -> Self {
        Self {
            default_namespace: metadata.text("defaultNamespace").map(str::to_owned),
            kubeconfig: metadata.text("kubeconfigPath").map(PathBuf::from),
        }
    }
}
