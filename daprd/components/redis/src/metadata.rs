//! The metadata that every Redis component shares: where the servers are, how to reach them, how long to wait
//! (component-metadata.md). Fields of a connection pool are accepted and have no effect: one connection carries all
//! requests at once. Q-redis-pool

use std::time::Duration;

use component::{Error, ErrorKind, Metadata, Result};

use crate::identity;

const PORT: u16 = 6379;
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
const READ_TIMEOUT: Duration = Duration::from_secs(3);
const MAX_RETRIES: u32 = 3;
const MAX_RETRY_INTERVAL: Duration = Duration::from_millis(512);

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
    /// Reads and checks the metadata; the pause before a retry differs between components where they do not say.
    ///
    /// # Errors
    /// Names the field.
    pub fn read(metadata: &Metadata, min_retry_interval: Duration) -> Result<Self> {
        let host = metadata.required(&["redisHost"])?.to_owned();
        let port = metadata
            .parse::<u16>(&["redisPort"])?
            .filter(|port| *port != 0);
        let addresses = host
            .split(',')
            .map(|part| address(part.trim(), port))
            .collect::<Result<Vec<_>>>()?;
        for unsupported in ["useEntraID", "useAzureAD", "useOIDC"] {
            if metadata.boolean(&[unsupported]) == Some(true) {
                return Err(Error::invalid_metadata(
                    unsupported,
                    "this way to authenticate is not built in",
                ));
            }
        }
        let redis_type = metadata.text("redisType").unwrap_or("node");
        let topology = match metadata.boolean(&["failover"]) {
            Some(true) => Topology::Sentinel,
            _ if redis_type.eq_ignore_ascii_case("cluster") => Topology::Cluster,
            // Compat: Q-redis-type: every other text means a single server.
            _ => Topology::Node,
        };
        let retries = metadata.parse::<i64>(&["redisMaxRetries", "maxRetries"])?;
        let min = timeout(metadata, "redisMinRetryInterval", min_retry_interval)?;
        let max = timeout(metadata, "redisMaxRetryInterval", MAX_RETRY_INTERVAL)?;
        Ok(Self {
            addresses,
            topology,
            master_name: match topology {
                Topology::Sentinel => metadata.required(&["sentinelMasterName"])?.to_owned(),
                Topology::Node | Topology::Cluster => String::new(),
            },
            credentials: credentials(metadata, "redisUsername", "redisPassword"),
            sentinel_credentials: credentials(metadata, "sentinelUsername", "sentinelPassword"),
            database: metadata.parse(&["redisDB"])?.unwrap_or_default(),
            tls: tls(metadata)?,
            dial_timeout: timeout(metadata, "dialTimeout", DIAL_TIMEOUT)?,
            read_timeout: timeout(metadata, "readTimeout", READ_TIMEOUT)?,
            max_retries: match retries {
                None | Some(0) => MAX_RETRIES,
                Some(given) => u32::try_from(given).unwrap_or(0),
            },
            min_retry_interval: min.unwrap_or_default().min(max.unwrap_or_default()),
            max_retry_interval: max.unwrap_or_default(),
            host,
        })
    }
}

fn credentials(metadata: &Metadata, username: &str, password: &str) -> Credentials {
    Credentials {
        username: metadata.text(username).map(str::to_owned),
        password: metadata.text(password).map(str::to_owned),
    }
}

fn tls(metadata: &Metadata) -> Result<Option<Tls>> {
    if metadata.boolean(&["enableTLS"]) != Some(true) {
        return Ok(None);
    }
    let identity = metadata.text("clientCert").zip(metadata.text("clientKey"));
    if let Some((certificate, key)) = identity {
        identity::check(certificate, key)?;
    }
    Ok(Some(Tls {
        insecure: metadata
            .boolean(&["insecureSkipTLSVerify"])
            .unwrap_or_default(),
        identity: identity.map(|(certificate, key)| (certificate.to_owned(), key.to_owned())),
    }))
}

/// A duration where a bare number means milliseconds and everything below zero means none.
fn timeout(metadata: &Metadata, field: &str, default: Duration) -> Result<Option<Duration>> {
    let text = metadata.text(field).unwrap_or_default().trim();
    if text.starts_with('-') {
        return Ok(None);
    }
    let given = metadata.duration(&[field], Duration::from_millis(1))?;
    Ok(Some(
        given.filter(|given| !given.is_zero()).unwrap_or(default),
    ))
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
        Settings::read(&metadata, Duration::from_millis(8))
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
            ("redisMinRetryInterval", "2s"),
        ])
        .unwrap();
        assert_eq!(settings.dial_timeout, Some(Duration::from_millis(250)));
        assert_eq!(settings.read_timeout, None);
        assert_eq!(settings.max_retries, 0);
        assert_eq!(settings.min_retry_interval, MAX_RETRY_INTERVAL);
    }
}
