//! Resources in directories, and a Configuration in files.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use crds::{
    Configuration,
    files::{self, Doubled},
};
use notify::{RecursiveMode, Watcher};
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{
    Change,
    desired::{Desired, Listing, Remark, Version, Written, key},
};

/// Events of one edit arrive in a burst; the directory is read once they have calmed down.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// Directories and files of a machine.
#[derive(Clone)]
pub struct Disk {
    pub directories: Vec<PathBuf>,
    pub configurations: Vec<PathBuf>,
    pub namespace: String,
    pub app_id: String,
}

impl Disk {
    /// The Configuration files, merged in order.
    ///
    /// # Errors
    /// Names the file.
    pub fn configuration(&self) -> Result<Configuration> {
        let mut texts = Vec::with_capacity(self.configurations.len());
        for path in &self.configurations {
            let text = fs::read_to_string(path)
                .with_context(|| format!("configuration file {}", path.display()))?;
            texts.push((path.display().to_string(), text));
        }
        let pairs = texts
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()));
        let told = |line: &str| tracing::warn!("{line}");
        Ok(files::configuration(pairs, variable, told)?)
    }

    /// The resources of all directories that this app loads.
    ///
    /// # Errors
    /// Names the directory, or the resources that are there twice.
    pub fn list(&self) -> Result<Listing> {
        let (listing, doubled) = self.read()?;
        let lines: Vec<String> = doubled.into_iter().map(|one| one.line).collect();
        match lines.is_empty() {
            true => Ok(listing),
            false => bail!("failed to load components: {}", lines.join("\n")),
        }
    }

    /// The same, where names that are there twice are known to be so.
    fn read(&self) -> Result<(Listing, Vec<Doubled>)> {
        let mut listing = Listing::default();
        for directory in &self.directories {
            for path in yaml_files(directory)? {
                read(&path, &mut listing);
            }
        }
        let all: BTreeSet<_> = listing
            .written
            .iter()
            .map(|one| key(&one.resource))
            .collect();
        let namespace = Some(self.namespace.as_str()).filter(|name| !name.is_empty());
        let (picked, doubled) = files::pick(listing.written, namespace, &self.app_id);
        listing.written = picked;
        listing.elsewhere = all;
        for one in &listing.written {
            listing.elsewhere.remove(&key(&one.resource));
        }
        Ok((listing, doubled))
    }

    /// For a reload: nobody knows which of those is meant that are there twice, so what runs under such a name stays
    /// (Q-component-retry), and all else is taken.
    fn reread(&self) -> Result<Listing> {
        let (mut listing, doubled) = self.read()?;
        for Doubled { kind, name, line } in doubled {
            listing.remarks.insert(Remark {
                edition: String::new(),
                line: format!(
                    "{line}: what runs under that name stays as it is until there is one"
                ),
            });
            listing.doubled.insert((kind, name));
        }
        Ok(listing)
    }

    /// Sends what changes in the directories, until shutdown. A broken file is warned about, and what it held stays.
    ///
    /// # Errors
    /// Where a directory cannot be watched.
    pub async fn watch(
        self,
        mut desired: Desired,
        changes: mpsc::Sender<Change>,
        reconcile: Duration,
        shutdown: CancellationToken,
    ) -> Result<()> {
        let (event, mut events) = mpsc::channel::<()>(1);
        let mut watcher = notify::recommended_watcher(move |found| {
            if is_edit(&found) {
                // One waiting event is enough: the whole directory is read.
                let _ = event.try_send(());
            }
        })?;
        for directory in &self.directories {
            watcher
                .watch(directory, RecursiveMode::NonRecursive)
                .with_context(|| format!("resources path {}", directory.display()))?;
        }
        // The first tick is at once: it finds what was edited between the first list and now.
        let mut ticks = tokio::time::interval(reconcile);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                event = events.recv() => {
                    if event.is_none() {
                        return Ok(());
                    }
                    tokio::time::sleep(DEBOUNCE).await;
                    while events.try_recv().is_ok() {}
                }
                _ = ticks.tick() => {}
            }
            let listing = match self.reread() {
                Ok(listing) => listing,
                Err(error) => {
                    tracing::error!("resources are not reloaded: {error:#}");
                    continue;
                }
            };
            desired.warn_of(&listing);
            for change in desired.replace(listing) {
                if changes.send(change).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

/// Whether something may have changed. Reading is an event, too, and our own must not make us read again.
fn is_edit(found: &notify::Result<notify::Event>) -> bool {
    found.as_ref().map_or(true, |event| !event.kind.is_access())
}

/// The YAML files directly in a directory, in order of their names.
fn yaml_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("resources path {}", directory.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).with_context(context)? {
        let path = entry.with_context(context)?.path();
        let yaml = path
            .extension()
            .and_then(|extension| extension.to_str())
            .is_some_and(|extension| {
                matches!(extension.to_ascii_lowercase().as_str(), "yaml" | "yml")
            });
        if yaml && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Adds what a file holds, document by document: a broken one does not take the others with it.
fn read(path: &Path, listing: &mut Listing) {
    let origin = path.display().to_string();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        // Deleted since the directory was read, and with it what it held.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            return unread(path, format!("{origin}: {error}"), listing);
        }
    };
    for result in files::each_document(&origin, &text) {
        match result {
            Ok(read) => {
                listing
                    .remarks
                    .extend(read.unknown.into_iter().map(|line| Remark {
                        edition: edition(path),
                        line,
                    }));
                listing.written.push(Written {
                    resource: read.resource,
                    origin: origin.clone(),
                    version: Version::default(),
                });
            }
            Err(error) => {
                let problem = component::error::chain(&error);
                unread(path, problem, listing);
            }
        }
    }
}

fn unread(path: &Path, problem: String, listing: &mut Listing) {
    listing.unread.insert(path.display().to_string());
    listing.remarks.insert(Remark {
        edition: edition(path),
        line: format!("a resource is not loaded: {problem}"),
    });
}

/// A variable of the environment.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// When a file was last written.
fn edition(path: &Path) -> String {
    let modified = fs::metadata(path).and_then(|file| file.modified());
    modified.map_or_else(|error| error.to_string(), |time| format!("{time:?}"))
}
