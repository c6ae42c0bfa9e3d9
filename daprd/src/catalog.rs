//! Every component family that is built in, under one Cargo feature each, and those in processes of their own.

use std::path::Path;

use component::{Catalog, catalog::Taken};

/// The component types of this build.
///
/// # Errors
/// Where two families bring the same.
pub fn catalog() -> Result<Catalog, Taken> {
    let mut catalog = Catalog::default();
    component_builtin::register(&mut catalog)?;
    #[cfg(feature = "consul")]
    component_consul::register(&mut catalog)?;
    #[cfg(feature = "middleware")]
    component_middleware::register(&mut catalog)?;
    #[cfg(feature = "mqtt")]
    component_mqtt::register(&mut catalog)?;
    #[cfg(feature = "rabbitmq")]
    component_rabbitmq::register(&mut catalog)?;
    #[cfg(feature = "redis")]
    component_redis::register(&mut catalog)?;
    #[cfg(feature = "sql")]
    component_sql::register(&mut catalog)?;
    #[cfg(feature = "kubernetes")]
    component_kubernetes::register(&mut catalog)?;
    #[cfg(feature = "wasm")]
    component_wasm::register(&mut catalog)?;
    Ok(catalog)
}

/// Adds the types that the sockets of `folder` serve. Later sockets are not seen (contract 15).
pub async fn discover(folder: &Path, catalog: &mut Catalog) {
    component_pluggable::discover(folder, catalog).await;
}

#[cfg(all(test, feature = "allcomponents"))]
mod page;
