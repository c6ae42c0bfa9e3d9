//! The configured trust anchors: fixed, or a watched file that may appear later.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

use crate::files::Changes;
use crate::{Anchors, Error, TrustBundle};

/// A change is read after the folder has been quiet for this long.
const BATCH: Duration = Duration::from_millis(100);
/// The file is read at least this often, and this soon again when its folder cannot be watched.
const POLL: Duration = Duration::from_secs(5);

/// Follows the configured anchors.
#[derive(Debug)]
pub(crate) struct Configured {
    file: Option<PathBuf>,
    changes: Option<Changes>,
    last: Option<TrustBundle>,
}

impl Configured {
    /// No anchors of its own.
    pub(crate) fn none() -> Self {
        Self {
            file: None,
            changes: None,
            last: None,
        }
    }

    /// Reads the anchors; a file that is missing or incomplete is waited for.
    pub(crate) fn open(anchors: &Anchors) -> Result<(Self, TrustBundle), Error> {
        match anchors {
            Anchors::Static(pem) => Ok((Self::none(), TrustBundle::from_pem(pem)?)),
            Anchors::File(path) if path.as_os_str().is_empty() => Err(Error::Option {
                name: "anchors",
                reason: "the file has no name".into(),
            }),
            Anchors::File(path) => {
                let last = match read(path) {
                    Ok(bundle) => Some(bundle),
                    Err(error) => {
                        tracing::warn!(%error, path = %path.display(), "waiting for the trust anchors file");
                        None
                    }
                };
                let bundle = last.clone().unwrap_or_default();
                Ok((
                    Self {
                        file: Some(path.clone()),
                        changes: None,
                        last,
                    },
                    bundle,
                ))
            }
        }
    }

    /// Waits for other anchors than before. Cancel-safe.
    pub(crate) async fn changed(&mut self) -> TrustBundle {
        let Some(path) = self.file.clone() else {
            return std::future::pending().await;
        };
        loop {
            if self.changes.is_none() {
                self.changes = Changes::watch([path.as_path()], BATCH).ok();
            }
            match read(&path) {
                Ok(bundle) if self.last.as_ref() != Some(&bundle) => {
                    self.last = Some(bundle.clone());
                    return bundle;
                }
                Ok(_) => {}
                // A file being replaced is missing or half written for a moment; the old anchors stay in force.
                Err(error) => tracing::debug!(%error, "trust anchors file not usable now"),
            }
            match &mut self.changes {
                Some(changes) => {
                    tokio::select! { () = changes.next() => {}, () = sleep(POLL) => {} }
                }
                None => sleep(POLL).await,
            }
        }
    }
}

/// Small and local, so read in place.
fn read(path: &Path) -> Result<TrustBundle, Error> {
    let pem = std::fs::read(path).map_err(|source| Error::AnchorsFile {
        path: path.display().to_string(),
        source,
    })?;
    TrustBundle::from_pem(&pem)
}
