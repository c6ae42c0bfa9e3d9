//! The servers that are asked for: connected until they answer, forgotten when nobody asks for them any more.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use blocks::Tasks;
use component::{Lent, Spawn};
use crds::{Kind, McpServer};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use workflow::Workers;

use crate::{
    Values,
    server::{Parts, Server, State},
    validate::{self, Place},
    worker::Worker,
};

/// What servers are reached with.
pub struct Options {
    /// Where work items come from.
    pub workers: Workers,
    pub values: Arc<dyn Values>,
    pub lent: Lent,
    pub spawn: Arc<dyn Spawn>,
    /// Largest message of a server, in bytes.
    pub max_message: usize,
    /// Whether resources come from a cluster, where no programs are started.
    pub kubernetes: bool,
    /// The directory of the sidecar, which relative commands stay in.
    pub directory: PathBuf,
    /// Whether there are actors. Without them nobody can call a tool, so servers are not connected.
    pub actors: bool,
}

/// The MCP servers of a sidecar. Clones share them.
#[derive(Clone)]
pub struct Servers(Arc<Inner>);

pub(crate) struct Inner {
    workers: Workers,
    kubernetes: bool,
    directory: PathBuf,
    actors: bool,
    parts: Arc<Parts>,
    servers: Mutex<BTreeMap<String, Arc<Server>>>,
    pub closed: CancellationToken,
}

/// A server that is asked for and cannot be had, and whose resource does not say that this is to be ignored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("process MCPServer {name} error: {problem}")]
pub struct Failed {
    name: String,
    problem: String,
}

impl Servers {
    /// None yet; they take the work items of `options.workers` from now on.
    pub fn new(options: Options) -> Self {
        let inner = Arc::new(Inner {
            workers: options.workers.clone(),
            kubernetes: options.kubernetes,
            directory: options.directory,
            actors: options.actors,
            parts: Arc::new(Parts {
                values: options.values,
                lent: options.lent,
                tasks: Tasks::new(options.spawn),
                max_message: options.max_message,
            }),
            servers: Mutex::default(),
            closed: CancellationToken::new(),
        });
        let worker = Worker(Arc::downgrade(&inner));
        options.workers.serve_in_process(Arc::new(worker));
        Self(inner)
    }

    /// The names of those that are asked for and may be.
    pub fn names(&self) -> Vec<String> {
        self.0.servers.lock().keys().cloned().collect()
    }

    /// A server is asked for, new or changed. What is answered waits until it is connected, and is an error where that has
    /// failed; a server whose errors are to be ignored is waited for once, and tried again behind.
    pub fn apply(
        &self,
        resource: McpServer,
    ) -> impl Future<Output = Result<(), Failed>> + Send + use<> {
        let begun = self.0.begin(resource.clone());
        let inner = Arc::clone(&self.0);
        async move {
            let outcome = match begun {
                Ok(server) => inner.settled(&server).await,
                Err(problem) => Err(problem),
            };
            inner.tell();
            outcome.or_else(|problem| failed(&resource, problem))
        }
    }

    /// A server is asked for no more.
    pub fn remove(&self, name: &str) {
        let gone = self.0.servers.lock().remove(name);
        if let Some(server) = gone {
            tracing::info!("MCPServer deleted via hot-reload: {}", server.log_name());
            self.0.leave(server);
            self.0.tell();
        }
    }

    /// Ends everything with `shutdown`. What is under way then has no result.
    pub async fn run(self, shutdown: CancellationToken) {
        shutdown.cancelled().await;
        self.0.closed.cancel();
        let servers = std::mem::take(&mut *self.0.servers.lock());
        let closing = servers.into_values().map(|server| async move {
            server.end.cancel();
            server.close().await;
        });
        futures::future::join_all(closing).await;
    }
}

impl Inner {
    /// The server that something is about.
    pub fn find<T>(
        &self,
        read: impl for<'k> FnOnce(
            std::collections::btree_map::Keys<'k, String, Arc<Server>>,
        ) -> Option<(&'k String, T)>,
    ) -> Option<(Arc<Server>, T)> {
        let servers = self.servers.lock();
        let (name, meant) = read(servers.keys())?;
        Some((Arc::clone(servers.get(name)?), meant))
    }

    fn begin(self: &Arc<Self>, resource: McpServer) -> Result<Arc<Server>, String> {
        let mut servers = self.servers.lock();
        if let Some(before) = servers.remove(resource.name()) {
            tracing::info!(
                "Closing existing MCPServer to reload: {}",
                before.log_name()
            );
            self.leave(before);
        }
        let place = Place {
            kubernetes: self.kubernetes,
            directory: &self.directory,
        };
        validate::check(&resource, place)?;
        let server = Arc::new(Server::new(resource, Arc::clone(&self.parts)));
        tracing::info!("MCPServer loaded: {}", server.log_name());
        servers.insert(server.name().to_owned(), Arc::clone(&server));
        drop(servers);
        if self.actors {
            let keeping = keep(Arc::clone(&server), Arc::downgrade(self));
            self.parts.tasks.spawn("MCP server", keeping);
        }
        Ok(server)
    }

    async fn settled(&self, server: &Server) -> Result<(), String> {
        if !self.actors {
            return Ok(());
        }
        let most = match server.resource.spec.ignore_errors {
            true => 1,
            false => ATTEMPTS,
        };
        let mut state = server.state();
        let settled = state.wait_for(|state| match state {
            State::Connecting => false,
            State::Unreachable { attempts, .. } => *attempts >= most,
            State::Ready(_) => true,
        });
        let settled = tokio::select! {
            () = server.end.cancelled() => return Ok(()),
            () = self.closed.cancelled() => return Ok(()),
            settled = settled => settled.map(|state| state.clone()),
        };
        match settled {
            Ok(State::Unreachable { reason, .. }) => {
                let name = server.name();
                Err(format!(
                    "MCPServer {name:?}: failed to register workflows: {reason}"
                ))
            }
            _ => Ok(()),
        }
    }

    /// Ends a server that is asked for no more.
    fn leave(&self, server: Arc<Server>) {
        server.end.cancel();
        let closing = async move { server.close().await };
        self.parts.tasks.spawn("MCP server", closing);
    }

    /// Tells whether there is anything that work items can be for.
    fn tell(&self) {
        let servers = self.servers.lock();
        let mut states = servers.values().map(|server| server.state());
        let any = states.any(|state| matches!(*state.borrow(), State::Ready(_)));
        self.workers.set_in_process(any);
    }
}

/// Connects until the server is there, or is asked for no more. Q-mcp-retry
async fn keep(server: Arc<Server>, servers: Weak<Inner>) {
    let connecting = async {
        let mut attempt = 0;
        while let Err(error) = server.connect().await {
            let pause = pause(attempt);
            attempt += 1;
            tracing::warn!(
                "MCPServer {:?} is not connected: {error}; the next attempt is in {:.1}s",
                server.name(),
                pause.as_secs_f64()
            );
            tokio::time::sleep(pause).await;
        }
        if let Some(servers) = servers.upgrade() {
            servers.tell();
        }
    };
    server.end.run_until_cancelled(connecting).await;
}

/// Twice as long each time, and never quite as long for two sidecars.
fn pause(attempt: u32) -> Duration {
    let whole = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(attempt));
    whole
        .min(LONGEST_PAUSE)
        .mul_f64(0.75 + fastrand::f64() / 4.0)
}

/// The contract's rule: an error ends the sidecar, unless the resource says that it is to be ignored.
fn failed(resource: &McpServer, problem: String) -> Result<(), Failed> {
    let name = resource.name().to_owned();
    let failed = Failed { name, problem };
    if resource.spec.ignore_errors {
        tracing::error!("Ignoring error processing MCPServer: {failed}");
        return Ok(());
    }
    tracing::warn!("Error processing MCPServer, daprd will exit gracefully: {failed}");
    Err(failed)
}

/// How often a server is tried before its resource has failed.
const ATTEMPTS: u32 = 4;

/// Between attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
