//! The components that need no server: in-memory state and pub/sub, local secrets, name resolution without a registry, and
//! plain HTTP middleware. They are the defaults of a laptop and the fakes of the tests.

pub mod files;
pub mod middleware;
pub mod names;
pub mod pubsub;
pub mod secrets;
pub mod state;

use std::sync::Arc;

use component::{Catalog, HttpMiddleware, NameResolver, PubSub, SecretStore, StateStore};

/// Adds all of them.
pub fn register(catalog: &mut Catalog) {
    catalog.state.add(&["in-memory"], "v1", |open| async {
        Ok(Arc::new(state::InMemory::open(open)) as Arc<dyn StateStore>)
    });
    catalog.pubsub.add(&["in-memory"], "v1", |open| async {
        Ok(Arc::new(pubsub::InMemory::open(open)) as Arc<dyn PubSub>)
    });
    catalog
        .secrets
        .add(&["local.env"], "v1", |open| async move {
            Ok(Arc::new(secrets::Environment::open(&open.metadata)) as Arc<dyn SecretStore>)
        });
    catalog
        .secrets
        .add(&["local.file"], "v1", |open| async move {
            Ok(Arc::new(files::LocalFile::open(&open.metadata).await?) as Arc<dyn SecretStore>)
        });
    catalog.names.add(&["mdns"], "v1", |open| async move {
        Ok(Arc::new(names::mdns::Mdns::open(open)?) as Arc<dyn NameResolver>)
    });
    catalog.names.add(&["kubernetes"], "v1", |open| async move {
        Ok(Arc::new(names::Format::kubernetes(&open.metadata)?) as Arc<dyn NameResolver>)
    });
    catalog.names.add(&["nameformat"], "v1", |open| async move {
        Ok(Arc::new(names::Format::open(&open.metadata)?) as Arc<dyn NameResolver>)
    });
    catalog.middleware.add(&["uppercase"], "v1", |_| async {
        Ok(Arc::new(middleware::Uppercase) as Arc<dyn HttpMiddleware>)
    });
    catalog
        .middleware
        .add(&["routeralias"], "v1", |open| async move {
            Ok(Arc::new(middleware::RouterAlias::open(&open.metadata)?) as Arc<dyn HttpMiddleware>)
        });
    catalog
        .middleware
        .add(&["routerchecker"], "v1", |open| async move {
            Ok(Arc::new(middleware::RouterChecker::open(&open.metadata)?)
                as Arc<dyn HttpMiddleware>)
        });
}
