//! MQTT 3.1.1: a broker whose subscribers keep a session. Client ids, topics and payloads are upstream's, so old and new
//! sidecars share a server.

pub mod client;
mod failure;
pub mod filter;
mod link;
pub mod metadata;
pub mod pubsub;
mod session;
mod tls;

use std::sync::Arc;

use component::{Catalog, PubSub, Registration, catalog::Taken};

const FAMILY: &str = "mqtt";

/// Adds all of them.
///
/// # Errors
/// Where a name is taken already.
pub fn register(catalog: &mut Catalog) -> Result<(), Taken> {
    catalog.pubsub.add(
        Registration::new(FAMILY, "mqtt3", metadata::Declared::fields())
            .alias("mqtt")
            .capabilities(pubsub::CAPABILITIES),
        |open| async move { Ok(Arc::new(pubsub::Mqtt::open(open).await?) as Arc<dyn PubSub>) },
    )
}
