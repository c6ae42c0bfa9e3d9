//! Noticing changed files. Folders are watched, not files: Kubernetes replaces mounted files by swapping a symlink
//! of their folder, and editors by renaming.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::Error;

/// A stream of change notices, batched.
#[derive(Debug)]
pub struct Changes {
    /// Dropping it ends the watch.
    _watcher: RecommendedWatcher,
    notices: mpsc::Receiver<()>,
    batch: Duration,
}

impl Changes {
    /// Watches the folders of `files`; changes within `batch` of each other are one change.
    ///
    /// # Errors
    /// [`Error::Watch`] when a folder cannot be watched, for example because it does not exist.
    pub fn watch<'a>(
        files: impl IntoIterator<Item = &'a Path>,
        batch: Duration,
    ) -> Result<Self, Error> {
        let (notice, notices) = mpsc::channel(1);
        let failed = |path: &Path| {
            let path = path.display().to_string();
            move |source| Error::Watch { path, source }
        };
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                if event.map_or(true, |event| !event.kind.is_access()) {
                    // A full queue already holds a notice.
                    let _ = notice.try_send(());
                }
            })
            .map_err(failed(Path::new("files")))?;
        let folders: BTreeSet<PathBuf> = files.into_iter().map(folder).collect();
        for folder in folders {
            watcher
                .watch(&folder, RecursiveMode::NonRecursive)
                .map_err(failed(&folder))?;
        }
        Ok(Self {
            _watcher: watcher,
            notices,
            batch,
        })
    }

    /// Waits for the next change and for the end of its batch. Cancel-safe: a change is not lost but may be told twice.
    pub async fn next(&mut self) {
        if self.notices.recv().await.is_none() {
            // The watcher is gone, which cannot happen while `self` owns it; never busy-loop on it.
            std::future::pending::<()>().await;
        }
        sleep(self.batch).await;
        while let Ok(Some(())) = timeout(Duration::ZERO, self.notices.recv()).await {}
    }
}

fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
