//! The name resolver of this sidecar (contract 9.6).

use std::sync::Arc;

use component::{Catalog, Metadata, NameResolver, Open, Result, catalog::FIRST_VERSION};
use crds::configuration::NameResolution;
use serde_json::Value;
use settings::Mode;

/// Opens the resolver that the Configuration names, or the mode's default.
///
/// # Errors
/// What the resolver says; the sidecar then serves everything but invocation by name.
pub async fn open(
    catalog: &Catalog,
    configured: Option<&NameResolution>,
    mode: Mode,
    open: impl FnOnce(&str, Metadata) -> Open,
) -> Result<Arc<dyn NameResolver>> {
    let configured = configured.filter(|it| !it.component.is_empty());
    let (name, version) = match configured {
        Some(it) => (it.component.clone(), it.version.clone()),
        None if mode == Mode::Kubernetes => ("kubernetes".to_owned(), FIRST_VERSION.to_owned()),
        None => ("mdns".to_owned(), FIRST_VERSION.to_owned()),
    };
    let metadata =
        configured.map_or_else(Metadata::default, |it| fields(it.configuration.as_ref()));
    let resolver = catalog.names.open(&name, &version, open(&name, metadata));
    let resolver = resolver.await?;
    tracing::info!("Initialized name resolution to {name}");
    Ok(resolver)
}

/// The members of a free-form object as fields; nested values keep their JSON text.
fn fields(configuration: Option<&Value>) -> Metadata {
    let members = configuration
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    members
        .map(|(key, value)| {
            let text = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            (key.clone(), text)
        })
        .collect()
}
