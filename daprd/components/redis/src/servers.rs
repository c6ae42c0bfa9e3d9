//! The servers as configured: a single one, a cluster, or those that sentinels watch, and how a connection to them is made.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use futures::future::join_all;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo,
    IntoConnectionInfo, RedisConnectionInfo, RedisError, RedisResult, TlsCertificates, TlsMode,
    aio::{MultiplexedConnection, PubSub, PubSubStream},
    cluster::{ClusterClient, ClusterClientBuilder},
    io::tcp::TcpSettings,
};

use crate::{
    connection::Connection,
    metadata::{Address, Credentials, Settings, Topology},
    sentinel::Sentinels,
};

/// Redirections that one request follows in a cluster, whatever is configured for retries.
const REDIRECTIONS: u32 = 3;

/// How much longer than a request of a cluster the wait for one of its servers may take: the request has to give up first,
/// for what was not answered in time would be sent again. Q-redis-timeouts
const CLUSTER_GRACE: Duration = Duration::from_secs(1);

/// How to reach them.
pub struct Servers {
    settings: Settings,
    sentinels: Sentinels,
    /// How often another server has been put in charge.
    changes: AtomicU64,
}

impl Servers {
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            sentinels: Sentinels::default(),
            changes: AtomicU64::new(0),
        }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Makes a connection on which every answer comes within `patience`, or is an error; nothing for any time.
    pub async fn connect(&self, patience: Option<Duration>) -> RedisResult<Connection> {
        let settings = &self.settings;
        match settings.topology {
            Topology::Node => single(&settings.addresses[0], settings, patience)
                .await
                .map(Connection::Single),
            Topology::Sentinel => self
                .sentinels
                .master(settings, patience)
                .await
                .map(Connection::Single),
            Topology::Cluster => match cluster(settings, patience)?.get_async_connection().await {
                Ok(connection) => Ok(Connection::Cluster(connection)),
                Err(error) => Err(cause(error, settings).await),
            },
        }
    }

    /// The server that sentinels have put in charge.
    pub async fn in_charge(&self) -> RedisResult<Address> {
        self.sentinels.in_charge(&self.settings).await
    }

    /// Counts how often sentinels put another server in charge. Does not end.
    pub async fn watch(&self) {
        let changed = || {
            self.changes.fetch_add(1, Ordering::Relaxed);
        };
        self.sentinels.watch(&self.settings, changed).await;
    }

    /// How often that has happened: a connection that was made before leads to the wrong server.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }
}

/// A connection to a server of the data.
pub async fn single(
    address: &Address,
    settings: &Settings,
    patience: Option<Duration>,
) -> RedisResult<MultiplexedConnection> {
    let login = login(&settings.credentials).set_db(settings.database);
    reach(address, login, settings, patience).await
}

/// A connection to a sentinel.
pub async fn sentinel(
    address: &Address,
    settings: &Settings,
) -> RedisResult<MultiplexedConnection> {
    let login = login(&settings.sentinel_credentials);
    reach(address, login, settings, settings.read_timeout).await
}

/// What a sentinel tells on a channel from now on.
pub async fn listen(
    address: &Address,
    settings: &Settings,
    channel: &str,
) -> RedisResult<PubSubStream> {
    let login = login(&settings.sentinel_credentials);
    let begin = async {
        let mut connection = open_subscriber(address, login, settings).await?;
        connection.subscribe(channel).await?;
        RedisResult::Ok(connection.into_on_message())
    };
    within(settings.dial_timeout, begin).await
}

/// A connection to a server of the data that only listens.
pub async fn subscriber(address: &Address, settings: &Settings) -> RedisResult<PubSub> {
    let login = login(&settings.credentials);
    within(
        settings.dial_timeout,
        open_subscriber(address, login, settings),
    )
    .await
}

async fn open_subscriber(
    address: &Address,
    login: RedisConnectionInfo,
    settings: &Settings,
) -> RedisResult<PubSub> {
    client(address, login, settings)?.get_async_pubsub().await
}

async fn within<T>(
    limit: Option<Duration>,
    begin: impl Future<Output = RedisResult<T>>,
) -> RedisResult<T> {
    tokio::time::timeout(limit.unwrap_or(Duration::MAX), begin)
        .await
        .map_err(std::io::Error::from)?
}

async fn reach(
    address: &Address,
    login: RedisConnectionInfo,
    settings: &Settings,
    patience: Option<Duration>,
) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(settings.dial_timeout)
        .set_response_timeout(patience);
    client(address, login, settings)?
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

fn client(
    address: &Address,
    login: RedisConnectionInfo,
    settings: &Settings,
) -> RedisResult<Client> {
    let target = target(address, settings)?.set_redis_settings(login);
    match &settings.tls {
        Some(_) => Client::build_with_tls(target, certificates(settings)),
        None => Client::open(target),
    }
}

fn login(credentials: &Credentials) -> RedisConnectionInfo {
    let mut login = RedisConnectionInfo::default();
    if let Some(username) = &credentials.username {
        login = login.set_username(username);
    }
    if let Some(password) = &credentials.password {
        login = login.set_password(password);
    }
    login
}

fn target(address: &Address, settings: &Settings) -> RedisResult<ConnectionInfo> {
    let target = location(address, settings).into_connection_info()?;
    Ok(target.set_tcp_settings(tcp()))
}

/// Requests are small and share a connection: none of them must wait for the answer to another.
fn tcp() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
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

/// The authorities are those that the system trusts, as upstream has it.
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

fn cluster(settings: &Settings, patience: Option<Duration>) -> RedisResult<ClusterClient> {
    let nodes = settings
        .addresses
        .iter()
        .map(|address| location(address, settings));
    let milliseconds = |pause: Duration| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
    let mut builder = ClusterClientBuilder::new(nodes)
        .retries(settings.max_retries.max(REDIRECTIONS))
        .min_retry_wait(milliseconds(settings.min_retry_interval))
        .max_retry_wait(milliseconds(settings.max_retry_interval))
        .connection_timeout(settings.dial_timeout.unwrap_or(Duration::MAX))
        .overall_response_timeout(patience)
        .tcp_settings(tcp());
    if let Some(patience) = patience {
        builder = builder.response_timeout(patience.saturating_add(CLUSTER_GRACE));
    }
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
    builder.build()
}

/// A cluster's connection calls every failure one of the network; the same server tells the reason to one of its own.
async fn cause(error: RedisError, settings: &Settings) -> RedisError {
    let login = login(&settings.credentials);
    let attempts = settings
        .addresses
        .iter()
        .map(|address| reach(address, login.clone(), settings, settings.read_timeout));
    let outcomes = join_all(attempts).await;
    let mut reasons = outcomes.into_iter().filter_map(Result::err);
    reasons
        .find(|reason| !reason.is_io_error())
        .unwrap_or(error)
}

#[cfg(test)]
mod tests {
    use component::Metadata;
    use values::GoDuration;

    use super::*;

    #[test]
    fn requests_are_sent_at_once() {
        let metadata = Metadata::from_iter([("redisHost", "localhost")]);
        let settings = Settings::read(&metadata, GoDuration::ZERO).unwrap();
        let target = target(&settings.addresses[0], &settings).unwrap();
        assert!(target.tcp_settings().nodelay());
    }
}
