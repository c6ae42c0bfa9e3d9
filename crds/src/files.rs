//! Resources in files, for sidecars without a cluster (contract 3.10).
//!
//! Everything here is text in, resources out: reading directories and the environment is the
//! caller's job.

mod configuration;
mod expand;

use serde_json::Value;

use crate::subscription::v1alpha1;
use crate::{
    Component, HttpEndpoint, Kind, McpServer, Resiliency, Subscription, WorkflowAccessPolicy,
    conform, schema,
};

pub use configuration::configuration;
pub use expand::expand;

/// Longest text of a file, in bytes.
pub const MAX_FILE_BYTES: usize = 16 * 1024 * 1024;

/// A resource of a kind that a resource directory may hold.
#[derive(Clone, Debug, PartialEq)]
pub enum Resource {
    /// A component.
    Component(Component),
    /// A subscription; the old version is converted.
    Subscription(Subscription),
    /// Policies for calls.
    Resiliency(Resiliency),
    /// An HTTP address to invoke.
    HttpEndpoint(HttpEndpoint),
    /// An MCP server.
    McpServer(McpServer),
    /// Rules for access to workflows.
    WorkflowAccessPolicy(WorkflowAccessPolicy),
}

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
        source: Box<serde_saphyr::Error>,
    },
    /// The resource's name cannot be part of a URL path.
    #[error("{0}: metadata.name is not a valid name")]
    Name(Box<Place>),
    /// A field holds something else than it should.
    #[error("{place}: {field} must be {expected}, found {found}")]
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
    #[error("{place}: the resource is not valid")]
    Shape {
        /// Where the resource stands.
        place: Box<Place>,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// Resources of a kind have the same name; a line for each one after the first.
    #[error("{0}")]
    Duplicate(String),
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

impl Resource {
    /// The kind, e.g. `Component`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Component(_) => Component::KIND,
            Self::Subscription(_) => Subscription::KIND,
            Self::Resiliency(_) => Resiliency::KIND,
            Self::HttpEndpoint(_) => HttpEndpoint::KIND,
            Self::McpServer(_) => McpServer::KIND,
            Self::WorkflowAccessPolicy(_) => WorkflowAccessPolicy::KIND,
        }
    }

    /// The name; empty when the file does not give one.
    pub fn name(&self) -> &str {
        self.head().0
    }

    /// The namespace, if the file gives one.
    pub fn namespace(&self) -> Option<&str> {
        self.head().1
    }

    /// Whether an app loads the resource.
    pub fn in_scope(&self, app_id: &str) -> bool {
        let scopes = self.head().2;
        scopes.is_empty() || scopes.iter().any(|scope| scope == app_id)
    }

    /// The name, and for a component `name (type/version)`.
    fn described(&self) -> String {
        match self {
            Self::Component(component) => {
                let version = match component.spec.version.as_str() {
                    "" => "v1",
                    given => given,
                };
                format!(
                    "{} ({}/{version})",
                    self.name(),
                    component.spec.component_type
                )
            }
            _ => self.name().to_owned(),
        }
    }

    fn head(&self) -> (&str, Option<&str>, &[String]) {
        fn of<K: Kind>(object: &K) -> (&str, Option<&str>, &[String]) {
            (object.name(), object.namespace(), object.scopes())
        }
        match self {
            Self::Component(it) => of(it),
            Self::Subscription(it) => of(it),
            Self::Resiliency(it) => of(it),
            Self::HttpEndpoint(it) => of(it),
            Self::McpServer(it) => of(it),
            Self::WorkflowAccessPolicy(it) => of(it),
        }
    }
}

/// Reads all resources of a file; the first broken document fails the whole file.
pub fn from_documents(file: &str, text: &str) -> Result<Vec<Resource>, Error> {
    each_document(file, text).into_iter().collect()
}

/// Reads the resources of a file one by one. Documents of other kinds are skipped.
///
/// Compat: Q-file-broken-document: the loader goes on after a broken document, for which it needs them apart.
pub fn each_document(file: &str, text: &str) -> Vec<Result<Resource, Error>> {
    if let Err(error) = check_length(file, text) {
        return vec![Err(error)];
    }
    let numbered = documents(text).into_iter().enumerate();
    numbered
        .filter_map(|(index, document)| read(file, index + 1, document).transpose())
        .collect()
}

/// Picks the resources that an app loads: those of other namespaces are left out when the process has
/// a namespace (the environment's `NAMESPACE`), then a name that a kind already has is an error, then
/// those whose scopes do not hold the app are left out. Subscriptions may share a name.
pub fn select(
    resources: Vec<Resource>,
    namespace: Option<&str>,
    app_id: &str,
) -> Result<Vec<Resource>, Error> {
    let mut kept: Vec<Resource> = Vec::with_capacity(resources.len());
    let mut duplicates = Vec::new();
    for resource in resources {
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
        let same = |one: &&Resource| one.kind() == resource.kind() && one.name() == resource.name();
        let unique = !matches!(resource, Resource::Subscription(_));
        if let Some(existing) = kept.iter().find(same).filter(|_| unique) {
            duplicates.push(format!(
                "duplicate definition of {} name {} with existing {}",
                resource.kind(),
                resource.described(),
                existing.described()
            ));
        } else if resource.in_scope(app_id) {
            kept.push(resource);
        }
    }
    if duplicates.is_empty() {
        Ok(kept)
    } else {
        Err(Error::Duplicate(duplicates.join("\n")))
    }
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

/// Parses one YAML document as upstream's reader would: YAML 1.1 octals, and the last of two equal keys wins.
fn yaml(file: &str, document: usize, text: &str) -> Result<Value, Error> {
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
    };
    let parsed: Result<Option<Value>, _> = serde_saphyr::from_str_with_options(text, options);
    match parsed {
        Ok(value) => Ok(value.unwrap_or(Value::Null)),
        Err(source) => Err(Error::Yaml {
            file: file.to_owned(),
            document,
            source: Box::new(source),
        }),
    }
}

fn read(file: &str, document: usize, text: &str) -> Result<Option<Resource>, Error> {
    let value = yaml(file, document, text)?;
    let field = |name: &str| {
        value
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (version, kind) = (field("apiVersion"), field("kind"));
    let place = (file, document);
    let known = |want_kind: &str, want_version: &str| kind == want_kind && version == want_version;
    Ok(Some(if known(Component::KIND, Component::API_VERSION) {
        Resource::Component(typed(place, value)?)
    } else if known(Subscription::KIND, Subscription::API_VERSION) {
        Resource::Subscription(typed(place, value)?)
    } else if known(
        v1alpha1::Subscription::KIND,
        v1alpha1::Subscription::API_VERSION,
    ) {
        Resource::Subscription(typed::<v1alpha1::Subscription>(place, value)?.into())
    } else if known(Resiliency::KIND, Resiliency::API_VERSION) {
        Resource::Resiliency(typed(place, value)?)
    } else if known(HttpEndpoint::KIND, HttpEndpoint::API_VERSION) {
        Resource::HttpEndpoint(typed(place, value)?)
    } else if known(McpServer::KIND, McpServer::API_VERSION) {
        Resource::McpServer(typed(place, value)?)
    } else if known(
        WorkflowAccessPolicy::KIND,
        WorkflowAccessPolicy::API_VERSION,
    ) {
        Resource::WorkflowAccessPolicy(typed(place, value)?)
    } else {
        return Ok(None);
    }))
}

fn typed<K: Kind>((file, document): (&str, usize), mut value: Value) -> Result<K, Error> {
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
    if let Err(conform::Mismatch {
        field,
        expected,
        found,
    }) = fits
    {
        let (field, expected) = (field.into(), expected.into());
        return Err(Error::Field {
            place: place(),
            field,
            expected,
            found,
        });
    }
    if name == "." || name == ".." || name.contains(['/', '%']) {
        return Err(Error::Name(place()));
    }
    serde_json::from_value(value).map_err(|source| Error::Shape {
        place: place(),
        source,
    })
}

#[cfg(test)]
mod tests;
