//! How components reach the part that owns them: the resource loader sends `apply` and `remove` by type prefix.

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use component::{Instance, Lent, Metadata, Open, Spawn};

use crate::{calls, registry::AnyRegistry};

/// A component resource whose secrets and templates are resolved: what its owner opens.
#[derive(Clone)]
pub struct Declared {
    /// Name of the resource.
    pub name: String,
    /// Full type, such as `state.redis`.
    pub component_type: String,
    /// Version, such as `v1`; may be empty.
    pub version: String,
    /// Metadata, runtime-owned keys included (contract 3.3).
    pub metadata: Metadata,
    /// Whether a value in it was written with the `{namespace}` template: topics then carry the namespace (contract 9.7).
    pub names_namespace: bool,
    /// How long opening may take.
    pub init_timeout: Duration,
    /// The sidecar it runs in.
    pub instance: Arc<Instance>,
    /// Where its background loops run.
    pub tasks: Arc<dyn Spawn>,
    /// What it may use of the sidecar.
    pub lent: Lent,
}

impl Declared {
    /// The type without its kind's prefix; types are matched without regard to case.
    pub fn type_below(&self, prefix: &str) -> String {
        self.component_type
            .to_ascii_lowercase()
            .trim_start_matches(prefix)
            .to_owned()
    }

    /// The constructor's arguments.
    pub fn open(&self) -> Open {
        Open::new(
            &self.name,
            self.metadata.clone(),
            Arc::clone(&self.instance),
            Arc::clone(&self.tasks),
            self.lent.clone(),
        )
    }

    /// Runs a constructor within the component's time limit; a panic in it is its error.
    pub async fn within_limit<T>(
        &self,
        opening: impl Future<Output = component::Result<T>>,
    ) -> Result<T, LoadError> {
        let opening = calls::guarded(&self.name, "init", opening);
        match tokio::time::timeout(self.init_timeout, opening).await {
            Ok(Ok(opened)) => {
                self.tasks.opened();
                Ok(opened)
            }
            Ok(Err(error)) => Err(self.failed(error)),
            Err(_) => Err(self.failed(component::Error::new(
                component::ErrorKind::Unavailable,
                format!(
                    "init timeout for component {} exceeded after {:?}",
                    self.name, self.init_timeout
                ),
            ))),
        }
    }

    /// Says which component failed, and why.
    pub fn failed(&self, source: component::Error) -> LoadError {
        LoadError {
            name: self.name.clone(),
            component_type: self.component_type.clone(),
            version: self.version.clone(),
            source,
        }
    }

    /// How the metadata API lists it.
    pub fn listed(&self, capabilities: Vec<&'static str>) -> Listed {
        Listed {
            name: self.name.clone(),
            component_type: self.component_type.clone(),
            version: self.version.clone(),
            capabilities,
        }
    }
}

/// A component that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("component {name} ({component_type}/{version}) could not be opened")]
pub struct LoadError {
    /// Name of the resource.
    pub name: String,
    /// Full type.
    pub component_type: String,
    /// Version.
    pub version: String,
    /// What the component said.
    pub source: component::Error,
}

/// A loaded component as the metadata API lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Name of the resource.
    pub name: String,
    /// Full type.
    pub component_type: String,
    /// Version.
    pub version: String,
    /// What it can do.
    pub capabilities: Vec<&'static str>,
}

/// A part that owns the components below one type prefix.
#[async_trait]
pub trait Owner: Send + Sync {
    /// Where its components are kept; what is done with them is left to it unless the owner has more to do.
    fn registry(&self) -> &dyn AnyRegistry;

    /// The prefix with its dot, lower case: `state.`.
    fn prefix(&self) -> &'static str {
        self.registry().prefix()
    }

    /// Opens a component, or replaces the one of that name by the rules of architecture 5.5.
    ///
    /// # Errors
    /// Where the new one does not open; what ran before goes on where the kind allows it.
    async fn apply(&self, declared: Declared) -> Result<(), LoadError>;

    /// Closes a component once its calls have ended; unknown names are ignored.
    async fn remove(&self, name: &str) {
        self.registry().remove(name).await;
    }

    /// What is loaded, by name.
    fn components(&self) -> Vec<Listed> {
        self.registry().listed()
    }

    /// Closes everything.
    async fn close(&self) {
        self.registry().close().await;
    }
}
