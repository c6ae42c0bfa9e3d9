//! A sidecar with the components that are measured, and what stands around it: a Redis of its own, so that it meets nobody
//! else's keys and consumers, and maybe an app that is subscribed.

use std::fmt::Write as _;

use anyhow::{Context, Result};

use super::arrivals::Arrivals;
use super::binaries::Binary;
use super::echo::{DELIVER, Echo, Protocol};
use super::mesh::{self, Role, Sidecar};
use super::redis::Redis;

/// What a component is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Technology {
    Memory,
    Redis,
}

/// A sidecar in its surroundings; all of it stops when dropped.
pub(super) struct Site {
    pub label: String,
    // Before what it speaks to, or it would log that they are gone.
    pub sidecar: Sidecar,
    pub arrivals: Arrivals,
    redis: Option<Redis>,
    _app: Option<Echo>,
    _folder: tempfile::TempDir,
}

impl Technology {
    /// Second part of the type of components.
    pub fn name(self) -> &'static str {
        match self {
            Technology::Memory => "in-memory",
            Technology::Redis => "redis",
        }
    }

    /// Name of the state store.
    pub fn store(self) -> String {
        format!("state-{}", self.name())
    }

    /// Name of the pub/sub.
    pub fn pubsub(self) -> String {
        format!("pubsub-{}", self.name())
    }
}

impl Site {
    /// Starts a sidecar with a state store and a pub/sub of each technology. An app is subscribed to [`DELIVERED`] of each.
    pub fn start(
        binary: &Binary,
        technologies: &[Technology],
        app: Option<Protocol>,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("dapr-bench-").tempdir()?;
        let redis = technologies
            .contains(&Technology::Redis)
            .then(|| Redis::start(folder.path()))
            .transpose()?;
        let mut resources = String::new();
        for technology in technologies {
            component(&mut resources, "state", *technology, redis.as_ref())?;
            component(&mut resources, "pubsub", *technology, redis.as_ref())?;
            if app.is_some() {
                subscription(&mut resources, *technology)?;
            }
        }
        let path = folder.path().join(mesh::RESOURCES);
        std::fs::create_dir(&path)?;
        std::fs::write(path.join("resources.yaml"), resources)?;
        let arrivals = Arrivals::default();
        let app = app
            .map(|protocol| anyhow::Ok((Echo::start(protocol, &arrivals)?, protocol)))
            .transpose()?;
        let role = Role {
            app_id: "bench",
            app: app.as_ref().map(|(app, protocol)| (app.port(), *protocol)),
            sentry: None,
            placement: None,
            scheduler: None,
        };
        let sidecar = mesh::sidecar(binary, folder.path(), role)
            .with_context(|| format!("starting {}", binary.label))?;
        Ok(Site {
            label: binary.label.clone(),
            sidecar,
            arrivals,
            redis,
            _app: app.map(|(app, _)| app),
            _folder: folder,
        })
    }

    /// One for each binary.
    pub fn each(
        binaries: &[Binary],
        technologies: &[Technology],
        app: Option<Protocol>,
    ) -> Result<Vec<Self>> {
        binaries
            .iter()
            .map(|binary| Site::start(binary, technologies, app))
            .collect()
    }

    /// Port of its Redis.
    pub fn redis(&self) -> Result<u16> {
        let redis = self.redis.as_ref().context("the site has no Redis")?;
        Ok(redis.port)
    }
}

fn component(
    resources: &mut String,
    kind: &str,
    technology: Technology,
    redis: Option<&Redis>,
) -> Result<()> {
    let name = technology.name();
    let metadata = match redis.filter(|_| technology == Technology::Redis) {
        None => "[]".to_owned(),
        Some(redis) => {
            let host = format!("{{name: redisHost, value: '127.0.0.1:{}'}}", redis.port);
            let password = "{name: redisPassword, value: ''}";
            let length = match kind {
                "pubsub" => format!(", {{name: maxLenApprox, value: '{STREAM}'}}"),
                _ => String::new(),
            };
            format!("[{host}, {password}{length}]")
        }
    };
    writeln!(
        resources,
        "---\napiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: {kind}-{name}}}\n\
         spec: {{type: {kind}.{name}, version: v1, metadata: {metadata}}}"
    )?;
    Ok(())
}

fn subscription(resources: &mut String, technology: Technology) -> Result<()> {
    let pubsub = technology.pubsub();
    writeln!(
        resources,
        "---\napiVersion: dapr.io/v2alpha1\nkind: Subscription\nmetadata: {{name: to-{pubsub}}}\n\
         spec: {{pubsubname: {pubsub}, topic: {DELIVERED}, routes: {{default: {DELIVER}}}}}"
    )?;
    Ok(())
}

/// The topic with a subscriber.
pub(super) const DELIVERED: &str = "delivered";

/// Entries that a stream keeps: without a limit, the measure that publishes as fast as it can would fill the machine.
const STREAM: u32 = 10_000;
