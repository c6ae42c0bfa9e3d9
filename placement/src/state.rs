//! What `/placement/state` shows.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::dissemination::Dissemination;

/// The tables of all namespaces, as `/placement/state` shows them.
#[derive(Debug, Default, Serialize)]
pub struct StateTables {
    /// By namespace.
    pub tables: BTreeMap<String, StateTable>,
}

/// The table of a namespace.
#[derive(Debug, Serialize)]
pub struct StateTable {
    /// Number of the latest round.
    pub version: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hosts: Vec<StateHost>,
}

#[derive(Debug, Serialize)]
struct StateHost {
    name: String,
    id: String,
    #[serde(skip_serializing_if = "is_zero")]
    port: i64,
    entities: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pod: String,
    api_level: u32,
    namespace: String,
}

fn is_zero(port: &i64) -> bool {
    *port == 0
}

/// The table of a namespace.
pub(crate) fn state(machine: &Dissemination) -> StateTable {
    let (version, hosts) = machine.state();
    let hosts = hosts.into_iter().map(|host| StateHost {
        name: host.name,
        id: host.id,
        port: host.port,
        entities: host.entities,
        pod: host.pod,
        api_level: host.api_level,
        namespace: host.namespace,
    });
    StateTable {
        version,
        hosts: hosts.collect(),
    }
}
