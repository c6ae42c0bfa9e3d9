//! The capabilities that applications see for each type, as the contract states them (2.6, 14).

use component::{pubsub, secrets, state};

use state::Capability::{DeleteWithPrefix, Etag, KeysLike, Transactional, Ttl};

/// State stores.
pub const STATE: &[(&str, &[state::Capability])] = &[
    (
        "in-memory",
        &[Etag, Transactional, Ttl, DeleteWithPrefix, KeysLike],
    ),
    ("redis", &[Etag, Transactional, Ttl, KeysLike]),
    ("sqlite", &[Etag, Transactional, Ttl, KeysLike]),
];

/// Brokers.
pub const PUBSUB: &[(&str, &[pubsub::Capability])] = &[
    ("in-memory", &[pubsub::Capability::SubscribeWildcards]),
    ("mqtt3", &[pubsub::Capability::SubscribeWildcards]),
    ("rabbitmq", &[pubsub::Capability::MessageTtl]),
    ("redis", &[]),
];

/// Secret stores.
pub const SECRETS: &[(&str, &[secrets::Capability])] = &[("kubernetes", &[]), ("local.env", &[])];

/// The row of a type.
///
/// # Panics
/// Where the table has none.
pub fn row<C: Copy>(table: &[(&str, &'static [C])], name: &str) -> &'static [C] {
    let found = table.iter().find(|(known, _)| *known == name);
    found
        .unwrap_or_else(|| panic!("the table has no row for {name}"))
        .1
}
