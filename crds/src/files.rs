//! Resources in files, for sidecars without a cluster (contract 3.10).
//!
//! Everything here is text in, resources out: reading directories and the environment is the
//! caller's job.

mod configuration;
mod expand;
mod resource;
pub mod yaml;

use serde_json::Value;

use crate::subscription::v1alpha1;
use crate::{
    Component, HttpEndpoint, Kind, McpServer, Resiliency, Subscription, WorkflowAccessPolicy,
    conform, schema,
};

pub use configuration::configuration;
pub use expand::expand;
pub use resource::Resource;

/// Longest text of a file, in bytes.
pub const MAX_FILE_BYTES: usize = 16 * 1024 * 1024;

/// Where a resource stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of the file, or names of the files that were merged.
    pub file: String,
    /// Number of the document in the file, from 1.
    pub document: usize,
    /// Kind of the resource.
    pub kind: &'static str,
    /// Name of the resource; empty when it has none.
    pub name: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            file,
            document,
            kind,
            name,
        } = self;
        write!(f, "{file}: document {document}: {kind} {name:?}")
    }
}

/// What is wrong with a file. Documents are counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is longer than [`MAX_FILE_BYTES`].
    #[error("{file}: the file has {length} bytes, {MAX_FILE_BYTES} are allowed")]
    TooLong {
        /// Name of the file.
        file: String,
        /// Bytes in the file.
        length: usize,
    },
    /// A document is not YAML.
    #[error("{file}: document {document} is not valid YAML")]
    Yaml {
        /// Name of the file.
        file: String,
        /// Number of the document.
        document: usize,
        /// What is wrong, with the line inside the document.
        #[source]
        source: Box<yaml::Error>,
    },
    /// The resource's name cannot be part of a URL path.
    #[error("{0}: metadata.name is not a valid name")]
    Name(Box<Place>),
    /// A field holds something else than it should.
    #[error("{place} failed validation: {field} must be {expected}, found {found}")]
    Field {
        /// Where the resource stands.
        place: Box<Place>,
        /// Path of the field, e.g. `spec.metadata[0].name`.
        field: Box<str>,
        /// What the field holds.
        expected: Box<str>,
        /// What was written.
        found: &'static str,
    },
    /// The document does not have the shape of its kind.
    #[error("{place} failed validation")]
    Shape {
        /// Where the resource stands.
        place: Box<Place>,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// Secret scopes of a Configuration contradict themselves.
    #[error("{file}: invalid Configuration")]
    Secrets {
        /// Names of the files.
        file: String,
        /// What is wrong.
        #[source]
        source: crate::configuration::secrets::Error,
    },
}

/// A resource as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// What was read.
    pub resource: Resource,
    /// A line for each field that is written and that nobody reads: where it stands, and its path.
    pub unknown: Vec<String>,
}

/// Reads all resources of a file; the first broken document fails the whole file.
pub fn from_documents(file: &str, text: &str) -> Result<Vec<Resource>, Error> {
    let read = each_document(file, text).into_iter();
    read.map(|result| result.map(|read| read.resource))
        .collect()
}

/// Reads the resources of a file one by one. Documents of other kinds are skipped.
///
/// Compat: Q-file-broken-document: the loader goes on after a broken document, for which it needs them apart.
pub fn each_document(file: &str, text: &str) -> Vec<Result<Read, Error>> {
    if let Err(error) = check_length(file, text) {
        return vec![Err(error)];
    }
    let numbered = documents(text).into_iter().enumerate();
    numbered
        .filter_map(|(index, document)| read(file, index + 1, document).transpose())
        .collect()
}

/// A name that a kind has twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubled {
    /// The kind.
    pub kind: &'static str,
    /// The name.
    pub name: String,
    /// What is there, and what else.
    pub line: String,
}

/// Picks the resources that an app loads: those of other namespaces are left out when the process has
/// a namespace (the environment's `NAMESPACE`), and those whose scopes do not hold the app. Of those that share a name and a
/// kind the first is picked, and the others are told of; Subscriptions may share a name.
pub fn pick<R: AsRef<Resource>>(
    resources: Vec<R>,
    namespace: Option<&str>,
    app_id: &str,
) -> (Vec<R>, Vec<Doubled>) {
    let mut kept: Vec<R> = Vec::with_capacity(resources.len());
    let mut doubled = Vec::new();
    for one in resources {
        let resource = one.as_ref();
        let elsewhere = match (
            namespace.filter(|name| !name.is_empty()),
            resource.namespace(),
        ) {
            (Some(own), Some(stated)) => own != stated,
            _ => false,
        };
        if elsewhere {
            continue;
        }
        let same =
            |other: &&Resource| other.kind() == resource.kind() && other.name() == resource.name();
        let unique = !matches!(resource, Resource::Subscription(_));
        let existing = kept.iter().map(R::as_ref).find(same);
        if let Some(existing) = existing.filter(|_| unique) {
            doubled.push(Doubled {
                kind: resource.kind(),
                name: resource.name().to_owned(),
                line: format!(
                    "duplicate definition of {} name {} with existing {}",
                    resource.kind(),
                    resource.described(),
                    existing.described()
                ),
            });
        } else if resource.in_scope(app_id) {
            kept.push(one);
        }
    }
    (kept, doubled)
}

fn check_length(file: &str, text: &str) -> Result<(), Error> {
    if text.len() > MAX_FILE_BYTES {
        return Err(Error::TooLong {
            file: file.to_owned(),
            length: text.len(),
        });
    }
    Ok(())
}

/// Splits a text at its `---` lines. Split by hand, because a parser that has met an error does not
/// find the next document. Comments and directives before the first `---` belong to what follows it.
fn documents(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut position, mut has_begun) = (0, 0, false);
    for line in text.split_inclusive('\n') {
        let rest = line.strip_prefix("---");
        let separates =
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        if separates && has_begun {
            parts.push(&text[start..position]);
            start = position;
        }
        has_begun |= separates || !(line.trim().is_empty() || line.starts_with(['#', '%']));
        position += line.len();
    }
    parts.push(&text[start..]);
    parts
}

fn parsed(file: &str, document: usize, text: &str) -> Result<Value, Error> {
    yaml::parse(text).map_err(|source| Error::Yaml {
        file: file.to_owned(),
        document,
        source: Box::new(source),
    })
}

fn read(file: &str, document: usize, text: &str) -> Result<Option<Read>, Error> {
    let value = parsed(file, document, text)?;
    let field = |name: &str| {
        let found = conform::field(&value, name).and_then(Value::as_str);
        found.unwrap_or_default().to_owned()
    };
    let (version, kind) = (field("apiVersion"), field("kind"));
    let place = (file, document);
    let known = |want_kind: &str, want_version: &str| kind == want_kind && version == want_version;
    Ok(Some(if known(Component::KIND, Component::API_VERSION) {
        resource::<Component>(place, value)?
    } else if known(Subscription::KIND, Subscription::API_VERSION) {
        resource::<Subscription>(place, value)?
    } else if known(
        v1alpha1::Subscription::KIND,
        v1alpha1::Subscription::API_VERSION,
    ) {
        let (subscription, unknown) = typed::<v1alpha1::Subscription>(place, value)?;
        let resource = Resource::Subscription(subscription.into());
        Read { resource, unknown }
    } else if known(Resiliency::KIND, Resiliency::API_VERSION) {
        resource::<Resiliency>(place, value)?
    } else if known(HttpEndpoint::KIND, HttpEndpoint::API_VERSION) {
        resource::<HttpEndpoint>(place, value)?
    } else if known(McpServer::KIND, McpServer::API_VERSION) {
        resource::<McpServer>(place, value)?
    } else if known(
        WorkflowAccessPolicy::KIND,
        WorkflowAccessPolicy::API_VERSION,
    ) {
        resource::<WorkflowAccessPolicy>(place, value)?
    } else {
        return Ok(None);
    }))
}

fn resource<K: Kind + Into<Resource>>(place: (&str, usize), value: Value) -> Result<Read, Error> {
    let (resource, unknown) = typed::<K>(place, value)?;
    Ok(Read {
        resource: resource.into(),
        unknown,
    })
}

/// An object of a kind, and what of its text nobody reads.
fn typed<K: Kind>(
    (file, document): (&str, usize),
    mut value: Value,
) -> Result<(K, Vec<String>), Error> {
    let fits = conform::conform(&mut value, &schema::of::<K>());
    let name = value
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let place = || {
        let (file, name) = (file.to_owned(), name.clone());
        Box::new(Place {
            file,
            document,
            kind: K::KIND,
            name,
        })
    };
    let unknown = fits.map_err(|mismatch| Error::Field {
        place: place(),
        field: mismatch.field.into(),
        expected: mismatch.expected.into(),
        found: mismatch.found,
    })?;
    if name == "." || name == ".." || name.contains(['/', '%']) {
        return Err(Error::Name(place()));
    }
    let unknown = unknown
        .into_iter()
        .map(|field| format!("{}: unknown field {field}", place()))
        .collect();
    match serde_json::from_value(value) {
        Ok(object) => Ok((object, unknown)),
        Err(source) => Err(Error::Shape {
            place: place(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests;
