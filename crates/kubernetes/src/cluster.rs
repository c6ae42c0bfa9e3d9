//! The cluster, as far as a program looks: a client, and the namespaces that it watches.

use std::path::Path;

use kube::api::ApiResource;
use kube::core::DynamicResourceScope;
use kube::{Api, Client, Resource};

use crate::client::{self, connect};

/// The cluster. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    /// The one namespace to watch; `None` is all.
    watched: Option<String>,
}

impl Cluster {
    /// Connects as [`connect`] does. An empty namespace to watch is all of them.
    ///
    /// # Errors
    /// When nothing says where the API server is.
    pub async fn connect(kubeconfig: Option<&Path>, watched: &str) -> Result<Self, client::Error> {
        Ok(Self::new(connect(kubeconfig).await?, watched))
    }

    /// The cluster behind a client.
    pub fn new(client: Client, watched: &str) -> Self {
        Self {
            client,
            watched: Some(watched.to_owned()).filter(|name| !name.is_empty()),
        }
    }

    /// The same namespaces through another client.
    #[must_use]
    pub fn through(&self, client: Client) -> Self {
        Self {
            client,
            watched: self.watched.clone(),
        }
    }

    /// The client.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Objects of a kind in all watched namespaces.
    pub fn watched<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        match &self.watched {
            Some(namespace) => Api::namespaced(self.client(), namespace),
            None => Api::all(self.client()),
        }
    }

    /// Like [`Cluster::watched`], for kinds that are known by their name only.
    pub fn watched_as<K>(&self, resource: &ApiResource) -> Api<K>
    where
        K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
    {
        match &self.watched {
            Some(namespace) => Api::namespaced_with(self.client(), namespace, resource),
            None => Api::all_with(self.client(), resource),
        }
    }

    /// Objects of a kind in one namespace.
    pub fn within<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client(), namespace)
    }
}
