//! The address by which other programs reach this one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use anyhow::{Context, Result, bail};

/// Documentation addresses (RFC 5737): a datagram socket "connected" there shows which own address would be used,
/// without a packet being sent.
const PROBES: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 1)];

/// The address that is registered with name resolution and placement (contract 9.2).
///
/// A loopback listen address is used as it is: nobody else could reach anything more.
///
/// # Errors
/// For a text that is no address, and on a host that has none.
pub fn address(host_ip: Option<&str>, listen_address: &str) -> Result<IpAddr> {
    if let Some(text) = host_ip.filter(|text| !text.is_empty()) {
        return text
            .parse()
            .with_context(|| format!("DAPR_HOST_IP: {text:?} is no IP address"));
    }
    if let Some(loopback) = loopback(listen_address) {
        return Ok(loopback);
    }
    for probe in PROBES {
        if let Some(address) = outbound(probe) {
            return Ok(address);
        }
    }
    // A machine without a route still talks to itself.
    match outbound(Ipv4Addr::LOCALHOST) {
        Some(address) => Ok(address),
        None => bail!("this host has no IP address; set DAPR_HOST_IP"),
    }
}

fn loopback(listen_address: &str) -> Option<IpAddr> {
    let text = listen_address.trim_start_matches('[').trim_end_matches(']');
    if text == "localhost" {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    text.parse::<IpAddr>().ok().filter(IpAddr::is_loopback)
}

fn outbound(probe: Ipv4Addr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(SocketAddr::from((probe, 9))).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_unspecified()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_listener_is_reached_by_loopback() {
        let of = |listen| address(None, listen).unwrap().to_string();
        assert_eq!(of("127.0.0.1"), "127.0.0.1");
        assert_eq!(of("localhost"), "127.0.0.1");
        assert_eq!(of("[::1]"), "::1");
    }

    #[test]
    fn the_environment_wins_and_is_checked() {
        assert_eq!(
            address(Some("10.0.0.7"), "127.0.0.1").unwrap().to_string(),
            "10.0.0.7"
        );
        let error = address(Some("here"), "").unwrap_err();
        assert!(error.to_string().contains("\"here\""), "{error}");
    }
}
