//! The ring against the contract's vectors.

use std::collections::BTreeMap;

use placement_table::{Host, Ring, node};
use serde::Deserialize;

#[derive(Deserialize)]
struct Vectors {
    virtual_node_hashes: BTreeMap<String, Vec<String>>,
    tables: Vec<Table>,
}

#[derive(Deserialize)]
struct Table {
    hosts: Vec<String>,
    owner_by_actor_id: BTreeMap<String, String>,
    replication_factor: u32,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../vectors/placement.json")).expect("vectors are JSON")
}

fn host(address: &str) -> Host {
    Host {
        address: address.to_owned(),
        app_id: "app".to_owned(),
    }
}

#[test]
fn hosts_stand_where_the_contract_says() {
    let file = vectors();
    assert!(!file.virtual_node_hashes.is_empty());
    for (address, hashes) in file.virtual_node_hashes {
        for (replica, expected) in (0..).zip(hashes) {
            assert_eq!(
                node(&address, replica).to_string(),
                expected,
                "{address} {replica}"
            );
        }
    }
}

#[test]
fn actors_belong_to_the_hosts_that_the_contract_says() {
    let file = vectors();
    assert!(!file.tables.is_empty());
    for table in file.tables {
        let hosts = table.hosts.iter().rev().map(|address| host(address));
        let ring = Ring::new(hosts, table.replication_factor);
        for (id, owner) in &table.owner_by_actor_id {
            let found = ring.owner(id).map(|host| &host.address);
            assert_eq!(found, Some(owner), "{id:?} on {:?}", table.hosts);
        }
    }
}

#[test]
fn a_ring_without_positions_has_no_owners() {
    assert_eq!(Ring::new([], 100).owner("1"), None);
    assert_eq!(Ring::new([host("127.0.0.1:1")], 0).owner("1"), None);
}
