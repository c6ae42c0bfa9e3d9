//! The hosts of a namespace, and the table that sidecars compute owners from.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use prost::Message as _;
use proto::placement::v1::{Host, PlacementOrder, PlacementTable, PlacementTables};

use crate::dissemination::StreamId;

/// Hosts with actor types, by the stream that reported them.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    by_stream: HashMap<StreamId, Host>,
    /// Upper bound of the bytes of the table.
    bytes: usize,
}

/// The table would be longer than sidecars take a message.
#[derive(Debug)]
pub(crate) struct Full;

impl Hosts {
    /// Takes a report. True when the table changes by it: a host without entities is in no table.
    pub fn set(&mut self, stream: StreamId, mut host: Host) -> Result<bool, Full> {
        if !self.differs(stream, &mut host) {
            return Ok(false);
        }
        let before = self.by_stream.get(&stream).map_or(0, bytes);
        let after = self.bytes - before + bytes(&host);
        if after > MAX_TABLE {
            return Err(Full);
        }
        self.bytes = after;
        if host.entities.is_empty() {
            self.by_stream.remove(&stream);
        } else {
            self.by_stream.insert(stream, host);
        }
        Ok(true)
    }

    /// Whether the table would change by a report. Sorts its types, so that their order is no change.
    pub fn differs(&self, stream: StreamId, host: &mut Host) -> bool {
        host.entities.sort_unstable();
        match self.by_stream.get(&stream) {
            None => !host.entities.is_empty(),
            Some(known) => {
                known.entities != host.entities
                    || known.id != host.id
                    || known.namespace != host.namespace
            }
        }
    }

    pub fn remove(&mut self, stream: StreamId) -> bool {
        let removed = self.by_stream.remove(&stream);
        self.bytes -= removed.as_ref().map_or(0, bytes);
        removed.is_some()
    }

    pub fn contains(&self, stream: StreamId) -> bool {
        self.by_stream.contains_key(&stream)
    }

    /// The table as an encoded order: it goes to every stream as it is.
    pub fn update(&self, replication_factor: i64, version: u64) -> Bytes {
        let mut entries: BTreeMap<String, PlacementTable> = BTreeMap::new();
        for host in self.by_stream.values() {
            // Without its types: readers of a table know them from where the host stands, and the table would
            // grow by their square. Q-placement-hosts
            let row = Host {
                name: host.name.clone(),
                port: host.port,
                load: host.load,
                id: host.id.clone(),
                pod: host.pod.clone(),
                api_level: host.api_level,
                namespace: host.namespace.clone(),
                ..Host::default()
            };
            for entity in &host.entities {
                let table = entries.entry(entity.clone()).or_default();
                table.load_map.insert(host.name.clone(), row.clone());
            }
        }
        let tables = PlacementTables {
            entries,
            // Older sidecars still read the version from here.
            version: version.to_string(),
            replication_factor,
            ..PlacementTables::default()
        };
        let order = PlacementOrder {
            tables: Some(tables),
            operation: "update".to_owned(),
            version,
        };
        order.encode_to_vec().into()
    }

    /// All hosts, ordered by name.
    pub fn sorted(&self) -> Vec<Host> {
        let mut hosts: Vec<Host> = self.by_stream.values().cloned().collect();
        hosts.sort_by(|a, b| a.name.cmp(&b.name));
        hosts
    }
}

/// What a host adds to a table at most: a row for each type, as if no other host had the type.
fn bytes(host: &Host) -> usize {
    let row = 2 * host.name.len() + host.id.len() + host.pod.len() + host.namespace.len() + FRAMES;
    host.entities.iter().map(|entity| row + entity.len()).sum()
}

/// Tags, lengths and numbers of one row.
const FRAMES: usize = 96;

/// Clients of gRPC take messages of 4 MiB, unless told otherwise.
const MAX_TABLE: usize = (4 << 20) - 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, types: usize) -> Host {
        Host {
            name: name.to_owned(),
            id: "app".to_owned(),
            namespace: "ns".to_owned(),
            entities: (0..types).map(|number| format!("type{number}")).collect(),
            ..Host::default()
        }
    }

    #[test]
    fn a_table_grows_by_its_rows_and_not_by_their_square() {
        let mut hosts = Hosts::default();
        assert!(hosts.set(1, host("a", 1000)).unwrap());
        let update = hosts.update(100, 1);
        assert!(update.len() < 100 * 1000, "{} bytes", update.len());
        assert!(update.len() <= hosts.bytes + 1024);
        let tables = PlacementOrder::decode(update).unwrap().tables.unwrap();
        assert_eq!(tables.entries.len(), 1000);
        let row = &tables.entries["type7"].load_map["a"];
        assert_eq!((&*row.id, &*row.namespace), ("app", "ns"));
    }

    #[test]
    fn a_table_never_outgrows_a_message() {
        let mut hosts = Hosts::default();
        let full = (0..100).find(|id| hosts.set(*id, host(&format!("h{id}"), 1000)).is_err());
        let full = full.expect("a hundred such hosts are too many");
        assert!(hosts.update(100, 1).len() < 4 << 20);
        assert!(!hosts.contains(full));
        // What leaves makes room again.
        assert!(hosts.remove(0));
        assert!(hosts.set(full, host("late", 1000)).unwrap());
        for id in 0..=full {
            hosts.remove(id);
        }
        assert_eq!(hosts.bytes, 0);
    }
}
