//! The loaded pub/sub components, and what is kept beside each: who may use which topics, and how topics are called on it.

use std::sync::Arc;

use blocks::{Kind, Loaded, Missing, Registry, registry::Called};
use component::{Catalog, PubSub};
use resiliency::ComponentKind;

use crate::{Error, scopes::Scopes};

static KIND: Kind<dyn PubSub> = Kind {
    prefix: "pubsub.",
    calls: Some(Called {
        // Counted by topic, which other kinds do not have: see [`crate::metrics::Metrics`].
        metrics: None,
        policies: ComponentKind::Pubsub,
    }),
    family: |catalog: &Catalog| &catalog.pubsub,
};

/// A loaded component. Dropping the last reference ends its last call.
pub type Broker = Loaded<dyn PubSub, Topics>;

/// The loaded components by name.
pub type Brokers = Registry<dyn PubSub, Topics>;

/// No component yet.
pub fn new(options: blocks::registry::Options) -> Brokers {
    Registry::new(&KIND, options)
}

/// The component of that name, or which of the reasons there is none.
///
/// # Errors
/// [`Error::NotConfigured`], [`Error::NameEmpty`], [`Error::NotFound`].
pub fn named(brokers: &Brokers, name: &str) -> Result<Arc<Broker>, Error> {
    brokers.find(name).map_err(|missing| match missing {
        Missing::NotConfigured => Error::NotConfigured,
        Missing::NotFound if name.is_empty() => Error::NameEmpty,
        Missing::NotFound => Error::NotFound {
            pubsub: name.to_owned(),
        },
    })
}

/// The topics of a component.
pub struct Topics {
    pub scopes: Scopes,
    /// What they begin with on the broker.
    pub prefix: String,
}

impl Topics {
    /// The topic as the broker knows it.
    pub fn on_broker(&self, topic: &str) -> String {
        format!("{}{topic}", self.prefix)
    }

    /// The topic as the app knows it.
    pub fn of_app<'t>(&self, topic: &'t str) -> &'t str {
        topic.strip_prefix(&self.prefix).unwrap_or(topic)
    }
}
