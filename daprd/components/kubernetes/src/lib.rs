//! Kubernetes: the secret store.
