//! The metadata of `secretstores.kubernetes`: which cluster, and which namespace where nothing else names one.

use std::path::PathBuf;

component::metadata! {
    /// What a store is opened with.
    #[derive(Clone, Debug, Default)]
    pub struct Settings {
        /// Used where neither the request nor the sidecar has a namespace.
        default_namespace: Option<String> => "defaultNamespace";
        /// A kubeconfig file; without it, the cluster this process runs in, or the user's own file.
        kubeconfig: Option<PathBuf> => "kubeconfigPath";
    }
}
