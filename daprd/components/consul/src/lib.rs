//! Consul: where sidecars are, by its agent's HTTP API.

pub mod agent;
pub mod names;
mod settings;

use std::sync::Arc;

use component::{Catalog, NameResolver, Registration, catalog::Taken};

/// Adds all of them.
///
/// # Errors
/// Where a name is taken already.
pub fn register(catalog: &mut Catalog) -> Result<(), Taken> {
    catalog.names.add(
        Registration::new("consul", "consul", names::Declared::fields()).alias("hashicorp.consul"),
        |open| async move { Ok(Arc::new(names::Consul::open(open).await?) as Arc<dyn NameResolver>) },
    )
}
