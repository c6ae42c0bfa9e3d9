//! The components that need no server: in-memory state and pub/sub, local secrets, bindings to the clock, to files and to HTTP,
//! name resolution without a registry, and plain HTTP middleware. They are the defaults of a laptop and the fakes of the tests.

pub mod bindings;
pub mod files;
pub mod middleware;
pub mod names;
pub mod pubsub;
pub mod secrets;
pub mod state;

use std::sync::Arc;

use component::{
    Catalog, Fields, HttpMiddleware, InputBinding, NameResolver, OutputBinding, PubSub,
    Registration, SecretStore, StateStore, catalog::Taken,
};

/// Adds all of them.
///
/// # Errors
/// Where a name is taken already.
pub fn register(catalog: &mut Catalog) -> Result<(), Taken> {
    catalog.state.add(
        of("in-memory", Fields::default()).capabilities(state::CAPABILITIES),
        |open| async { Ok(Arc::new(state::InMemory::open(open)) as Arc<dyn StateStore>) },
    )?;
    catalog
        .pubsub
        .add(of("in-memory", Fields::default()), |open| async {
            Ok(Arc::new(pubsub::InMemory::open(open)) as Arc<dyn PubSub>)
        })?;
    bindings(catalog)?;
    secret_stores(catalog)?;
    name_resolvers(catalog)?;
    middleware(catalog)
}

fn of(name: &str, fields: Fields) -> Registration {
    Registration::new("builtin", name, fields)
}

fn bindings(catalog: &mut Catalog) -> Result<(), Taken> {
    catalog.input_bindings.add(
        of("cron", bindings::cron::Settings::fields()),
        |open| async move { Ok(Arc::new(bindings::cron::Cron::open(open)?) as Arc<dyn InputBinding>) },
    )?;
    catalog.output_bindings.add(
        of("http", bindings::http::Settings::fields()),
        |open| async move {
            Ok(Arc::new(bindings::http::Http::open(open).await?) as Arc<dyn OutputBinding>)
        },
    )?;
    catalog.output_bindings.add(
        of("localstorage", bindings::files::Settings::fields()),
        |open| async move {
            let files = bindings::files::Files::open(&open.metadata).await?;
            Ok(Arc::new(files) as Arc<dyn OutputBinding>)
        },
    )
}

fn secret_stores(catalog: &mut Catalog) -> Result<(), Taken> {
    catalog.secrets.add(
        of("local.env", secrets::Environment::fields())
            .capabilities(component::secrets::Capabilities::EMPTY),
        |open| async move {
            Ok(Arc::new(secrets::Environment::read(&open.metadata)?) as Arc<dyn SecretStore>)
        },
    )?;
    catalog.secrets.add(
        of("local.file", files::Settings::fields()),
        |open| async move {
            Ok(Arc::new(files::LocalFile::open(&open.metadata).await?) as Arc<dyn SecretStore>)
        },
    )
}

fn name_resolvers(catalog: &mut Catalog) -> Result<(), Taken> {
    catalog
        .names
        .add(of("mdns", Fields::default()), |open| async move {
            Ok(Arc::new(names::mdns::Mdns::open(open)?) as Arc<dyn NameResolver>)
        })?;
    catalog.names.add(
        of("kubernetes", names::Kubernetes::fields()),
        |open| async move {
            Ok(Arc::new(names::Format::kubernetes(&open.metadata)?) as Arc<dyn NameResolver>)
        },
    )?;
    catalog.names.add(
        of("nameformat", names::Named::fields()),
        |open| async move {
            Ok(Arc::new(names::Format::open(&open.metadata)?) as Arc<dyn NameResolver>)
        },
    )
}

fn middleware(catalog: &mut Catalog) -> Result<(), Taken> {
    catalog
        .middleware
        .add(of("uppercase", Fields::default()), |_| async {
            Ok(Arc::new(middleware::Uppercase) as Arc<dyn HttpMiddleware>)
        })?;
    catalog.middleware.add(
        of("routeralias", middleware::Aliases::fields().and_others()),
        |open| async move {
            Ok(Arc::new(middleware::RouterAlias::open(&open.metadata)?) as Arc<dyn HttpMiddleware>)
        },
    )?;
    catalog.middleware.add(
        of("routerchecker", middleware::Rule::fields()),
        |open| async move {
            Ok(Arc::new(middleware::RouterChecker::open(&open.metadata)?)
                as Arc<dyn HttpMiddleware>)
        },
    )
}
