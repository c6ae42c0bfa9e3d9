//! Connections to Redis: a single server, a cluster, or whichever server the sentinels name. One connection carries all
//! requests at once; only reads that wait for messages get their own.

use std::{sync::Arc, time::Duration};

use component::{Error, ErrorKind, Result};
use redis::{
    AsyncConnectionConfig, ClientTlsConfig, Cmd, ConnectionAddr, ConnectionInfo, FromRedisValue,
    IntoConnectionInfo, Pipeline, RedisConnectionInfo, RedisError, RedisFuture, RedisResult,
    ScriptInvocation, ServerErrorKind, TlsCertificates, TlsMode, Value,
    aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig, MultiplexedConnection},
    cluster::{ClusterClient, ClusterClientBuilder},
    cluster_async::ClusterConnection,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use tokio::sync::Mutex;

use crate::metadata::{Address, Settings, Topology};

/// An open client. Cloning shares its connection.
#[derive(Clone)]
pub struct Client {
    settings: Arc<Settings>,
    link: Link,
}

#[derive(Clone)]
enum Link {
    Node(Box<redis::Client>, ConnectionManager),
    Cluster(Box<ClusterClient>, ClusterConnection),
    Sentinel(Arc<Mutex<Elected>>),
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
        }
    }
}

/// The server that the sentinels named last.
struct Elected {
    sentinels: SentinelClient,
    connection: Option<MultiplexedConnection>,
}

/// A connection of any kind.
#[derive(Clone)]
pub enum Connection {
    /// Reconnects by itself.
    Node(ConnectionManager),
    /// Ends with the server.
    Single(MultiplexedConnection),
    /// Finds the server of each key.
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Node(connection) => connection.req_packed_command(command),
            Self::Single(connection) => connection.req_packed_command(command),
            Self::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Node(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Single(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Node(connection) => connection.get_db(),
            Self::Single(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

impl Client {
    /// Connects, so that a wrong address or password is found now.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] or [`ErrorKind::Unauthorized`], naming the host.
    pub async fn open(settings: Settings) -> Result<Self> {
        let failed = |error| {
            let host = &settings.host;
            failure(&format!("error connecting to redis at {host}"), error)
        };
        let link = match settings.topology {
            Topology::Node => node(&settings).await,
            Topology::Cluster => cluster(&settings).await,
            Topology::Sentinel => sentinel(&settings),
        };
        let client = Self {
            link: link.map_err(failed)?,
            settings: Arc::new(settings.clone()),
        };
        client.ping().await?;
        Ok(client)
    }

    /// What it was opened with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether the server answers.
    ///
    /// # Errors
    /// As [`Client::open`].
    pub async fn ping(&self) -> Result<()> {
        let ping = redis::cmd("PING");
        let answer: RedisResult<Value> = self.query(&ping).await;
        let host = &self.settings.host;
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
        let mut pause = self.settings.min_retry_interval;
        let mut attempt = 0;
        loop {
            let error = match self.connection().await {
                Ok(connection) => match request.send(connection).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if !is_passing(&error) || attempt >= self.settings.max_retries {
                return Err(error);
            }
            self.forget().await;
            attempt += 1;
            tokio::time::sleep(pause).await;
            pause = pause
                .saturating_mul(2)
                .min(self.settings.max_retry_interval);
        }
    }

    /// A connection of its own, for commands that wait; answers may take as long as they like.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub async fn dedicated(&self) -> RedisResult<Connection> {
        let patient = AsyncConnectionConfig::new()
            .set_connection_timeout(self.settings.dial_timeout)
            .set_response_timeout(None);
        match &self.link {
            Link::Node(client, _) => client
                .get_multiplexed_async_connection_with_config(&patient)
                .await
                .map(Connection::Single),
            Link::Cluster(client, _) => {
                client.get_async_connection().await.map(Connection::Cluster)
            }
            Link::Sentinel(elected) => elected
                .lock()
                .await
                .sentinels
                .get_async_connection_with_config(&patient)
                .await
                .map(Connection::Single),
        }
    }

    async fn connection(&self) -> RedisResult<Connection> {
        match &self.link {
            Link::Node(_, connection) => Ok(Connection::Node(connection.clone())),
            Link::Cluster(_, connection) => Ok(Connection::Cluster(connection.clone())),
            Link::Sentinel(elected) => {
                let mut elected = elected.lock().await;
                if let Some(connection) = &elected.connection {
                    return Ok(Connection::Single(connection.clone()));
                }
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(self.settings.dial_timeout)
                    .set_response_timeout(self.settings.read_timeout);
                let connection = elected
                    .sentinels
                    .get_async_connection_with_config(&config)
                    .await?;
                elected.connection = Some(connection.clone());
                Ok(Connection::Single(connection))
            }
        }
    }

    /// The sentinels may name another server now; the other kinds of connection mend themselves.
    async fn forget(&self) {
        if let Link::Sentinel(elected) = &self.link {
            elected.lock().await.connection = None;
        }
    }
}

fn certificates(settings: &Settings) -> TlsCertificates {
    let identity = settings.tls.as_ref().and_then(|tls| tls.identity.as_ref());
    TlsCertificates {
        client_tls: identity.map(|(certificate, key)| ClientTlsConfig {
            client_cert: certificate.clone().into_bytes(),
            client_key: key.clone().into_bytes(),
        }),
        root_cert: None,
    }
}

fn location(address: &Address, settings: &Settings) -> ConnectionAddr {
    match &settings.tls {
        None => ConnectionAddr::Tcp(address.host.clone(), address.port),
        Some(tls) => ConnectionAddr::TcpTls {
            host: address.host.clone(),
            port: address.port,
            insecure: tls.insecure,
            tls_params: None,
        },
    }
}

fn target(address: &Address, settings: &Settings) -> RedisResult<ConnectionInfo> {
    let mut login = RedisConnectionInfo::default().set_db(settings.database);
    if let Some(username) = &settings.credentials.username {
        login = login.set_username(username);
    }
    if let Some(password) = &settings.credentials.password {
        login = login.set_password(password);
    }
    let target = location(address, settings).into_connection_info()?;
    Ok(target.set_redis_settings(login))
}

async fn node(settings: &Settings) -> RedisResult<Link> {
    let target = target(&settings.addresses[0], settings)?;
    let client = match &settings.tls {
        Some(_) => redis::Client::build_with_tls(target, certificates(settings))?,
        None => redis::Client::open(target)?,
    };
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(settings.dial_timeout)
        .set_response_timeout(settings.read_timeout)
        .set_number_of_retries(settings.max_retries as usize)
        .set_min_delay(settings.min_retry_interval)
        .set_max_delay(settings.max_retry_interval);
    let connection = ConnectionManager::new_with_config(client.clone(), config).await?;
    Ok(Link::Node(Box::new(client), connection))
}

async fn cluster(settings: &Settings) -> RedisResult<Link> {
    let nodes = settings
        .addresses
        .iter()
        .map(|address| location(address, settings));
    let mut builder = ClusterClientBuilder::new(nodes).retries(settings.max_retries);
    if let Some(timeout) = settings.dial_timeout {
        builder = builder.connection_timeout(timeout);
    }
    // Also the limit of a read that waits for messages, which is shorter than this.
    let patience = settings.read_timeout.unwrap_or(Duration::MAX);
    builder = builder.response_timeout(patience.max(CLUSTER_PATIENCE));
    if let Some(username) = &settings.credentials.username {
        builder = builder.username(username);
    }
    if let Some(password) = &settings.credentials.password {
        builder = builder.password(password);
    }
    if let Some(tls) = &settings.tls {
        let mode = match tls.insecure {
            true => TlsMode::Insecure,
            false => TlsMode::Secure,
        };
        builder = builder.tls(mode).certs(certificates(settings));
    }
    let client = builder.build()?;
    let connection = client.get_async_connection().await?;
    Ok(Link::Cluster(Box::new(client), connection))
}

/// Shortest limit for an answer of a cluster, whose connections have no settings of their own.
const CLUSTER_PATIENCE: Duration = Duration::from_secs(5);

fn sentinel(settings: &Settings) -> RedisResult<Link> {
    let addresses = settings
        .addresses
        .iter()
        .map(|address| location(address, settings));
    let mut builder =
        SentinelClientBuilder::new(addresses, &settings.master_name, SentinelServerType::Master)?
            .set_client_to_redis_db(settings.database);
    if let Some(username) = &settings.credentials.username {
        builder = builder.set_client_to_redis_username(username);
    }
    if let Some(password) = &settings.credentials.password {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(username) = &settings.sentinel_credentials.username {
        builder = builder.set_client_to_sentinel_username(username);
    }
    if let Some(password) = &settings.sentinel_credentials.password {
        builder = builder.set_client_to_sentinel_password(password);
    }
    if let Some(tls) = &settings.tls {
        let mode = match tls.insecure {
            true => TlsMode::Insecure,
            false => TlsMode::Secure,
        };
        builder = builder
            .set_client_to_redis_tls_mode(mode)
            .set_client_to_redis_certificates(certificates(settings))
            .set_client_to_sentinel_tls_mode(mode)
            .set_client_to_sentinel_certificates(certificates(settings));
    }
    Ok(Link::Sentinel(Arc::new(Mutex::new(Elected {
        sentinels: builder.build()?,
        connection: None,
    }))))
}

/// Whether the same request may succeed on a new connection. One that was not answered in time may have been carried out,
/// so it is not sent again. Q-redis-timeouts
fn is_passing(error: &RedisError) -> bool {
    use redis::ErrorKind::{ClusterConnectionNotFound, Io, Server};
    match error.kind() {
        Io => !error.is_timeout(),
        ClusterConnectionNotFound => true,
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
    Error::new(kind, what).with_source(error)
}
