//! State of actors (contract 11.2): keys below the actor, in the store that says that it is for actors, whichever that is at
//! the time of a call.

use std::collections::BTreeMap;

use blocks::state::{self, Raw, Stores};
use bytes::Bytes;
use component::state::{
    Capability, DeleteRequest, GetRequest, Item, Operation, RequestMetadata, SetRequest,
};

use crate::ActorId;

#[cfg(test)]
mod tests;

/// Metadata of each call, for stores that part their data.
const PARTITION_KEY: &str = "partitionKey";

/// Metadata of a value that expires.
const TTL: &str = "ttlInSeconds";

/// Between the parts of a key.
const SEPARATOR: &str = "||";

/// What the state of actors is made of.
pub struct Options {
    pub app_id: String,
    pub stores: Stores,
    /// Whether values may expire: the feature `ActorStateTTL`.
    pub ttl: bool,
}

/// State of the actors of this app. Clones share it.
#[derive(Clone)]
pub struct State {
    app_id: String,
    stores: Stores,
    ttl: bool,
}

/// A step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Upsert {
        key: String,
        /// As it is stored: JSON, or bytes of the caller's.
        value: Bytes,
        etag: Option<String>,
        metadata: BTreeMap<String, String>,
    },
    Delete {
        key: String,
        etag: Option<String>,
    },
}

/// Why state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no store for actors.
    #[error(
        "the state store is not configured to use the actor runtime. Have you set the - name: actorStateStore value: \"true\" in your state store component file?"
    )]
    NoStore,
    /// There is one, which cannot do what actors need.
    #[error(
        "actors: state store does not exist or incorrectly configured. Have you set the property '{{\"name\": \"actorStateStore\", \"value\": \"true\"}}' in your state store component file?"
    )]
    Unsuitable,
    /// More steps than the store takes in one transaction.
    #[error("the transaction contains more operations than supported by the state store")]
    TooManyOperations,
    /// A step that makes no sense.
    #[error("{0}")]
    Malformed(String),
    /// What the store said.
    #[error(transparent)]
    Store(#[from] state::Error),
}

impl State {
    pub fn new(options: Options) -> Self {
        Self {
            app_id: options.app_id,
            stores: options.stores,
            ttl: options.ttl,
        }
    }

    /// Whether actors can keep state: without it none is hosted.
    ///
    /// # Errors
    /// [`Error::NoStore`], [`Error::Unsuitable`].
    pub fn check(&self) -> Result<(), Error> {
        self.store().map(|_| ())
    }

    /// The value of a key.
    ///
    /// # Errors
    /// [`Error::NoStore`], [`Error::Unsuitable`], [`Error::Store`].
    pub async fn get(&self, actor: &ActorId, key: &str) -> Result<Option<Item>, Error> {
        let store = self.store()?;
        Ok(store.get(&self.read(actor, key)).await?)
    }

    /// The values of several keys, those that are there.
    ///
    /// # Errors
    /// As [`State::get`]; a key that cannot be read fails them all.
    pub async fn bulk_get(
        &self,
        actor: &ActorId,
        keys: &[String],
    ) -> Result<BTreeMap<String, Item>, Error> {
        let store = self.store()?;
        let reads: Vec<_> = keys.iter().map(|key| self.read(actor, key)).collect();
        let rows = store.bulk_get(&reads, 0).await?;
        let mut found = BTreeMap::new();
        for (key, row) in keys.iter().zip(rows) {
            if let Some(item) = row.result.map_err(state::Error::from)? {
                found.insert(key.clone(), item);
            }
        }
        Ok(found)
    }

    /// Applies all steps or none, in order.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn transact(&self, actor: &ActorId, steps: Vec<Step>) -> Result<(), Error> {
        let store = self.store()?;
        let metadata = self.metadata(actor);
        let operations = steps.into_iter();
        let operations: Vec<Operation> = operations
            .map(|step| self.operation(actor, &metadata, step))
            .collect::<Result<_, _>>()?;
        let most = store.max_transaction_operations().await?;
        if most.is_some_and(|most| operations.len() > most) {
            return Err(Error::TooManyOperations);
        }
        Ok(store.transact(&operations, &metadata).await?)
    }

    fn operation(
        &self,
        actor: &ActorId,
        partition: &RequestMetadata,
        step: Step,
    ) -> Result<Operation, Error> {
        let checked = |key: String| match key.as_str() {
            "" => Err(Error::Malformed("missing key".to_owned())),
            key => Ok(self.key(actor, key)),
        };
        Ok(match step {
            Step::Upsert {
                key,
                value,
                etag,
                mut metadata,
            } => {
                let key = checked(key)?;
                if !self.ttl && metadata.contains_key(TTL) {
                    let text = format!(
                        "{TTL} is not supported without the \"ActorStateTTL\" feature enabled"
                    );
                    return Err(Error::Malformed(text));
                }
                metadata.extend(partition.clone());
                Operation::Upsert(SetRequest {
                    key,
                    value,
                    etag,
                    metadata,
                    ..SetRequest::default()
                })
            }
            Step::Delete { key, etag } => Operation::Delete(DeleteRequest {
                key: checked(key)?,
                etag,
                metadata: partition.clone(),
                ..DeleteRequest::default()
            }),
        })
    }

    fn read(&self, actor: &ActorId, key: &str) -> GetRequest {
        GetRequest {
            key: self.key(actor, key),
            metadata: self.metadata(actor),
            ..GetRequest::default()
        }
    }

    /// All keys of an actor begin so.
    fn base(&self, actor: &ActorId) -> String {
        format!("{}{SEPARATOR}{actor}", self.app_id)
    }

    fn key(&self, actor: &ActorId, key: &str) -> String {
        format!("{}{SEPARATOR}{key}", self.base(actor))
    }

    fn metadata(&self, actor: &ActorId) -> RequestMetadata {
        RequestMetadata::from([(PARTITION_KEY.to_owned(), self.base(actor))])
    }

    fn store(&self) -> Result<Raw, Error> {
        store(&self.stores)
    }
}

/// The store for actors.
pub(crate) fn store(stores: &Stores) -> Result<Raw, Error> {
    let name = stores.for_actors().ok_or(Error::NoStore)?;
    let store = stores.raw(&name);
    let capabilities = store.capabilities()?;
    let needed = [Capability::Etag, Capability::Transactional];
    if !needed.iter().all(|needed| capabilities.contains(*needed)) {
        return Err(Error::Unsuitable);
    }
    Ok(store)
}
