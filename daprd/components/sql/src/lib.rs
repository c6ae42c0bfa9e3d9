//! SQL databases: state, and where sidecars are. SQLite needs no server and keeps upstream's table layout, so an existing database file goes on working.

pub mod client;
pub mod metadata;
pub mod migrations;
pub mod names;
pub mod state;

use std::sync::Arc;

use component::{Catalog, NameResolver, Registration, StateStore, catalog::Taken};

const FAMILY: &str = "sql";

/// Adds all of them.
///
/// # Errors
/// Where a name is taken already.
pub fn register(catalog: &mut Catalog) -> Result<(), Taken> {
    catalog.state.add(
        Registration::new(FAMILY, "sqlite", metadata::Declared::fields())
            .alias("sqlite3")
            .capabilities(state::CAPABILITIES),
        |open| async move { Ok(Arc::new(state::Sqlite::open(open).await?) as Arc<dyn StateStore>) },
    )?;
    catalog.names.add(
        Registration::new(FAMILY, "sqlite", names::Declared::fields()),
        |open| async move { Ok(Arc::new(names::Sqlite::open(open).await?) as Arc<dyn NameResolver>) },
    )
}
