//! SQL databases. SQLite needs no server and keeps upstream's table layout, so an existing database file goes on working.

pub mod client;
pub mod metadata;
mod migrations;
pub mod state;

use std::sync::Arc;

use component::{Catalog, StateStore};

/// Adds all of them.
pub fn register(catalog: &mut Catalog) {
    catalog
        .state
        .add(&["sqlite", "sqlite3"], "v1", |open| async move {
            Ok(Arc::new(state::Sqlite::open(open).await?) as Arc<dyn StateStore>)
        });
}
