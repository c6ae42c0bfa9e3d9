//! Listeners, connectors and the accept loop of every program.
//!
//! One place sets `TCP_NODELAY`, limits, keep-alive and drain, does TLS handshakes off the accept path and puts
//! the caller's identity on each request, for HTTP and gRPC alike. A tower service is enough to
//! be served: an `axum::Router`, tonic `Routes` and a generated tonic server all fit without an adapter.
#![deny(missing_docs)]

mod bodies;
mod client;
mod connection;
mod connector;
mod gate;
mod headers;
mod heard;
mod listener;
mod multiplexed;
mod peer;
mod redirects;
mod request_body;
mod server;
mod stream;

use std::io;
use std::time::Duration;

pub use bodies::{Bodies, BodyError, BodyLimits, Held};
pub use client::{ChannelOptions, ClientOptions, channel, client, describe, never_left};
pub use connection::Serve;
pub use connector::{Connecting, Connector, Dialled};
pub use gate::{PeerGate, Place};
pub use headers::remove_hop_by_hop;
pub use heard::Heard;
pub use listener::Listener;
pub use multiplexed::{Answer, Answering, CALLS_PER_CONNECTION, MOST_CONNECTIONS, Multiplexed};
pub use peer::{Peer, PeerIdentity};
pub use redirects::{Elsewhere, MOST_REDIRECTS, follow};
pub use request_body::RequestBody;
pub use server::{ServerOptions, serve};
pub use stream::Stream;

/// HTTP/2 pings and, on servers, the end of idle connections (contract 1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Time between two pings.
    pub interval: Duration,
    /// How long an unanswered ping may take before the connection is closed.
    pub timeout: Duration,
    /// A server closes a connection without requests after this time (GOAWAY on HTTP/2); clients ignore it.
    pub idle: Option<Duration>,
}

impl KeepAlive {
    /// For services of the control plane, which ping by themselves: Go's take more than one ping in five minutes for an
    /// attack, and close the connection.
    pub const SELDOM: Self = Self {
        interval: Duration::from_secs(310),
        timeout: Duration::from_secs(5),
        idle: None,
    };
}

impl Default for KeepAlive {
    /// Ping every 10 s, answer within 5 s, idle for at most 3 minutes.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            idle: Some(Duration::from_secs(180)),
        }
    }
}

/// Everything that can go wrong below HTTP.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address or socket path asked for.
        address: String,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The target has no address.
    #[error("cannot resolve {target}")]
    Resolve {
        /// Host and port asked for.
        target: String,
        /// The resolver's answer.
        source: io::Error,
    },
    /// The target did not accept the connection.
    #[error("cannot connect to {target}")]
    Connect {
        /// Host and port, or socket path.
        target: String,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The target did not answer in time.
    #[error("no connection to {target} within {after:?}")]
    Timeout {
        /// Host and port, or socket path.
        target: String,
        /// The limit that was passed.
        after: Duration,
    },
    /// The TLS handshake failed, or the peer's identity was refused.
    #[error("tls handshake with {target} failed")]
    Handshake {
        /// Host and port, or socket path.
        target: String,
        /// The reason, often a `rustls::Error` inside.
        source: io::Error,
    },
    /// The URI names no host.
    #[error("the address {uri} names no host")]
    NoHost {
        /// The URI asked for.
        uri: String,
    },
    /// The peer's certificate cannot be read, or does not carry exactly one URI name.
    #[error("the peer's certificate must carry exactly one uri name, found {found}")]
    Identity {
        /// How many URI names were found; 0 also for an unreadable certificate.
        found: usize,
    },
}
