//! Every component family that is built in, under one Cargo feature each.

use component::Catalog;

/// The component types of this build.
pub fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    component_builtin::register(&mut catalog);
    #[cfg(feature = "redis")]
    component_redis::register(&mut catalog);
    #[cfg(feature = "sql")]
    component_sql::register(&mut catalog);
    #[cfg(feature = "kubernetes")]
    component_kubernetes::register(&mut catalog);
    catalog
}
