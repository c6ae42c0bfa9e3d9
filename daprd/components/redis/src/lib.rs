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

use component::{Catalog, PubSub, Registration, StateStore, catalog::Taken};

const FAMILY: &str = "redis";

/// Adds all of them.
///
/// # Errors
/// Where a name is taken already.
pub fn register(catalog: &mut Catalog) -> Result<(), Taken> {
    catalog.state.add(
        Registration::new(FAMILY, "redis", state::metadata::fields())
            .capabilities(state::CAPABILITIES),
        |open| async move { Ok(Arc::new(state::Redis::open(open).await?) as Arc<dyn StateStore>) },
    )?;
    catalog.pubsub.add(
        Registration::new(FAMILY, "redis", pubsub::fields()),
        |open| async move { Ok(Arc::new(pubsub::Redis::open(open).await?) as Arc<dyn PubSub>) },
    )
}
