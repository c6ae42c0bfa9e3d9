//! Resources in directories, and a Configuration in files.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use crds::{Configuration, Resource, files};
use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Change, Resources, known::Known};

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
        Ok(files::configuration(pairs, |name| {
            std::env::var(name).ok()
        })?)
    }

    /// The resources of all directories that this app loads.
    ///
    /// # Errors
    /// Names the directory, or the file, document and field.
    pub fn list(&self) -> Result<Resources> {
        Ok(self.read_all()?.0)
    }

    /// The resources, and whether every document could be read.
    fn read_all(&self) -> Result<(Resources, bool)> {
        let (mut found, mut whole) = (Vec::new(), true);
        for directory in &self.directories {
            for path in yaml_files(directory)? {
                for result in read(&path)? {
                    match result {
                        Ok(resource) => found.push(resource),
                        Err(error) => {
                            whole = false;
                            let error = component::error::chain(&error);
                            tracing::warn!("a resource is not loaded: {error}");
                        }
                    }
                }
            }
        }
        let namespace = Some(self.namespace.as_str()).filter(|name| !name.is_empty());
        let mut resources = Resources::default();
        for resource in files::select(found, namespace, &self.app_id)
            .map_err(|error| anyhow!("failed to load components: {error}"))?
        {
            resources.add(resource);
        }
        Ok((resources, whole))
    }

    /// Sends what changes in the directories, until shutdown. A broken file is logged, and what it held stays loaded.
    ///
    /// # Errors
    /// Where a directory cannot be watched.
    pub async fn watch(
        self,
        changes: mpsc::Sender<Change>,
        reconcile: Duration,
        shutdown: CancellationToken,
    ) -> Result<()> {
        let (event, mut events) = mpsc::channel::<()>(1);
        let mut watcher = notify::recommended_watcher(move |_| {
            // One waiting event is enough: the whole directory is read.
            let _ = event.try_send(());
        })?;
        for directory in &self.directories {
            watcher
                .watch(directory, RecursiveMode::NonRecursive)
                .with_context(|| format!("resources path {}", directory.display()))?;
        }
        let mut known = Known::of(self.list().unwrap_or_default());
        let mut ticks = tokio::time::interval(reconcile);
        ticks.tick().await;
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
            match self.read_all() {
                Ok((resources, whole)) => {
                    let mut now = Known::of(resources);
                    if !whole {
                        now.keep(&known);
                    }
                    for change in known.changes(&now) {
                        if changes.send(change).await.is_err() {
                            return Ok(());
                        }
                    }
                    known = now;
                }
                Err(error) => tracing::error!("resources are not reloaded: {error:#}"),
            }
        }
    }
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

/// The documents of a file, one by one: a broken one does not take the others with it.
fn read(path: &Path) -> Result<Vec<Result<Resource, files::Error>>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(files::each_document(&path.display().to_string(), &text))
}

#[cfg(test)]
mod tests {
    use crds::Kind;

    use super::*;

    fn disk(directory: &Path) -> Disk {
        Disk {
            directories: vec![directory.to_owned()],
            configurations: vec![],
            namespace: String::new(),
            app_id: "app".to_owned(),
        }
    }

    fn write(directory: &Path, file: &str, name: &str, value: &str) {
        let text = format!(
            "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: {name}\nspec:\n  type: state.in-memory\n  version: v1\n  metadata:\n  - name: x\n    value: \"{value}\"\n"
        );
        fs::write(directory.join(file), text).unwrap();
    }

    #[test]
    fn files_are_read_in_order_and_others_are_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), "b.yaml", "second", "1");
        write(directory.path(), "a.yml", "first", "1");
        fs::write(directory.path().join("c.txt"), "kind: Component").unwrap();
        fs::write(directory.path().join("d.yaml"), "{broken").unwrap();
        let names: Vec<String> = disk(directory.path())
            .list()
            .unwrap()
            .components
            .iter()
            .map(|one| one.name().to_owned())
            .collect();
        assert_eq!(names, ["first", "second"]);
    }

    #[tokio::test]
    async fn edits_become_changes() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), "a.yaml", "a", "1");
        let (sender, mut changes) = mpsc::channel(4);
        let shutdown = CancellationToken::new();
        let watch =
            disk(directory.path()).watch(sender, Duration::from_millis(50), shutdown.clone());
        let edit = async {
            // The first list is taken before the first poll of the interval returns.
            tokio::task::yield_now().await;
            write(directory.path(), "a.yaml", "a", "2");
            let changed = changes.recv().await.unwrap();
            assert!(matches!(changed, Change::Component(one) if one.name() == "a"));
            fs::remove_file(directory.path().join("a.yaml")).unwrap();
            let gone = changes.recv().await.unwrap();
            assert!(matches!(gone, Change::ComponentGone(name) if name == "a"));
            shutdown.cancel();
        };
        let both = async { tokio::join!(watch, edit).0.unwrap() };
        tokio::time::timeout(Duration::from_secs(10), both)
            .await
            .unwrap();
    }
}
