//! `state.sqlite`: entity tags, transactions, expiry, listing by pattern.

mod rows;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use component::{
    Component, Error, Open, Result, Scope, StateStore,
    error::all_of,
    state::{
        BulkItem, Capabilities, Capability, DeleteRequest, GetRequest, Item, KeysLikeRequest,
        KeysLikeResponse, Operation, RequestMetadata, SetRequest,
    },
};
use rusqlite::TransactionBehavior;

use crate::{
    client::{Client, failure},
    metadata::Settings,
    migrations::Migrations,
};
use rows::{Change, Statements};

/// What it can do.
pub const CAPABILITIES: [Capability; 4] = [
    Capability::Etag,
    Capability::Transactional,
    Capability::Ttl,
    Capability::KeysLike,
];

/// A store in a SQLite file.
pub struct Sqlite {
    client: Client,
    statements: Arc<Statements>,
    scope: Scope,
}

impl Sqlite {
    /// Opens the file, creates its tables, and starts deleting what has expired where that is asked for.
    ///
    /// # Errors
    /// Wrong metadata, or a file that is no database.
    pub async fn open(open: Open) -> Result<Self> {
        let settings = Settings::read(&open.metadata)?;
        let migrations = migrations(&settings.table);
        let store = Self {
            statements: Arc::new(Statements::new(&settings.table)),
            client: Client::open(settings, migrations).await?,
            scope: open.scope,
        };
        if let Some(every) = store.client.settings().cleanup_interval {
            store.scope.spawn(cleanup(store.client.clone(), every));
        }
        Ok(store)
    }

    /// All or none.
    async fn apply(&self, changes: Vec<Change>) -> Result<()> {
        let statements = Arc::clone(&self.statements);
        self.client
            .write(move |connection| {
                // A single statement is a transaction by itself.
                if let [change] = &*changes {
                    return change.apply(connection, &statements);
                }
                let transaction = connection
                    .transaction_with_behavior(TransactionBehavior::Immediate)
                    .map_err(|error| failure("failed to begin a transaction", error))?;
                for change in &changes {
                    change.apply(&transaction, &statements)?;
                }
                transaction
                    .commit()
                    .map_err(|error| failure("failed to commit a transaction", error))
            })
            .await
    }
}

impl Sqlite {
    /// Each on its own, in one visit to the file: one transaction is written back once. A change that loses changes nothing,
    /// so it keeps nothing from being written.
    async fn each(&self, changes: Vec<Result<Change>>) -> Result<()> {
        let statements = Arc::clone(&self.statements);
        self.client
            .write(move |connection| {
                let transaction = connection
                    .transaction_with_behavior(TransactionBehavior::Immediate)
                    .map_err(|error| failure("failed to begin a transaction", error))?;
                let outcomes: Vec<Result<()>> = changes
                    .into_iter()
                    .map(|change| change?.apply(&transaction, &statements))
                    .collect();
                transaction
                    .commit()
                    .map_err(|error| failure("failed to commit a transaction", error))?;
                all_of(outcomes)
            })
            .await
    }
}

fn migrations(table: &str) -> Migrations {
    Migrations {
        level: "migrations",
        steps: vec![format!(
            "CREATE TABLE IF NOT EXISTS {table} (
                key TEXT NOT NULL PRIMARY KEY,
                value TEXT NOT NULL,
                is_binary BOOLEAN NOT NULL,
                etag TEXT NOT NULL,
                expiration_time TIMESTAMP DEFAULT NULL,
                update_time TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
            )"
        )],
    }
}

async fn cleanup(client: Client, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        match delete_expired(&client, every).await {
            Ok(0) => {}
            Ok(deleted) => {
                tracing::debug!(target: "dapr.contrib", "removed {deleted} expired rows")
            }
            Err(error) => tracing::warn!(
                target: "dapr.contrib",
                "cannot remove expired rows: {}",
                component::error::chain(&error)
            ),
        }
    }
}

async fn delete_expired(client: &Client, every: Duration) -> Result<usize> {
    let delete = format!(
        "DELETE FROM {} WHERE expiration_time IS NOT NULL AND expiration_time < CURRENT_TIMESTAMP",
        client.settings().table
    );
    client.clean_up("last-cleanup", every, delete).await
}

#[async_trait]
impl Component for Sqlite {
    async fn ping(&self) -> Result<()> {
        self.client
            .read(|connection| {
                connection
                    .query_row("SELECT 1", [], |_| Ok(()))
                    .map_err(|error| failure("the database does not answer", error))
            })
            .await
    }

    async fn close(&self) {
        self.scope.end();
        self.client.close().await;
    }
}

#[async_trait]
impl StateStore for Sqlite {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES.into()
    }

    async fn get(&self, request: &GetRequest) -> Result<Option<Item>> {
        rows::check_key(&request.key)?;
        let statements = Arc::clone(&self.statements);
        let key = request.key.clone();
        self.client
            .read(move |connection| statements.read(connection, &key))
            .await
    }

    async fn set(&self, request: &SetRequest) -> Result<()> {
        self.apply(vec![Change::put(request)?]).await
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<()> {
        self.apply(vec![Change::remove(request)?]).await
    }

    /// One visit to the file for all keys: parallel reads would only compete for it.
    async fn bulk_get(&self, requests: &[GetRequest], _: usize) -> Result<Vec<BulkItem>> {
        let statements = Arc::clone(&self.statements);
        let keys: Vec<String> = requests.iter().map(|one| one.key.clone()).collect();
        self.client
            .read(move |connection| {
                let read = |key: String| BulkItem {
                    result: rows::check_key(&key).and_then(|()| statements.read(connection, &key)),
                    key,
                };
                Ok(keys.into_iter().map(read).collect())
            })
            .await
    }

    async fn bulk_set(&self, requests: &[SetRequest]) -> Result<()> {
        self.each(requests.iter().map(Change::put).collect()).await
    }

    async fn bulk_delete(&self, requests: &[DeleteRequest]) -> Result<()> {
        self.each(requests.iter().map(Change::remove).collect())
            .await
    }

    async fn transact(&self, operations: &[Operation], _: &RequestMetadata) -> Result<()> {
        let changes = operations.iter().map(|operation| match operation {
            Operation::Upsert(request) => Change::put(request),
            Operation::Delete(request) => Change::remove(request),
        });
        match operations.is_empty() {
            true => Ok(()),
            false => self.apply(changes.collect::<Result<_>>()?).await,
        }
    }

    async fn keys_like(&self, request: &KeysLikeRequest) -> Result<KeysLikeResponse> {
        if request.pattern.is_empty() {
            return Err(Error::invalid_request("the pattern of keys is empty"));
        }
        let statements = Arc::clone(&self.statements);
        let request = request.clone();
        self.client
            .read(move |connection| statements.list(connection, &request))
            .await
    }
}
