//! Listening sockets: TCP (dual stack where the host has it) and unix.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, UnixListener, lookup_host};

use crate::{Error, Stream};

/// Connections the kernel may hold before they are accepted.
const BACKLOG: u32 = 1024;

/// Pause after a failed accept, so that a full table of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound socket. Dropping a unix listener removes its file.
#[derive(Debug)]
pub struct Listener(Socket);

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        _file: Unlink,
    },
}

impl Listener {
    /// Binds a TCP address; port 0 picks a free port. Must be called inside a runtime.
    ///
    /// # Errors
    /// [`Error::Listen`] with the address.
    pub fn bind(address: SocketAddr) -> Result<Self, Error> {
        let bound = || -> io::Result<TcpListener> {
            let socket = if address.is_ipv4() {
                TcpSocket::new_v4()?
            } else {
                TcpSocket::new_v6()?
            };
            // As Go does: a restarted program must get its port back while old connections linger.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            socket.listen(BACKLOG)
        };
        let listener = bound().map_err(|source| Error::Listen {
            address: address.to_string(),
            source,
        })?;
        Ok(Self(Socket::Tcp(listener)))
    }

    /// Binds a host name or address as flags give it; the empty host means every address, IPv6 and IPv4.
    ///
    /// # Errors
    /// [`Error::Resolve`] for an unknown host, [`Error::Listen`] when no address of it can be bound.
    pub async fn listen(host: &str, port: u16) -> Result<Self, Error> {
        if host.is_empty() {
            return Self::bind((Ipv6Addr::UNSPECIFIED, port).into())
                .or_else(|_| Self::bind((Ipv4Addr::UNSPECIFIED, port).into()));
        }
        let host = host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host);
        let target = || format!("{host}:{port}");
        let addresses = lookup_host((host, port)).await;
        let mut addresses: Vec<_> = addresses
            .map_err(|source| Error::Resolve {
                target: target(),
                source,
            })?
            .collect();
        addresses.sort_by_key(SocketAddr::is_ipv6);
        let mut last = Error::Resolve {
            target: target(),
            source: io::ErrorKind::NotFound.into(),
        };
        for address in addresses {
            match Self::bind(address) {
                Ok(listener) => return Ok(listener),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Binds a unix socket, replacing a socket file that a previous process left behind.
    ///
    /// # Errors
    /// [`Error::Listen`] with the path.
    pub fn unix(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let bound = || -> io::Result<UnixListener> {
            use std::os::unix::fs::FileTypeExt;
            if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
                std::fs::remove_file(path)?;
            }
            UnixListener::bind(path)
        };
        let listener = bound().map_err(|source| Error::Listen {
            address: path.display().to_string(),
            source,
        })?;
        Ok(Self(Socket::Unix {
            listener,
            _file: Unlink(path.to_owned()),
        }))
    }

    /// The bound TCP address, with the real port; none on unix sockets.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.0 {
            Socket::Tcp(listener) => listener.local_addr().ok(),
            Socket::Unix { .. } => None,
        }
    }

    /// The next connection, `TCP_NODELAY` set, and the caller's address. After a failure, such as a full table of
    /// descriptors, it tries again in a moment.
    pub async fn accept(&self) -> (Stream, Option<SocketAddr>) {
        loop {
            match self.try_accept().await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    tracing::debug!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn try_accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match &self.0 {
            Socket::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Stream::Tcp(stream), Some(unmapped(address))))
            }
            Socket::Unix { listener, .. } => Ok((Stream::Unix(listener.accept().await?.0), None)),
        }
    }
}

/// A dual-stack socket reports IPv4 callers as `::ffff:a.b.c.d`; logs and policies want the plain form.
fn unmapped(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[derive(Debug)]
struct Unlink(PathBuf);

impl Drop for Unlink {
    fn drop(&mut self) {
        // Another process may have replaced or removed it already; there is nothing to do about that.
        let _ = std::fs::remove_file(&self.0);
    }
}
