//! The hosts of a namespace, and the table that sidecars compute owners from.

use std::collections::BTreeMap;

use proto::placement::v1::{Host, PlacementTable, PlacementTables};

use crate::dissemination::StreamId;

/// Hosts with actor types, by the stream that reported them.
#[derive(Debug, Default)]
pub(crate) struct Hosts(BTreeMap<StreamId, Host>);

impl Hosts {
    /// Takes a report. True when the table changes by it: a host without entities is in no table.
    pub fn set(&mut self, stream: StreamId, mut host: Host) -> bool {
        // Sorted, so that the order of a report is no change.
        host.entities.sort_unstable();
        let changed = match self.0.get(&stream) {
            None => !host.entities.is_empty(),
            Some(known) => {
                known.entities != host.entities
                    || known.id != host.id
                    || known.namespace != host.namespace
            }
        };
        if changed && host.entities.is_empty() {
            self.0.remove(&stream);
        } else if changed {
            self.0.insert(stream, host);
        }
        changed
    }

    pub fn remove(&mut self, stream: StreamId) -> bool {
        self.0.remove(&stream).is_some()
    }

    pub fn contains(&self, stream: StreamId) -> bool {
        self.0.contains_key(&stream)
    }

    pub fn tables(&self, replication_factor: i64, version: u64) -> PlacementTables {
        let mut entries: BTreeMap<String, PlacementTable> = BTreeMap::new();
        for host in self.0.values() {
            for entity in &host.entities {
                let table = entries.entry(entity.clone()).or_default();
                table.load_map.insert(host.name.clone(), host.clone());
            }
        }
        PlacementTables {
            entries,
            // Older sidecars still read the version from here.
            version: version.to_string(),
            replication_factor,
            ..PlacementTables::default()
        }
    }

    /// All hosts, ordered by name.
    pub fn sorted(&self) -> Vec<Host> {
        let mut hosts: Vec<Host> = self.0.values().cloned().collect();
        hosts.sort_by(|a, b| a.name.cmp(&b.name));
        hosts
    }
}
