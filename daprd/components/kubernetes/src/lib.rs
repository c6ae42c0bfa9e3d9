//! Kubernetes as a component: its secrets.

pub mod client;
pub mod metadata;
pub mod secrets;

use std::sync::Arc;

use component::{Catalog, Registration, SecretStore, catalog::Taken, secrets::Capabilities};

const FAMILY: &str = "kubernetes";

/// Adds all of them.
///
/// # Errors
/// Where a name is taken already.
pub fn register(catalog: &mut Catalog) -> Result<(), Taken> {
    catalog.secrets.add(
        Registration::new(FAMILY, "kubernetes", metadata::Settings::fields())
            .capabilities(Capabilities::EMPTY),
        |open| async move {
            Ok(Arc::new(secrets::Kubernetes::open(open).await?) as Arc<dyn SecretStore>)
        },
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn fields_are_declared_as_the_reference_lists_them() {
        let mut catalog = component::Catalog::default();
        super::register(&mut catalog).unwrap();
        component_conformance::fields::suite(&catalog);
    }
}
