//! RabbitMQ: a broker over exchanges and queues. They are named and declared as upstream does, so old and new sidecars share
//! a server.

pub mod address;
pub mod client;
mod failure;
pub mod metadata;
mod publisher;
pub mod pubsub;
mod session;
mod socket;
mod subscription;

use std::sync::Arc;

use component::{Catalog, PubSub, Registration, catalog::Taken};

const FAMILY: &str = "rabbitmq";

/// Adds all of them.
///
/// # Errors
/// Where a name is taken already.
pub fn register(catalog: &mut Catalog) -> Result<(), Taken> {
    catalog.pubsub.add(
        Registration::new(FAMILY, "rabbitmq", pubsub::fields()).capabilities(pubsub::CAPABILITIES),
        |open| async move { Ok(Arc::new(pubsub::RabbitMq::open(open).await?) as Arc<dyn PubSub>) },
    )
}
