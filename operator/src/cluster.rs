//! The way to the Kubernetes API: the client, and how much of the cluster is watched.

use anyhow::Context as _;
use kube::api::ApiResource;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::DynamicResourceScope;
use kube::{Api, Client, Config, Resource};

/// The cluster, as far as the operator looks. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    /// The one namespace to watch; `None` is all.
    watched: Option<String>,
}

impl Cluster {
    /// Connects with a kubeconfig file, or with what the environment offers when `kubeconfig` is empty.
    pub async fn connect(kubeconfig: &str, watched: &str) -> anyhow::Result<Self> {
        let config = if kubeconfig.is_empty() {
            Config::infer()
                .await
                .context("no way to the kubernetes api is known")?
        } else {
            let file = Kubeconfig::read_from(kubeconfig)
                .with_context(|| format!("cannot read kubeconfig {kubeconfig}"))?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .with_context(|| format!("cannot use kubeconfig {kubeconfig}"))?
        };
        let client = Client::try_from(config).context("cannot make a kubernetes client")?;
        Ok(Self::new(client, watched))
    }

    pub fn new(client: Client, watched: &str) -> Self {
        Self {
            client,
            watched: Some(watched.to_owned()).filter(|name| !name.is_empty()),
        }
    }

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

/// Implements [`kube::Resource`] for a type that reads only what the operator needs of an object; which kind
/// it is stands in the [`ApiResource`] the API is made with. The type has a field `metadata`.
macro_rules! excerpt {
    ($name:ty) => {
        impl kube::Resource for $name {
            type DynamicType = kube::api::ApiResource;
            type Scope = kube::core::DynamicResourceScope;

            fn group(resource: &kube::api::ApiResource) -> std::borrow::Cow<'_, str> {
                resource.group.as_str().into()
            }

            fn version(resource: &kube::api::ApiResource) -> std::borrow::Cow<'_, str> {
                resource.version.as_str().into()
            }

            fn kind(resource: &kube::api::ApiResource) -> std::borrow::Cow<'_, str> {
                resource.kind.as_str().into()
            }

            fn plural(resource: &kube::api::ApiResource) -> std::borrow::Cow<'_, str> {
                resource.plural.as_str().into()
            }

            fn meta(&self) -> &kube::api::ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut kube::api::ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

pub(crate) use excerpt;
