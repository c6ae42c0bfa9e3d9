//! What the operator sends, read.

use anyhow::{Context, Result};
use crds::{Configuration, Kind, Resource};
use proto::operator::v1::ResourceEventType;

use crate::resources::desired::{Event, Listing, Remark, Version, Written};

/// What an event says. One that cannot be read is an error: the list that follows finds out what it was about.
pub fn happened<K: Kind + Into<Resource>>(
    bytes: &[u8],
    event: ResourceEventType,
) -> Result<Option<Event>> {
    let resource: K = parse(bytes)?;
    let name = resource.name().to_owned();
    let version = Version::of(&resource);
    Ok(Some(match event {
        ResourceEventType::Deleted => Event::Gone((K::KIND, name), version),
        _ => Event::Is(Box::new(Written {
            resource: resource.into(),
            origin: origin::<K>(&name),
            version,
        })),
    }))
}

/// Only the Configuration that the pod names concerns this sidecar.
pub fn configured(
    bytes: &[u8],
    event: ResourceEventType,
    own: Option<&str>,
) -> Result<Option<Event>> {
    let found: Configuration = parse(bytes)?;
    if own != Some(found.name()) {
        return Ok(None);
    }
    Ok(Some(match event {
        ResourceEventType::Deleted => Event::ConfigurationGone(Version::of(&found)),
        _ => Event::Configuration(Box::new(found)),
    }))
}

/// Adds a list of one kind; what cannot be read is named, and what was known of it stays.
pub fn add<K: Kind + Into<Resource>>(listing: &mut Listing, list: &[impl AsRef<[u8]>]) {
    for bytes in list.iter().map(AsRef::as_ref) {
        match parse::<K>(bytes) {
            Ok(resource) => listing.written.push(Written {
                origin: origin::<K>(resource.name()),
                version: Version::of(&resource),
                resource: resource.into(),
            }),
            Err(error) => {
                let origin = origin::<K>(&name_in(bytes));
                listing.remarks.insert(Remark {
                    line: format!("a resource is not loaded: {origin}: {error:#}"),
                    edition: String::from_utf8_lossy(bytes).into_owned(),
                });
                listing.unread.insert(origin);
            }
        }
    }
}

fn origin<K: Kind>(name: &str) -> String {
    format!("{} {name:?}", K::KIND)
}

/// The name of a resource that does not have the shape of its kind.
fn name_in(bytes: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    let name = value.pointer("/metadata/name");
    name.and_then(serde_json::Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

pub fn parse<K: Kind>(bytes: &[u8]) -> Result<K> {
    serde_json::from_slice(bytes)
        .with_context(|| format!("the operator sent a malformed {}", K::KIND))
}
