//! What this sidecar is asked to run: the one place that knows, for files and for a cluster alike. Lists and events go in,
//! changes come out. Without I/O and without time.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crds::{
    Component, Configuration, HttpEndpoint, Kind, McpServer, Resiliency, Resource, Subscription,
    WorkflowAccessPolicy,
};
use indexmap::IndexMap;

use super::Change;

/// A resource, and what it is written in: a file, or an object of the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    pub resource: Resource,
    pub origin: String,
    /// Which one of two is newer; files have none.
    pub version: Version,
}

/// The version of an object of a cluster. Those of one kind grow, so an event that is not newer than what is known of its
/// object says nothing; a list is believed whatever its versions, because a cluster that was restored counts from older ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(Option<u64>);

impl Version {
    pub fn of<K: Kind>(object: &K) -> Self {
        let version = object.meta().resource_version.as_deref();
        Self(version.and_then(|version| version.parse().ok()))
    }

    /// What cannot be compared is believed in the order in which it comes.
    fn is_before(self, other: Self) -> bool {
        matches!((self.0, other.0), (Some(one), Some(other)) if one < other)
    }

    fn is_not_after(self, other: Self) -> bool {
        matches!((self.0, other.0), (Some(one), Some(other)) if one <= other)
    }
}

impl AsRef<Resource> for Written {
    fn as_ref(&self) -> &Resource {
        &self.resource
    }
}

/// Something to warn of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    /// Changes with every edit, also one that leaves the same problem.
    pub edition: String,
    pub line: String,
}

/// Kind and name.
pub type Key = (&'static str, String);

/// Everything that a source has at one moment.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub written: Vec<Written>,
    /// Resources that could be read and are not for this sidecar.
    pub elsewhere: BTreeSet<Key>,
    /// Names that are there twice, so nobody knows what is asked for under them.
    pub doubled: BTreeSet<Key>,
    /// Origins of which something could not be read, so nobody knows what they ask for.
    pub unread: BTreeSet<String>,
    pub remarks: BTreeSet<Remark>,
    /// Where the source watches it.
    pub configuration: Option<Configuration>,
}

/// What a source tells of one resource.
#[derive(Clone, Debug)]
pub enum Event {
    Is(Box<Written>),
    Gone(Key, Version),
    /// The own Configuration, or that it is gone and defaults hold.
    Configuration(Box<Configuration>),
    ConfigurationGone(Version),
}

/// Resources that have gone and are remembered, so that a late event does not bring them back.
const MOST_GONE: usize = 1024;

/// What the sidecar is asked to run.
#[derive(Clone, Debug)]
pub struct Desired {
    app_id: String,
    configuration: Configuration,
    /// In the order of the list, which decides where resources override each other.
    written: IndexMap<Key, Written>,
    /// The last versions of what has gone.
    gone: IndexMap<Key, Version>,
    configuration_version: Version,
    /// Whether the next list may count from elsewhere than what is known.
    reconnected: bool,
    /// What has been warned about already.
    warned: BTreeSet<Remark>,
}

impl Desired {
    /// Nothing yet, under the Configuration that the sidecar has started with.
    pub fn new(app_id: &str, configuration: Configuration) -> Self {
        Self {
            app_id: app_id.to_owned(),
            configuration_version: Version::of(&configuration),
            configuration,
            reconnected: false,
            written: IndexMap::new(),
            gone: IndexMap::new(),
            warned: BTreeSet::new(),
        }
    }

    /// The source is another one, or has been away: with the next list, versions from before count no more.
    pub fn reconnect(&mut self) {
        self.reconnected = true;
    }

    /// Takes a whole list in place of what was known. What an unread origin held stays: nobody has said that it is gone. So does
    /// what had a name that is there twice now.
    pub fn replace(&mut self, listing: Listing) -> Vec<Change> {
        let mut changes = Vec::new();
        let reconnected = std::mem::take(&mut self.reconnected);
        if reconnected {
            self.gone.clear();
            self.configuration_version = Version::default();
        }
        if let Some(configuration) = listing.configuration {
            changes.extend(self.configure(configuration));
        }
        // Subscriptions may share a name; the last one holds.
        let listed: IndexMap<Key, Written> = listing
            .written
            .into_iter()
            .map(|one| (key(&one.resource), one))
            .filter(|(key, _)| !listing.doubled.contains(key))
            .collect();
        let gone: Vec<Key> = self
            .written
            .iter()
            .filter(|(key, known)| {
                !listed.contains_key(*key)
                    && !listing.doubled.contains(*key)
                    && (listing.elsewhere.contains(*key) || !listing.unread.contains(&known.origin))
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            let version = self.version(&key);
            changes.extend(self.remove(&key));
            if !reconnected {
                self.remember_gone(key, version);
            }
        }
        changes.extend(listed.into_values().filter_map(|one| self.put(one)));
        changes
    }

    /// Takes the news of one resource.
    pub fn take(&mut self, event: Event) -> Option<Change> {
        match event {
            Event::Is(written) => {
                let key = key(&written.resource);
                let known = self.version(&key);
                if written.version.is_not_after(known) {
                    return None;
                }
                self.put(*written)
            }
            Event::Gone(key, version) => {
                // Where the deletion has no version of its own, it bears that of what is deleted.
                let known = self.version(&key);
                if version.is_before(known) {
                    return None;
                }
                let change = self.remove(&key);
                self.remember_gone(key, version.max(known));
                change
            }
            Event::Configuration(configuration) => {
                let version = Version::of(&*configuration);
                if version.is_not_after(self.configuration_version) {
                    return None;
                }
                self.configure(*configuration)
            }
            Event::ConfigurationGone(version) => {
                if version.is_before(self.configuration_version) {
                    return None;
                }
                let change = self.configure(Configuration::default());
                self.configuration_version = version;
                change
            }
        }
    }

    /// What is known of a resource is of this version.
    fn version(&self, key: &Key) -> Version {
        let held = self.written.get(key).map(|one| one.version);
        held.or_else(|| self.gone.get(key).copied())
            .unwrap_or_default()
    }

    fn remember_gone(&mut self, key: Key, version: Version) {
        if self.gone.len() >= MOST_GONE && !self.gone.contains_key(&key) {
            self.gone.shift_remove_index(0);
        }
        self.gone.insert(key, version);
    }

    fn configure(&mut self, configuration: Configuration) -> Option<Change> {
        let changed = self.configuration.spec != configuration.spec;
        self.configuration_version = Version::of(&configuration);
        self.configuration = configuration;
        changed.then_some(Change::Restart(Configuration::KIND))
    }

    /// Warns of what was remarked in reading a list, once for each edition.
    pub fn warn_of(&mut self, listing: &Listing) {
        for one in listing.remarks.difference(&self.warned) {
            tracing::warn!("{}", one.line);
        }
        self.warned.clone_from(&listing.remarks);
    }

    pub fn components(&self) -> impl Iterator<Item = &Component> {
        self.resources().filter_map(|resource| match resource {
            Resource::Component(one) => Some(one),
            _ => None,
        })
    }

    pub fn subscriptions(&self) -> impl Iterator<Item = &Subscription> {
        self.resources().filter_map(|resource| match resource {
            Resource::Subscription(one) => Some(one),
            _ => None,
        })
    }

    pub fn resiliencies(&self) -> impl Iterator<Item = &Resiliency> {
        self.resources().filter_map(|resource| match resource {
            Resource::Resiliency(one) => Some(one),
            _ => None,
        })
    }

    pub fn http_endpoints(&self) -> impl Iterator<Item = &HttpEndpoint> {
        self.resources().filter_map(|resource| match resource {
            Resource::HttpEndpoint(one) => Some(one),
            _ => None,
        })
    }

    /// All of them: what one allows, another need not.
    pub fn mcp_servers(&self) -> impl Iterator<Item = &McpServer> {
        self.resources().filter_map(|resource| match resource {
            Resource::McpServer(one) => Some(one),
            _ => None,
        })
    }

    pub fn access_policies(&self) -> Vec<WorkflowAccessPolicy> {
        let policies = self.resources().filter_map(|resource| match resource {
            Resource::WorkflowAccessPolicy(one) => Some(one.clone()),
            _ => None,
        });
        policies.collect()
    }

    fn resources(&self) -> impl Iterator<Item = &Resource> {
        self.written.values().map(|one| &one.resource)
    }

    fn put(&mut self, written: Written) -> Option<Change> {
        let key = key(&written.resource);
        if !written.resource.in_scope(&self.app_id) {
            let change = self.remove(&key);
            self.remember_gone(key, written.version);
            return change;
        }
        self.gone.shift_remove(&key);
        let resource = written.resource.clone();
        let before = self.written.insert(key, written);
        if before.is_some_and(|before| before.resource.asks_the_same(&resource)) {
            if let Resource::McpServer(one) = &resource {
                tracing::debug!(
                    "MCPServer update skipped: no changes detected: {}",
                    one.name()
                );
            }
            return None;
        }
        match resource {
            Resource::Component(one) => Some(Change::Component(one)),
            Resource::Subscription(one) => Some(Change::Subscription(one)),
            Resource::Resiliency(_) => Some(Change::Restart(Resiliency::KIND)),
            Resource::HttpEndpoint(_) => Some(Change::Restart(HttpEndpoint::KIND)),
            Resource::WorkflowAccessPolicy(_) => Some(Change::Access(self.access_policies())),
            Resource::McpServer(one) => Some(Change::McpServer(Box::new(one))),
        }
    }

    fn remove(&mut self, key: &Key) -> Option<Change> {
        let gone = self.written.shift_remove(key)?;
        let name = key.1.clone();
        match gone.resource {
            Resource::Component(_) => Some(Change::ComponentGone(name)),
            Resource::Subscription(_) => Some(Change::SubscriptionGone(name)),
            Resource::Resiliency(_) => Some(Change::Restart(Resiliency::KIND)),
            Resource::HttpEndpoint(_) => Some(Change::Restart(HttpEndpoint::KIND)),
            Resource::WorkflowAccessPolicy(_) => Some(Change::Access(self.access_policies())),
            Resource::McpServer(_) => Some(Change::McpServerGone(name)),
        }
    }
}

pub fn key(resource: &Resource) -> Key {
    (resource.kind(), resource.name().to_owned())
}
