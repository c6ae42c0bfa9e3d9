//! Which host owns an actor: the consistent hash ring that every sidecar computes from the tables of placement (contract 7.4).
//! All sidecars must come to the same answer, upstream's among them, so nothing here is ours to choose.

#![deny(missing_docs)]

use std::collections::BTreeMap;

use blake2::{Blake2b512, Digest};
use proto::placement::v1::{PlacementTable, PlacementTables};

/// A sidecar that hosts actors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Address of its internal server, `host:port`; the ring is computed from it.
    pub address: String,
    /// The app beside it, which its certificate names.
    pub app_id: String,
}

/// The hosts of one actor type, on a ring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    hosts: Vec<Host>,
    /// Positions and whose they are, in order.
    nodes: Vec<(u64, u32)>,
}

impl Ring {
    /// A ring on which each host stands `replicas` times.
    pub fn new(hosts: impl IntoIterator<Item = Host>, replicas: u32) -> Self {
        let mut hosts: Vec<Host> = hosts.into_iter().collect();
        // The order of hosts decides where two positions are the same; all sidecars must agree on it.
        hosts.sort_unstable_by(|a, b| a.address.cmp(&b.address));
        hosts.dedup_by(|a, b| a.address == b.address);
        let mut nodes = Vec::with_capacity(hosts.len().saturating_mul(replicas as usize));
        for (index, host) in (0u32..).zip(&hosts) {
            nodes.extend((0..replicas).map(|replica| (node(&host.address, replica), index)));
        }
        nodes.sort_unstable();
        Self { hosts, nodes }
    }

    /// The host of an actor; `None` where there are no hosts.
    pub fn owner(&self, actor_id: &str) -> Option<&Host> {
        let hash = hash(actor_id);
        let at = self.nodes.partition_point(|(position, _)| *position < hash);
        let (_, index) = self.nodes.get(at).or_else(|| self.nodes.first())?;
        self.hosts.get(*index as usize)
    }

    /// The hosts, in order of their addresses.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }
}

/// The rings of all actor types.
pub type Rings = BTreeMap<String, Ring>;

/// The rings that tables of placement describe.
pub fn rings(tables: &PlacementTables) -> Rings {
    let replicas = u32::try_from(tables.replication_factor).unwrap_or_default();
    let replicas = replicas.min(MAX_REPLICAS);
    let entries = tables.entries.iter();
    entries
        .map(|(kind, table)| (kind.clone(), Ring::new(hosts(table), replicas)))
        .collect()
}

/// Most positions of a host: placement's own flag knows no limit, and the memory of a sidecar does.
pub const MAX_REPLICAS: u32 = 10_000;

fn hosts(table: &PlacementTable) -> impl Iterator<Item = Host> {
    table.load_map.values().map(|host| Host {
        address: host.name.clone(),
        app_id: host.id.clone(),
    })
}

/// Where an actor's id lies on the ring.
pub fn hash(key: &str) -> u64 {
    let digest = Blake2b512::digest(key.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(first)
}

/// Where a host stands for the n-th time.
pub fn node(address: &str, replica: u32) -> u64 {
    hash(&format!("{address}{replica}"))
}
