//! Redis: a state store in hashes, and a broker on streams. Both keep upstream's layout, so old and new sidecars share a server.

pub mod client;
pub mod connection;
mod identity;
pub mod metadata;
pub mod pubsub;
mod sentinel;
mod servers;
pub mod state;

use std::sync::Arc;

use component::{Catalog, PubSub, StateStore};

/// Adds all of them.
pub fn register(catalog: &mut Catalog) {
    catalog.state.add(&["redis"], "v1", |open| async move {
        Ok(Arc::new(state::Redis::open(open).await?) as Arc<dyn StateStore>)
    });
    catalog.pubsub.add(&["redis"], "v1", |open| async move {
        Ok(Arc::new(pubsub::Redis::open(open).await?) as Arc<dyn PubSub>)
    });
}
