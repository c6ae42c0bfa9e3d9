//! The metadata that every Redis component shares: where the servers are, how to reach them, how long to wait
//! (component-metadata.md). Fields of a connection pool are accepted and have no effect: one connection carries all
//! requests at once. Q-redis-pool

use std::time::Duration;

use component::{
    Error, ErrorKind, Metadata, Result,
    fields::{Field, Kind, MILLISECOND, Value},
};
use values::GoDuration;

use crate::identity;

const PORT: u16 = 6379;
const DIAL_TIMEOUT: GoDuration = GoDuration::from_secs(5);
const READ_TIMEOUT: GoDuration = GoDuration::from_secs(3);
const MAX_RETRIES: u32 = 3;
const MAX_RETRY_INTERVAL: GoDuration = GoDuration::from_nanos(512_000_000);

component::metadata! {
    /// The fields that every Redis component has. Of the durations zero means the default, and less means none.
    pub struct Declared {
        /// Servers or sentinels, separated by commas: `host:port`, or `host` with `redisPort` or 6379.
        host: String => "redisHost";
        /// The port of those that have none of their own.
        port: Option<u16> => "redisPort";
        /// The name to log in with; servers before Redis 6 have none.
        username: Option<String> => "redisUsername";
        /// The password to log in with.
        password: Option<String> => "redisPassword", secret;
        /// The name to log in with at the sentinels.
        sentinel_username: Option<String> => "sentinelUsername";
        /// The password to log in with at the sentinels.
        sentinel_password: Option<String> => "sentinelPassword", secret;
        /// Speaks TLS.
        tls: bool => "enableTLS";
        /// Takes any certificate of the server.
        insecure: bool => "insecureSkipTLSVerify";
        /// The client's own certificate, in PEM.
        client_certificate: Option<String> => "clientCert";
        /// Its key, in PEM.
        client_key: Option<String> => "clientKey", secret;
        /// Not built in.
        entra_id: bool => "useEntraID" | "useAzureAD";
        /// Not built in.
        oidc: bool => "useOIDC";
        /// Whether the servers share the keys.
        redis_type: RedisType => "redisType", default(RedisType::Node);
        /// The addresses are those of sentinels.
        failover: bool => "failover";
        /// The name under which sentinels know the servers; required where there are sentinels.
        master_name: Option<String> => "sentinelMasterName";
        /// The database number; clusters have only 0.
        database: i64 => "redisDB", default(0);
        /// How often a request is sent again after the connection failed; below zero for never.
        max_retries: i64 => "redisMaxRetries" | "maxRetries", default(i64::from(MAX_RETRIES));
        /// Longest pause before that.
        max_retry_interval: GoDuration => "redisMaxRetryInterval", default(MAX_RETRY_INTERVAL), unit(MILLISECOND);
        /// Longest wait for a connection.
        dial_timeout: GoDuration => "dialTimeout", default(DIAL_TIMEOUT), unit(MILLISECOND);
        /// Longest wait for an answer.
        read_timeout: GoDuration => "readTimeout", default(READ_TIMEOUT), unit(MILLISECOND);
    }
    ignored {
        "writeTimeout": Duration,
        "poolSize": Integer,
        "poolTimeout": Duration,
        "maxConnAge": Duration,
        "minIdleConns": Integer,
        "idleCheckFrequency": Duration,
        "idleTimeout": Duration,
    }
}

/// The shortest pause of all kinds but the state store.
pub const MIN_RETRY_INTERVAL: GoDuration = GoDuration::from_nanos(8_000_000);

component::metadata! {
    /// The field that a component has beside [`Declared`] which has none of its own.
    pub struct Plain {
        /// Shortest pause before a request is sent again.
        min_retry_interval: GoDuration => "redisMinRetryInterval", default(MIN_RETRY_INTERVAL), unit(MILLISECOND);
    }
}

/// How `redisType` says that servers belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisType {
    /// One server, or those of sentinels.
    Node,
    /// Keys are spread over several.
    Cluster,
}

impl Value for RedisType {
    const KIND: Kind = Kind::OneOf(&["node", "cluster"]);

    // Compat: Q-redis-type: every other text means a single server.
    fn read(text: &str, _: &Field) -> Result<Self, String> {
        Ok(match text.eq_ignore_ascii_case("cluster") {
            true => Self::Cluster,
            false => Self::Node,
        })
    }

    fn text(&self) -> Option<String> {
        let text = match self {
            Self::Node => "node",
            Self::Cluster => "cluster",
        };
        Some(text.to_owned())
    }
}

/// How the servers belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Node,
    /// Keys are spread over several.
    Cluster,
    /// Sentinels name the one that is in charge.
    Sentinel,
}

/// A server's name and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Address {
    /// From what a cluster calls one of its servers.
    ///
    /// # Errors
    /// Where that is none.
    pub fn of_server(text: &str) -> Result<Self> {
        let parts = text.rsplit_once(':');
        let address = parts.and_then(|(host, port)| {
            Some(Self {
                host: host.to_owned(),
                port: port.parse().ok()?,
            })
        });
        address.ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                format!("{text:?} is no address of a server"),
            )
        })
    }
}

/// TLS towards the servers.
#[derive(Clone)]
pub struct Tls {
    /// Any certificate is taken.
    pub insecure: bool,
    /// Certificate and key of the client, PEM.
    pub identity: Option<(String, String)>,
}

/// A name and a password, where the server asks for them.
#[derive(Clone, Default)]
pub struct Credentials {
    /// Name; servers before Redis 6 have none.
    pub username: Option<String>,
    /// Password.
    pub password: Option<String>,
}

/// How to reach the servers.
#[derive(Clone)]
pub struct Settings {
    /// As configured, for messages.
    pub host: String,
    /// Servers or sentinels.
    pub addresses: Vec<Address>,
    /// How they belong together.
    pub topology: Topology,
    /// Name under which sentinels know the servers.
    pub master_name: String,
    /// For the servers.
    pub credentials: Credentials,
    /// For the sentinels.
    pub sentinel_credentials: Credentials,
    /// Database number; clusters have only 0.
    pub database: i64,
    /// Nothing for plain TCP.
    pub tls: Option<Tls>,
    /// Longest wait for a connection; nothing for ever.
    pub dial_timeout: Option<Duration>,
    /// Longest wait for an answer; nothing for ever.
    pub read_timeout: Option<Duration>,
    /// How often a request is sent again after the connection failed.
    pub max_retries: u32,
    /// Shortest pause before that.
    pub min_retry_interval: Duration,
    /// Longest pause before that.
    pub max_retry_interval: Duration,
}

impl Settings {
    /// Of a component whose one other field is that of [`Plain`].
    ///
    /// # Errors
    /// As [`Settings::read`].
    pub fn plain(metadata: &Metadata) -> Result<Self> {
        let Plain { min_retry_interval } = Plain::read(metadata)?;
        Self::read(metadata, min_retry_interval)
    }

    /// Reads and checks the metadata; the pause before a retry is declared by each component, for they differ in it.
    ///
    /// # Errors
    /// Names the field.
    pub fn read(metadata: &Metadata, min_retry_interval: GoDuration) -> Result<Self> {
        let declared = Declared::read(metadata)?;
        for (field, asked) in [
            ("useEntraID", declared.entra_id),
            ("useOIDC", declared.oidc),
        ] {
            if asked {
                let problem = "this way to authenticate is not built in";
                return Err(Error::invalid_metadata(field, problem));
            }
        }
        let port = declared.port.filter(|port| *port != 0);
        let addresses = declared
            .host
            .split(',')
            .map(|part| address(part.trim(), port))
            .collect::<Result<Vec<_>>>()?;
        let topology = match (declared.failover, declared.redis_type) {
            (true, _) => Topology::Sentinel,
            (false, RedisType::Cluster) => Topology::Cluster,
            (false, RedisType::Node) => Topology::Node,
        };
        let tls = tls(&declared)?;
        let max = limit(declared.max_retry_interval, MAX_RETRY_INTERVAL).unwrap_or_default();
        let min = limit(min_retry_interval, min_retry_interval).unwrap_or_default();
        Ok(Self {
            addresses,
            topology,
            master_name: match (topology, declared.master_name) {
                (Topology::Sentinel, None) => {
                    let problem = "is required";
                    return Err(Error::invalid_metadata("sentinelMasterName", problem));
                }
                (Topology::Sentinel, Some(name)) => name,
                (Topology::Node | Topology::Cluster, _) => String::new(),
            },
            credentials: Credentials {
                username: declared.username,
                password: declared.password,
            },
            sentinel_credentials: Credentials {
                username: declared.sentinel_username,
                password: declared.sentinel_password,
            },
            database: declared.database,
            tls,
            dial_timeout: limit(declared.dial_timeout, DIAL_TIMEOUT),
            read_timeout: limit(declared.read_timeout, READ_TIMEOUT),
            max_retries: match declared.max_retries {
                0 => MAX_RETRIES,
                given => u32::try_from(given).unwrap_or(0),
            },
            min_retry_interval: min.min(max),
            max_retry_interval: max,
            host: declared.host,
        })
    }
}

fn tls(declared: &Declared) -> Result<Option<Tls>> {
    if !declared.tls {
        return Ok(None);
    }
    let certificate = declared.client_certificate.clone();
    let identity = certificate.zip(declared.client_key.clone());
    if let Some((certificate, key)) = &identity {
        identity::check(certificate, key)?;
    }
    Ok(Some(Tls {
        insecure: declared.insecure,
        identity,
    }))
}

/// Zero means the default, and everything below zero means none.
fn limit(given: GoDuration, default: GoDuration) -> Option<Duration> {
    match given {
        GoDuration::ZERO => default.to_std(),
        given => given.to_std(),
    }
}

fn address(text: &str, port: Option<u16>) -> Result<Address> {
    let wrong = |problem: String| Error::new(ErrorKind::InvalidMetadata, problem);
    let (host, own) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        // More than one colon without brackets is an IPv6 address without a port.
        None => match text.split_once(':') {
            Some((host, own)) if !own.contains(':') => (host, Some(own)),
            _ => (text, None),
        },
    };
    if host.is_empty() {
        return Err(wrong(format!(
            "metadata field redisHost: {text:?} has no host name"
        )));
    }
    let own = own
        .map(|own| {
            own.parse::<u16>().map_err(|_| {
                wrong(format!(
                    "metadata field redisHost: {text:?} has no valid port"
                ))
            })
        })
        .transpose()?;
    if let (Some(own), Some(port)) = (own, port)
        && own != port
    {
        return Err(wrong(format!(
            "metadata field redisHost: {text:?} has the port {own}, but redisPort is {port}; set only one of them"
        )));
    }
    Ok(Address {
        host: host.to_owned(),
        port: own.or(port).unwrap_or(PORT),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[(&str, &str)]) -> Result<Settings> {
        let metadata = Metadata::from_iter(fields.iter().copied());
        Settings::read(&metadata, GoDuration::from_secs(2))
    }

    #[test]
    fn hosts_come_with_and_without_ports() {
        for (host, port, expected) in [
            ("localhost", "", "localhost 6379"),
            ("localhost", "7000", "localhost 7000"),
            ("localhost:7001", "7001", "localhost 7001"),
            ("[::1]:7002", "", "::1 7002"),
            ("::1", "", "::1 6379"),
        ] {
            let settings = read(&[("redisHost", host), ("redisPort", port)]).unwrap();
            let Address { host, port } = &settings.addresses[0];
            assert_eq!(format!("{host} {port}"), expected);
        }
        let several = read(&[("redisHost", "a:1, b"), ("redisType", "Cluster")]).unwrap();
        assert_eq!(several.addresses.len(), 2);
        assert_eq!(several.topology, Topology::Cluster);
    }

    #[test]
    fn ports_that_contradict_are_refused() {
        let error = read(&[("redisHost", "a:1"), ("redisPort", "2")])
            .err()
            .unwrap();
        assert!(error.to_string().contains("redisPort is 2"), "{error}");
        for host in ["a:b", ":1", "a,,b"] {
            let error = read(&[("redisHost", host)]).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidMetadata, "{host}");
        }
        assert!(read(&[]).err().unwrap().to_string().contains("redisHost"));
    }

    #[test]
    fn bare_numbers_are_milliseconds() {
        let settings = read(&[
            ("redisHost", "a"),
            ("dialTimeout", "250"),
            ("readTimeout", "-1"),
            ("redisMaxRetries", "-1"),
        ])
        .unwrap();
        assert_eq!(settings.dial_timeout, Some(Duration::from_millis(250)));
        assert_eq!(settings.read_timeout, None);
        assert_eq!(settings.max_retries, 0);
        assert_eq!(
            Some(settings.min_retry_interval),
            MAX_RETRY_INTERVAL.to_std()
        );
    }
}
