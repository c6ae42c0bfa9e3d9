//! The installation that the tests share: made by the first that needs it, kept until `e2e/cluster/suite` ends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::kube::{apply, helm, took};

/// Where the control plane is installed.
pub const SYSTEM: &str = "dapr-system";

static INSTALLED: OnceCell<Images> = OnceCell::const_new();

/// Held for reading by a test that needs the control plane, for writing by one that disturbs it.
static CONTROL_PLANE: RwLock<()> = RwLock::const_new(());

/// The ids of the images under test, by name.
pub struct Images(BTreeMap<String, String>);

impl Images {
    pub fn id(&self, image: &str) -> Option<&str> {
        self.0.get(image).map(String::as_str)
    }

    /// The full name of an image of ours.
    pub fn name(&self, program: &str) -> &str {
        self.find(program)
            .unwrap_or_else(|| panic!("no image of {program} in images.json"))
    }

    fn find(&self, program: &str) -> Option<&str> {
        let last = |image: &&String| {
            image
                .rsplit('/')
                .next()
                .is_some_and(|last| last.starts_with(&format!("{program}:")))
        };
        self.0.keys().find(last).map(String::as_str)
    }

    /// Values by which schedulers have a member of an etcd beside them, where there is an image of one.
    pub fn members(&self) -> Option<Vec<String>> {
        let image = self.find("sample-etcd")?;
        let values = [
            format!("dapr_scheduler.etcd.image.name={image}"),
            "dapr_scheduler.etcd.command={/etcd}".to_owned(),
            "dapr_scheduler.cluster.folder=members".to_owned(),
        ];
        let set = values
            .into_iter()
            .flat_map(|value| ["--set".to_owned(), value]);
        Some(set.collect())
    }

    fn read() -> Self {
        let folder = std::env::var("DAPR_IMAGES")
            .expect("DAPR_IMAGES names the folder of `make images`; see e2e/cluster/suite");
        let path = Path::new(&folder).join("images.json");
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
        let index: BTreeMap<String, Value> = serde_json::from_str(&text).expect("images.json");
        let id = |entry: Value| entry["id"].as_str().expect("id in images.json").to_owned();
        Self(
            index
                .into_iter()
                .map(|(name, entry)| (name, id(entry)))
                .collect(),
        )
    }
}

/// The control plane, installed; it stays as it is while the guard is held.
pub async fn control_plane() -> (&'static Images, RwLockReadGuard<'static, ()>) {
    let images = INSTALLED.get_or_init(first).await;
    (images, CONTROL_PLANE.read().await)
}

/// The control plane for the caller alone.
pub async fn control_plane_alone() -> (&'static Images, RwLockWriteGuard<'static, ()>) {
    let images = INSTALLED.get_or_init(first).await;
    (images, CONTROL_PLANE.write().await)
}

async fn first() -> Images {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok();
    let images = Images::read();
    let began = Instant::now();
    install().await;
    took("helm install --wait", began);
    images
}

/// Installs the chart with its defaults, into a namespace that admits `restricted` pods only.
pub async fn install() {
    install_with(SYSTEM, &[]).await;
}

/// Installs the chart, or changes what is installed in the namespace, and waits until all of it is ready.
pub async fn install_with(namespace: &str, more: &[&str]) {
    apply(&restricted(namespace).to_string()).await;
    let chart = chart();
    let args = ["upgrade", "--install", "dapr", &chart, "-n", namespace];
    // without any values, Helm would take those of the last release
    let options = ["--reset-values", "--wait", "--timeout", "180s"];
    helm(&[&args[..], &options, more].concat()).await;
}

/// Takes the release out of a namespace.
pub async fn uninstall(namespace: &str) {
    let options = ["-n", namespace, "--wait", "--timeout", "180s"];
    helm(&[&["uninstall", "dapr"][..], &options].concat()).await;
}

/// A namespace that admits `restricted` pods only.
pub fn restricted(name: &str) -> Value {
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": { "name": name, "labels": {
            "pod-security.kubernetes.io/enforce": "restricted",
            "pod-security.kubernetes.io/warn": "restricted",
        }},
    })
}

/// The chart's folder.
pub fn chart() -> String {
    let path = repository().join("charts/dapr");
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
