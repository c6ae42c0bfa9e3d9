//! Name resolution: where the sidecar of an app listens.

mod cached;

use async_trait::async_trait;

use crate::{Component, Result};

pub use cached::{Cached, Lookup};

/// Which sidecar is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// App id of the callee.
    pub app_id: String,
    /// Namespace of the callee.
    pub namespace: String,
    /// Internal gRPC port of the caller: the one a resolver assumes that does not know the callee's.
    pub port: u16,
}

/// Finds the internal gRPC address of a sidecar. A resolver that must announce this sidecar does so when it is opened and
/// withdraws it when it is closed.
#[async_trait]
pub trait NameResolver: Component {
    /// The address as `host:port`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] where no sidecar of that name is known.
    async fn resolve(&self, target: &Target) -> Result<String>;

    /// A connection to an address that was given out could not be made. A resolver that remembers addresses finds out whether
    /// it is still there, and prefers others meanwhile. Does not wait.
    fn doubt(&self, _address: &str) {}
}
