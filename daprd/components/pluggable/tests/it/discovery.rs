//! What is found in a folder of sockets.

use component::{Catalog, Error, ErrorKind, Fields, Registration, catalog::Entry};
use component_conformance::open;

use crate::store;

fn types(catalog: &Catalog) -> Vec<String> {
    catalog.entries().map(Entry::full_type).collect()
}

#[tokio::test]
async fn what_is_no_component_is_left_out() {
    let served = store::serve(&[]);
    std::fs::write(served.folder.path().join("notes.txt"), "x").unwrap();
    let dead = served.folder.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(dead).unwrap());
    let catalog = served.catalog().await;
    assert_eq!(types(&catalog), ["state.memory"]);

    let mut empty = Catalog::default();
    let absent = served.folder.path().join("absent");
    component_pluggable::discover(&absent, &mut empty).await;
    assert_eq!(empty.entries().count(), 0);
}

/// Waits for the limit itself: paused time would not wait for the socket.
#[tokio::test]
async fn a_socket_that_says_nothing_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let silent = folder.path().join("silent.sock");
    let _listening = std::os::unix::net::UnixListener::bind(silent).unwrap();
    let mut catalog = Catalog::default();
    component_pluggable::discover(folder.path(), &mut catalog).await;
    assert_eq!(catalog.entries().count(), 0);
}

#[tokio::test]
async fn what_is_built_in_stays() {
    let served = store::serve(&[]);
    let mut catalog = Catalog::default();
    let own = Registration::new("own", "Memory", Fields::default());
    let added = catalog
        .state
        .add(own, |_| async { Err(Error::unsupported("being opened")) });
    added.unwrap();
    component_pluggable::discover(served.folder.path(), &mut catalog).await;
    let families: Vec<_> = catalog.entries().map(|entry| entry.family).collect();
    assert_eq!(families, ["own"]);
    let error = catalog
        .state
        .open("memory", "v1", open("mystore", &[]))
        .await;
    assert_eq!(error.err().unwrap().kind(), ErrorKind::Unsupported);
}
