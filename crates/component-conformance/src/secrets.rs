//! The suite for secret stores.

use std::collections::BTreeMap;

use component::{
    ErrorKind, SecretStore,
    secrets::{Capabilities, Capability},
};

/// Runs the suite; `known` is a secret that the store has, with one key and its value.
///
/// # Panics
/// With the name of the case that failed.
pub async fn suite(
    store: &dyn SecretStore,
    table: &[Capability],
    (name, key, value): (&str, &str, &str),
) {
    let table: Capabilities = table.iter().copied().collect();
    assert_eq!(store.capabilities(), table, "declares what the table says");
    let metadata = BTreeMap::new();
    let secret = store
        .secret(name, &metadata)
        .await
        .expect("a secret that exists is read");
    assert_eq!(
        secret.get(key).map(String::as_str),
        Some(value),
        "its value is read"
    );
    match store.all(&metadata).await {
        Ok(all) => assert_eq!(
            all.get(name),
            Some(&secret),
            "the list holds the same secret"
        ),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "a list or a refusal"),
    }
    // Some stores take an absent secret for an empty one; none makes up a value.
    match store.secret("conformance-absent", &metadata).await {
        Ok(secret) => assert!(
            secret.values().all(String::is_empty),
            "an absent secret has no value"
        ),
        Err(error) => assert_eq!(
            error.kind(),
            ErrorKind::NotFound,
            "an absent secret is not found"
        ),
    }
    store.ping().await.expect("answers a ping");
}
