//! A state store that can go away and come back with what it held.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use component::{
    Catalog, Component, Error, ErrorKind, Fields, Registration, Result, StateStore,
    state::{
        Capabilities, DeleteRequest, GetRequest, Item, Operation, RequestMetadata, SetRequest,
    },
};

/// Whether the stores are away.
#[derive(Clone, Default)]
pub struct Absence(Arc<AtomicBool>);

impl Absence {
    pub fn set(&self, away: bool) {
        self.0.store(away, Ordering::SeqCst);
    }

    pub fn register(&self, catalog: &mut Catalog) {
        let absence = self.clone();
        let registration = Registration::new("test", "absent", Fields::default());
        let added = catalog.state.add(registration, move |open| {
            let absence = absence.clone();
            async move {
                let mut builtin = Catalog::default();
                component_builtin::register(&mut builtin).expect("no name is taken twice");
                let inner = builtin.state.open("in-memory", "", open).await?;
                Ok(Arc::new(Store { inner, absence }) as Arc<dyn StateStore>)
            }
        });
        added.unwrap();
    }
}

struct Store {
    inner: Arc<dyn StateStore>,
    absence: Absence,
}

impl Store {
    fn check(&self) -> Result<()> {
        match self.absence.0.load(Ordering::SeqCst) {
            true => Err(Error::new(ErrorKind::Unavailable, "the store is away")),
            false => Ok(()),
        }
    }
}

impl Component for Store {}

#[async_trait]
impl StateStore for Store {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn get(&self, request: &GetRequest) -> Result<Option<Item>> {
        self.check()?;
        self.inner.get(request).await
    }

    async fn set(&self, request: &SetRequest) -> Result<()> {
        self.check()?;
        self.inner.set(request).await
    }

    async fn delete(&self, request: &DeleteRequest) -> Result<()> {
        self.check()?;
        self.inner.delete(request).await
    }

    async fn transact(&self, operations: &[Operation], metadata: &RequestMetadata) -> Result<()> {
        self.check()?;
        self.inner.transact(operations, metadata).await
    }
}
