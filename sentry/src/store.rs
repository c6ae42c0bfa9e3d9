//! Where the authority's credentials are kept: files, or a Secret and a ConfigMap (contract 6.5).

mod cluster;
mod files;

use std::path::Path;

use serde_json::Value;

use crate::api_server::ApiServer;
use crate::settings::Paths;

/// All stored credentials; what is missing is none, and in a Secret what is empty too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    pub root: Option<Vec<u8>>,
    pub chain: Option<Vec<u8>>,
    pub key: Option<Vec<u8>>,
    pub jwt_key: Option<Vec<u8>>,
    pub jwks: Option<Vec<u8>>,
    /// What sentry has written down about the first three, if it has made them.
    pub record: Option<Vec<u8>>,
}

/// Credentials as they were found, and what is needed to write them back safely.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    pub credentials: Credentials,
    /// Secret and ConfigMap with their versions.
    objects: Option<(Value, Value)>,
}

/// Why credentials cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path}")]
    Read {
        path: String,
        source: std::io::Error,
    },
    #[error("cannot write {path}")]
    Write {
        path: String,
        source: std::io::Error,
    },
    #[error("{path} is larger than 1 MiB")]
    TooLarge { path: String },
    #[error("the trust bundle cannot be used: {reason}")]
    Object { reason: &'static str },
    #[error("someone else has written the trust bundle at the same time")]
    Conflict,
    #[error("the trust bundle {name} in namespace {namespace}")]
    Cluster {
        name: &'static str,
        namespace: String,
        source: crate::api_server::Error,
    },
}

/// A place for credentials.
pub enum Store {
    Files(Paths),
    Cluster {
        api: ApiServer,
        namespace: String,
        paths: Paths,
    },
}

impl Store {
    /// Reads everything.
    pub async fn load(&self) -> Result<Stored, Error> {
        match self {
            Self::Files(paths) => files::load(paths),
            Self::Cluster {
                api,
                namespace,
                paths,
            } => cluster::load(api, namespace, paths).await,
        }
    }

    /// Writes what differs from what was loaded; `stage` is shown to people, where there is one.
    pub async fn save(
        &self,
        stored: &Stored,
        wanted: &Credentials,
        stage: Option<&str>,
    ) -> Result<(), Error> {
        match self {
            Self::Files(paths) => files::save(paths, stored, wanted),
            Self::Cluster {
                api,
                namespace,
                paths,
            } => cluster::save(api, namespace, paths, stored, (wanted, stage)).await,
        }
    }
}

impl Store {
    /// Tells people, where there is a place for that, what happened to the credentials. `name` is the same for the same thing.
    pub async fn tell(&self, name: &str, (reason, message): (&str, &str), warning: bool) {
        let Self::Cluster { api, namespace, .. } = self else {
            return;
        };
        let told = cluster::tell(api, namespace, name, (reason, message), warning).await;
        if let Err(error) = told {
            let error: &dyn std::error::Error = &error;
            tracing::debug!(error, "the event {reason} is not written");
        }
    }
}

/// Largest credential in bytes; a Secret cannot hold more either.
const MAX: usize = 1 << 20;

/// Charts make a Secret before there is anything to put into it.
fn present(bytes: Vec<u8>) -> Option<Vec<u8>> {
    (!bytes.trim_ascii().is_empty()).then_some(bytes)
}

/// The key of a credential in Secret and ConfigMap.
fn key_of(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}
