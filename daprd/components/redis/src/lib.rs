//! Redis: a state store in hashes, a broker on streams, configuration that is followed, locks, and a binding. All keep upstream's
//! layout, so old and new sidecars share a server.

pub mod bindings;
pub mod client;
pub mod configuration;
pub mod connection;
mod identity;
mod listing;
pub mod lock;
pub mod metadata;
pub mod pubsub;
mod replication;
mod sentinel;
mod servers;
pub mod state;

use std::sync::Arc;

use component::{
    Catalog, Configuration, Lock, OutputBinding, PubSub, Registration, StateStore, catalog::Taken,
};

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
    )?;
    catalog.configuration.add(
        Registration::new(FAMILY, "redis", configuration::fields()),
        |open| async move {
            Ok(Arc::new(configuration::Redis::open(open).await?) as Arc<dyn Configuration>)
        },
    )?;
    catalog.lock.add(
        Registration::new(FAMILY, "redis", lock::fields()),
        |open| async move { Ok(Arc::new(lock::Redis::open(open).await?) as Arc<dyn Lock>) },
    )?;
    catalog.output_bindings.add(
        Registration::new(FAMILY, "redis", bindings::fields()),
        |open| async move {
            Ok(Arc::new(bindings::Redis::open(open).await?) as Arc<dyn OutputBinding>)
        },
    )
}
