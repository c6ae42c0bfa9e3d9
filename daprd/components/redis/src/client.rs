//! Requests to Redis, sent again where a connection broke, and its errors as those of a component. One connection carries
//! all requests at once; only reads that wait for messages get their own.

use std::{sync::Arc, time::Duration};

use component::{Error, ErrorKind, Result, Spawn};
use redis::{
    Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, ScriptInvocation, ServerErrorKind,
    Value,
    cluster_routing::{
        MultipleNodeRoutingInfo, ResponsePolicy, RoutingInfo, SingleNodeRoutingInfo,
    },
};
use tokio_util::sync::CancellationToken;
use values::Pauses;

use crate::{
    connection::{Connection, Shared},
    metadata::{Address, Settings, Topology},
    servers::Servers,
};

/// An open client. Cloning shares its connection.
#[derive(Clone)]
pub struct Client {
    servers: Arc<Servers>,
    shared: Arc<Shared>,
    watch: Option<Arc<Watch>>,
}

/// The task that follows changes. Ends with the last client.
struct Watch {
    end: CancellationToken,
    _owner: Arc<dyn Spawn>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

/// What can be sent.
#[derive(Clone, Copy)]
pub enum Request<'a> {
    /// One command.
    Command(&'a Cmd),
    /// Several at once.
    Pipeline(&'a Pipeline),
    /// A script, which the server keeps after the first call.
    Script(&'a ScriptInvocation<'a>),
    /// One command to a certain server of a cluster.
    At(&'a Cmd, &'a Address),
    /// One command to every server of a cluster that has keys; the answer is a map of their addresses.
    Everywhere(&'a Cmd),
}

impl<'a> From<&'a Cmd> for Request<'a> {
    fn from(command: &'a Cmd) -> Self {
        Self::Command(command)
    }
}

impl<'a> From<&'a mut Cmd> for Request<'a> {
    fn from(command: &'a mut Cmd) -> Self {
        Self::Command(command)
    }
}

impl Request<'_> {
    async fn send(self, mut connection: Connection) -> RedisResult<Value> {
        match self {
            Self::Command(command) => command.query_async(&mut connection).await,
            Self::Pipeline(pipeline) => pipeline.query_async(&mut connection).await,
            Self::Script(script) => script.invoke_async(&mut connection).await,
            Self::At(command, address) => {
                let node = SingleNodeRoutingInfo::ByAddress {
                    host: address.host.clone(),
                    port: address.port,
                };
                route(connection, command, RoutingInfo::SingleNode(node)).await
            }
            Self::Everywhere(command) => {
                let masters = MultipleNodeRoutingInfo::AllMasters;
                let map = Some(ResponsePolicy::Special);
                route(connection, command, RoutingInfo::MultiNode((masters, map))).await
            }
        }
    }
}

async fn route(connection: Connection, command: &Cmd, to: RoutingInfo) -> RedisResult<Value> {
    match connection {
        Connection::Cluster(mut connection) => connection.route_command(command.clone(), to).await,
        Connection::Single(mut connection) => command.query_async(&mut connection).await,
    }
}

impl Client {
    /// Connects, so that a wrong address or password is found now. Changes that sentinels make are followed by a task of the
    /// component `name`.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] or [`ErrorKind::Unauthorized`], naming the host.
    pub async fn open(settings: Settings, name: &str, tasks: &Arc<dyn Spawn>) -> Result<Self> {
        let servers = Arc::new(Servers::new(settings));
        let client = Self {
            shared: Arc::new(Shared::new(Arc::clone(&servers))),
            watch: (servers.settings().topology == Topology::Sentinel)
                .then(|| watch(&servers, name, tasks)),
            servers,
        };
        client.ping().await?;
        Ok(client)
    }

    /// Another connection to the same servers, for requests that would keep those of others waiting. It is made when it is
    /// needed first.
    pub fn beside(&self) -> Self {
        Self {
            shared: Arc::new(Shared::new(Arc::clone(&self.servers))),
            ..self.clone()
        }
    }

    /// What it was opened with.
    pub fn settings(&self) -> &Settings {
        self.servers.settings()
    }

    /// Ends what runs beside requests; changes are noticed late from now on.
    pub fn close(&self) {
        if let Some(watch) = &self.watch {
            watch.end.cancel();
        }
    }

    /// Whether the server answers.
    ///
    /// # Errors
    /// As [`Client::open`].
    pub async fn ping(&self) -> Result<()> {
        let ping = redis::cmd("PING");
        let answer: RedisResult<Value> = self.query(&ping).await;
        let host = &self.settings().host;
        answer
            .map(drop)
            .map_err(|error| failure(&format!("error connecting to redis at {host}"), error))
    }

    /// Sends a request, again where the connection failed.
    ///
    /// # Errors
    /// The last one.
    pub async fn query<'a, T: FromRedisValue>(
        &self,
        request: impl Into<Request<'a>>,
    ) -> RedisResult<T> {
        let answer = self.retry(request.into()).await?;
        Ok(redis::from_redis_value(answer)?)
    }

    async fn retry(&self, request: Request<'_>) -> RedisResult<Value> {
        let settings = self.settings();
        let mut pauses = Pauses::doubling(settings.min_retry_interval, settings.max_retry_interval);
        let mut attempt = 0;
        loop {
            let error = match self.shared.connection().await {
                Ok((number, connection)) => match request.send(connection).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => {
                        if self.is_lost(&error) {
                            self.shared.forget(number);
                        }
                        error
                    }
                },
                Err(error) => error,
            };
            if !is_passing(&error) || attempt >= settings.max_retries {
                return Err(error);
            }
            attempt += 1;
            // A connection that broke while nobody used it is no reason to wait.
            if attempt > 1 || !error.is_connection_dropped() {
                tokio::time::sleep(pauses.pause()).await;
            }
        }
    }

    /// Whether the next request needs another connection. One that is silent may lead to a server that is gone, and one
    /// that does not write any more to a server that is not in charge any more. Connections of a cluster find another
    /// server by themselves, but not one that takes over from a silent one.
    fn is_lost(&self, error: &RedisError) -> bool {
        match self.settings().topology {
            Topology::Cluster => error.is_timeout(),
            Topology::Node | Topology::Sentinel => {
                error.is_timeout() || error.is_unrecoverable_error() || is_passing(error)
            }
        }
    }

    /// How often another server has been put in charge, so that whoever has a connection of its own knows when to leave it.
    pub fn changes(&self) -> u64 {
        self.servers.changes()
    }

    /// The server that sentinels have put in charge.
    ///
    /// # Errors
    /// Where no sentinel names one.
    pub async fn in_charge(&self) -> RedisResult<Address> {
        self.servers.in_charge().await
    }

    /// A connection of its own, for commands that wait; an answer may take as long as `patience`.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub async fn dedicated(&self, patience: Duration) -> RedisResult<Connection> {
        self.servers.connect(Some(patience)).await
    }
}

fn watch(servers: &Arc<Servers>, name: &str, tasks: &Arc<dyn Spawn>) -> Arc<Watch> {
    let end = CancellationToken::new();
    let (servers, ended) = (Arc::clone(servers), end.clone());
    let watch = async move {
        ended.run_until_cancelled(servers.watch()).await;
    };
    tasks.spawn(name, Box::pin(watch));
    Arc::new(Watch {
        end,
        _owner: Arc::clone(tasks),
    })
}

/// Whether the same request may succeed on a new connection. One that was not answered in time may have been carried out,
/// so it is not sent again. Q-redis-timeouts
pub fn is_passing(error: &RedisError) -> bool {
    use redis::ErrorKind::{ClusterConnectionNotFound, Io, Server};
    match error.kind() {
        Io => !error.is_timeout(),
        ClusterConnectionNotFound => true,
        // Servers before Redis 7 wrap what ends a script.
        Server(ServerErrorKind::ResponseError) => error
            .detail()
            .is_some_and(|detail| detail.contains("-READONLY ")),
        Server(kind) => matches!(
            kind,
            ServerErrorKind::BusyLoading
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
        ),
        _ => false,
    }
}

/// An error of the server or of the connection as one of the component.
pub fn failure(what: &str, error: RedisError) -> Error {
    let kind = match error.kind() {
        redis::ErrorKind::AuthenticationFailed
        | redis::ErrorKind::Server(ServerErrorKind::NoPerm) => ErrorKind::Unauthorized,
        redis::ErrorKind::InvalidClientConfig | redis::ErrorKind::EmptySentinelList => {
            ErrorKind::InvalidMetadata
        }
        redis::ErrorKind::Io | redis::ErrorKind::MasterNameNotFoundBySentinel => {
            ErrorKind::Unavailable
        }
        _ if matches!(error.code(), Some("NOAUTH" | "WRONGPASS")) => ErrorKind::Unauthorized,
        _ if is_passing(&error) => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    };
    // As text, for its own cause says the same again.
    Error::new(kind, what).with_source(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_servers_tell_in_other_words_that_they_do_not_write() {
        let error = |detail: &str| {
            let kind = redis::ErrorKind::Server(ServerErrorKind::ResponseError);
            RedisError::from((kind, "an error", detail.to_owned()))
        };
        let older = "Error running script (call to f_1): @user_script:29: @user_script: 29: \
                     -READONLY You can't write against a read only replica.";
        assert!(is_passing(&error(older)));
        assert!(!is_passing(&error("wrong number of arguments")));
    }
}
