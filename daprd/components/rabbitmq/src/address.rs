//! Where the server is, read as upstream's client reads it: `amqp://host/` is the virtual host `/`, addresses of IPv6 stand in
//! brackets, what is missing is the guest's. The client library reads some of that otherwise, so it never sees the text.

use std::time::Duration;

use lapin::uri::{AMQPAuthority, AMQPScheme, AMQPUri, AMQPUserInfo, SASLMechanism};
use percent_encoding::percent_decode_str;

const HOST: &str = "localhost";
const GUEST: &str = "guest";
const VIRTUAL_HOST: &str = "/";

/// Longest name of a virtual host; the library panics on longer ones.
const LONGEST_VIRTUAL_HOST: usize = 255;

/// Longest wait for a connection where the text says nothing.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// A server and what to say to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// For the client library; its host is without brackets.
    pub uri: AMQPUri,
    /// Longest wait for a connection.
    pub dial_timeout: Duration,
}

impl Address {
    /// From a connection string: `amqp://user:password@host:port/virtual-host?heartbeat=10`.
    ///
    /// # Errors
    /// What is wrong with it, without the text, which has the password.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.contains(char::is_whitespace) {
            return Err("must not contain whitespace");
        }
        let (scheme, rest) = text.split_once("://").ok_or("has no scheme")?;
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match rest.find('/') {
            Some(index) => rest.split_at(index),
            None => (rest, ""),
        };
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let mut address = Self::new(self::scheme(scheme)?, host)?;
        if let Some(user) = user {
            let (name, password) = user
                .split_once(':')
                .map_or((user, None), |(name, word)| (name, Some(word)));
            address.uri.authority.userinfo = AMQPUserInfo {
                username: decode(name)?,
                password: password.map_or(Ok(GUEST.to_owned()), decode)?,
            };
        }
        if let Some(name) = path.strip_prefix('/').filter(|name| !name.is_empty()) {
            address.uri.vhost = decode(name)?;
        }
        if address.uri.vhost.len() > LONGEST_VIRTUAL_HOST {
            return Err("has a virtual host that is too long");
        }
        address.apply(query)?;
        Ok(address)
    }

    /// From a host with or without a port; of the guest, and the virtual host `/`.
    ///
    /// # Errors
    /// What is wrong with the host.
    pub fn new(scheme: AMQPScheme, host: &str) -> Result<Self, &'static str> {
        let (host, port) = match host.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest
                    .split_once(']')
                    .ok_or("has a bracket without its other")?;
                (host, rest.strip_prefix(':').unwrap_or_default())
            }
            None => host.rsplit_once(':').unwrap_or((host, "")),
        };
        let port = match port {
            "" => scheme.default_port(),
            port => port.parse().map_err(|_| "has a port that is none")?,
        };
        let host = match decode(host)? {
            host if host.is_empty() => HOST.to_owned(),
            host => host,
        };
        let userinfo = AMQPUserInfo {
            username: GUEST.to_owned(),
            password: GUEST.to_owned(),
        };
        let uri = AMQPUri {
            scheme,
            authority: AMQPAuthority {
                userinfo,
                host,
                port,
            },
            vhost: VIRTUAL_HOST.to_owned(),
            ..AMQPUri::default()
        };
        Ok(Self {
            uri,
            dial_timeout: DIAL_TIMEOUT,
        })
    }

    fn apply(&mut self, query: &str) -> Result<(), &'static str> {
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value)?;
            let query = &mut self.uri.query;
            match key {
                "heartbeat" => {
                    query.heartbeat = Some(
                        value
                            .parse()
                            .map_err(|_| "has a heartbeat that is no number")?,
                    )
                }
                "channel_max" => {
                    query.channel_max = Some(
                        value
                            .parse()
                            .map_err(|_| "has a channel_max that is no number")?,
                    )
                }
                "connection_timeout" => {
                    let milliseconds = value
                        .parse()
                        .map_err(|_| "has a connection_timeout that is no number")?;
                    self.dial_timeout = Duration::from_millis(milliseconds);
                }
                "auth_mechanism" if query.auth_mechanism.is_none() => {
                    let known: SASLMechanism = value
                        .parse()
                        .map_err(|_| "has an auth_mechanism that is not known")?;
                    query.auth_mechanism = Some(known);
                }
                // Files of TLS are named by the metadata, as upstream has it.
                _ => {}
            }
        }
        Ok(())
    }
}

/// The scheme of a name.
///
/// # Errors
/// Where it is another one.
pub fn scheme(name: &str) -> Result<AMQPScheme, &'static str> {
    match name {
        "amqp" => Ok(AMQPScheme::AMQP),
        "amqps" => Ok(AMQPScheme::AMQPS),
        _ => Err("has a scheme that is neither amqp nor amqps"),
    }
}

fn decode(text: &str) -> Result<String, &'static str> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded
        .map(|text| text.into_owned())
        .map_err(|_| "has an escape that is no UTF-8")
}

#[cfg(test)]
mod tests;
