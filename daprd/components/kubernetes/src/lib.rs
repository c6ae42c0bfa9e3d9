//! Kubernetes as a component: its secrets.

pub mod client;
pub mod metadata;
pub mod secrets;

use std::sync::Arc;

use component::{Catalog, SecretStore};

/// Adds all of them.
pub fn register(catalog: &mut Catalog) {
    catalog
        .secrets
        .add(&["kubernetes"], "v1", |open| async move {
            Ok(Arc::new(secrets::Kubernetes::open(open).await?) as Arc<dyn SecretStore>)
        });
}
