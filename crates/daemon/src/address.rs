//! Listen addresses as flags spell them: a host that may be empty, and a port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::Path;

use anyhow::{Context as _, anyhow};

/// Turns a listen host and port into a socket address. An empty host means all interfaces: IPv6 with
/// IPv4 mapped where the machine has IPv6, IPv4 alone where it has not. Brackets around IPv6 are
/// accepted, names are resolved once.
///
/// # Errors
/// When a name does not resolve.
pub fn listen_address(host: &str, port: u16) -> anyhow::Result<SocketAddr> {
    let host = host.trim();
    if host.is_empty() {
        return Ok(SocketAddr::new(every_interface(), port));
    }
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, port));
    }
    (bare, port)
        .to_socket_addrs()
        .with_context(|| format!("listen address {host:?} does not resolve"))?
        // A name such as localhost often has both families; Go's listener prefers IPv4 then.
        .min_by_key(SocketAddr::is_ipv6)
        .ok_or_else(|| anyhow!("listen address {host:?} has no address"))
}

fn every_interface() -> IpAddr {
    // The kernel lists IPv6 interfaces here, and the file is missing when IPv6 is off.
    if Path::new("/proc/net/if_inet6").exists() {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    } else {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        assert!(listen_address("", 80).unwrap().ip().is_unspecified());
        assert_eq!(
            listen_address("127.0.0.1", 1).unwrap(),
            "127.0.0.1:1".parse().unwrap()
        );
        assert_eq!(
            listen_address("[::1]", 2).unwrap(),
            "[::1]:2".parse().unwrap()
        );
        assert_eq!(
            listen_address("0.0.0.0", 3).unwrap(),
            "0.0.0.0:3".parse().unwrap()
        );
        assert!(listen_address("localhost", 4).unwrap().ip().is_loopback());
        assert!(listen_address("not a host", 5).is_err());
    }
}
