//! What the bench of workflows runs in: a sidecar with its own placement, scheduler and store.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use workflow_worker::TaskHub;

use super::load;
use crate::bench::binaries::Binary;
use crate::bench::mesh::{self, Role};
use crate::bench::redis::Redis;

/// What keeps the state.
#[derive(Clone, Copy)]
pub enum Store {
    Sqlite,
    Redis,
}

impl Store {
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Redis => "Redis",
        }
    }
}

/// A sidecar with all that it needs; gone when dropped.
pub struct Site {
    pub sidecar: mesh::Sidecar,
    _around: (
        mesh::Placement,
        mesh::Scheduler,
        Option<Redis>,
        tempfile::TempDir,
    ),
}

impl Site {
    pub fn start(binaries: [&Binary; 3], store: Store, fast_path: bool) -> Result<Self> {
        let [daprd, placement, scheduler] = binaries;
        let folder = tempfile::Builder::new().prefix("dapr-bench-").tempdir()?;
        let placement = mesh::placement(placement, folder.path(), None)?;
        let scheduler = mesh::scheduler(scheduler, folder.path())?;
        let redis = match store {
            Store::Redis => Some(Redis::start(folder.path())?),
            Store::Sqlite => None,
        };
        resources(folder.path(), redis.as_ref(), fast_path)?;
        let role = Role {
            app_id: "bench",
            app: None,
            sentry: None,
            placement: Some(&placement),
            scheduler: Some(&scheduler),
        };
        let sidecar = mesh::sidecar(daprd, folder.path(), role)?;
        Ok(Self {
            sidecar,
            _around: (placement, scheduler, redis, folder),
        })
    }

    /// The first workflow runs once placement and the scheduler know the sidecar.
    pub async fn reach(&self, hub: &TaskHub) -> Result<()> {
        let began = Instant::now();
        loop {
            let tried = tokio::time::timeout(READY, load::one(hub, "short")).await;
            match tried {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(_)) if began.elapsed() < READY => tokio::time::sleep(PAUSE).await,
                Ok(Err(error)) => return Err(error.context("no workflow ends")),
                Err(_) => anyhow::bail!("no workflow ends within {READY:?}"),
            }
        }
    }
}

/// The store, and the features that are asked for.
fn resources(folder: &Path, redis: Option<&Redis>, fast_path: bool) -> Result<()> {
    let resources = folder.join(mesh::RESOURCES);
    std::fs::create_dir_all(&resources)?;
    let (kind, name, value) = match redis {
        Some(redis) => (
            "state.redis",
            "redisHost",
            format!("127.0.0.1:{}", redis.port),
        ),
        None => (
            "state.sqlite",
            "connectionString",
            folder.join("state.db").display().to_string(),
        ),
    };
    let store = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: state}}\nspec:\n  type: {kind}\n  version: v1\n  \
         metadata: [{{name: {name}, value: '{value}'}}, {{name: busyTimeout, value: 10s}}, {{name: actorStateStore, value: 'true'}}]\n"
    );
    std::fs::write(resources.join("state.yaml"), store)?;
    let features = match fast_path {
        true => "[{name: WorkflowsFastPath, enabled: true}]",
        false => "[]",
    };
    let configuration = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {{name: bench}}\nspec: {{features: {features}}}\n"
    );
    std::fs::write(folder.join(mesh::CONFIGURATION), configuration)?;
    Ok(())
}

/// How long it may take until the first workflow has ended.
const READY: Duration = Duration::from_secs(60);

const PAUSE: Duration = Duration::from_millis(50);
