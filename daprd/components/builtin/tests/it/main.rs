//! The components of this crate against the suites that every family runs.

use component::{Catalog, StateStore};
use component_conformance::{fields, open, pubsub, secrets, state, table};

fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    component_builtin::register(&mut catalog).expect("no name is taken twice");
    catalog
}

#[test]
fn fields_are_declared_as_the_reference_lists_them() {
    fields::suite(&catalog());
}

#[tokio::test]
async fn state_in_memory() {
    let store = catalog()
        .state
        .open("in-memory", "", open("state", &[]))
        .await;
    let store: std::sync::Arc<dyn StateStore> = store.unwrap();
    state::suite(&*store, table::row(table::STATE, "in-memory")).await;
}

#[tokio::test]
async fn pubsub_in_memory() {
    let broker = catalog()
        .pubsub
        .open("in-memory", "", open("pubsub", &[]))
        .await;
    let traits = pubsub::Traits {
        metadata: true,
        one_at_a_time: true,
        ..pubsub::Traits::default()
    };
    pubsub::suite(
        &*broker.unwrap(),
        table::row(table::PUBSUB, "in-memory"),
        traits,
    )
    .await;
}

#[tokio::test]
async fn secrets_of_the_environment() {
    let store = catalog()
        .secrets
        .open("local.env", "", open("secrets", &[]))
        .await;
    let path = std::env::var("PATH").unwrap();
    let known = ("PATH", "PATH", path.as_str());
    secrets::suite(
        &*store.unwrap(),
        table::row(table::SECRETS, "local.env"),
        known,
    )
    .await;
}
