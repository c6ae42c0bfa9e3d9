//! Dialling: TCP with `TCP_NODELAY`, unix sockets, TLS on top; the connector of every HTTP and gRPC client.

use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::{Error, Heard, Stream};

/// A tower `Service<Uri>` that opens connections. Cheap to clone.
#[derive(Clone)]
pub struct Connector(Arc<Target>);

#[derive(Clone)]
struct Target {
    unix: Option<PathBuf>,
    tls: Option<TlsConnector>,
    server_name: Option<ServerName<'static>>,
    connect_timeout: Duration,
    heard: Option<Heard>,
}

/// Default limit of one connection attempt, the TLS handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

impl Connector {
    /// Plain connections to the host and port of each URI (default port 80, or 443 for `https`).
    #[must_use]
    pub fn plain() -> Self {
        Self(Arc::new(Target {
            unix: None,
            tls: None,
            server_name: None,
            connect_timeout: CONNECT_TIMEOUT,
            heard: None,
        }))
    }

    /// TLS connections, whatever the scheme of the URI says. The server name is the URI's host.
    #[must_use]
    pub fn tls(config: Arc<rustls::ClientConfig>) -> Self {
        Self::plain().with(|target| target.tls = Some(TlsConnector::from(config)))
    }

    /// TLS if there is a configuration: the shape that `security` hands out.
    #[must_use]
    pub fn maybe_tls(config: Option<Arc<rustls::ClientConfig>>) -> Self {
        config.map_or_else(Self::plain, Self::tls)
    }

    /// Plain connections to a unix socket; the URI is ignored.
    #[must_use]
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self::plain().with(|target| target.unix = Some(path))
    }

    /// Limits one connection attempt, the TLS handshake included. The default is 5 s.
    #[must_use]
    pub fn connect_timeout(self, limit: Duration) -> Self {
        self.with(|target| target.connect_timeout = limit)
    }

    /// Fixes the TLS server name instead of the URI's host.
    #[must_use]
    pub fn server_name(self, name: ServerName<'static>) -> Self {
        self.with(|target| target.server_name = Some(name))
    }

    /// Notes what comes in on the connections.
    #[must_use]
    pub fn heard(self, heard: Heard) -> Self {
        self.with(|target| target.heard = Some(heard))
    }

    /// Opens one connection.
    ///
    /// # Errors
    /// [`Error::NoHost`], [`Error::Resolve`], [`Error::Connect`], [`Error::Handshake`], [`Error::Timeout`].
    pub async fn connect(&self, uri: &Uri) -> Result<Dialled, Error> {
        let limit = self.0.connect_timeout;
        let label = || {
            self.0
                .unix
                .as_ref()
                .map_or_else(|| uri.to_string(), |path| path.display().to_string())
        };
        match timeout(limit, self.0.dial(uri)).await {
            Ok(done) => done,
            Err(_) => Err(Error::Timeout {
                target: label(),
                after: limit,
            }),
        }
    }

    fn with(self, change: impl FnOnce(&mut Target)) -> Self {
        let mut target = Arc::unwrap_or_clone(self.0);
        change(&mut target);
        Self(Arc::new(target))
    }
}

impl Target {
    async fn dial(&self, uri: &Uri) -> Result<Dialled, Error> {
        if let Some(path) = &self.unix {
            let target = path.display().to_string();
            let stream = UnixStream::connect(path)
                .await
                .map_err(|source| Error::Connect {
                    target: target.clone(),
                    source,
                })?;
            return self
                .secure(Stream::Unix(stream), "localhost", &target, None)
                .await;
        }
        let host = uri.host().ok_or_else(|| Error::NoHost {
            uri: uri.to_string(),
        })?;
        let host = host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host);
        let https = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        let target = format!("{host}:{port}");
        let stream = self.tcp(host, port, &target).await?;
        let address = stream.peer_addr().ok();
        self.secure(Stream::Tcp(stream), host, &target, address)
            .await
    }

    async fn tcp(&self, host: &str, port: u16, target: &str) -> Result<TcpStream, Error> {
        let addresses: Vec<SocketAddr> = match host.parse::<IpAddr>() {
            Ok(ip) => vec![(ip, port).into()],
            Err(_) => lookup_host((host, port))
                .await
                .map_err(|source| Error::Resolve {
                    target: target.to_owned(),
                    source,
                })?
                .collect(),
        };
        // Every address gets its share of the time, so that a black hole does not hide a working one.
        let share =
            self.connect_timeout / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in addresses {
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    let connected = stream.set_nodelay(true).map(|()| stream);
                    return connected.map_err(|source| Error::Connect {
                        target: target.to_owned(),
                        source,
                    });
                }
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(Error::Connect {
            target: target.to_owned(),
            source: last,
        })
    }

    async fn secure(
        &self,
        stream: Stream,
        host: &str,
        target: &str,
        address: Option<SocketAddr>,
    ) -> Result<Dialled, Error> {
        let Some(tls) = &self.tls else {
            return Ok(self.dialled(stream, address));
        };
        let name = self.server_name.clone().unwrap_or_else(|| {
            // An address sends no name at all, which is right for a host that is no DNS name.
            ServerName::try_from(host.to_owned())
                .unwrap_or(ServerName::from(IpAddr::V4(Ipv4Addr::LOCALHOST)))
        });
        let stream = tls
            .connect(name, stream)
            .await
            .map_err(|source| Error::Handshake {
                target: target.to_owned(),
                source,
            })?;
        Ok(self.dialled(Stream::Tls(Box::new(stream.into())), address))
    }

    fn dialled(&self, stream: Stream, address: Option<SocketAddr>) -> Dialled {
        Dialled {
            stream,
            address,
            heard: self.heard.clone(),
        }
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Dialled>;
    type Error = Error;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Connecting {
        let connector = self.clone();
        Connecting(Box::pin(async move {
            connector.connect(&uri).await.map(TokioIo::new)
        }))
    }
}

/// A connection being opened.
pub struct Connecting(Pin<Box<dyn Future<Output = Result<TokioIo<Dialled>, Error>> + Send>>);

impl Future for Connecting {
    type Output = Result<TokioIo<Dialled>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

/// A dialled connection.
#[derive(Debug)]
pub struct Dialled {
    stream: Stream,
    address: Option<SocketAddr>,
    heard: Option<Heard>,
}

impl Dialled {
    /// The address that was reached; none on unix sockets.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The stream below.
    #[must_use]
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The stream below, for protocols other than HTTP.
    #[must_use]
    pub fn into_stream(self) -> Stream {
        self.stream
    }
}

impl Connection for Dialled {
    fn connected(&self) -> Connected {
        let http2 = self.stream.tls().and_then(|tls| tls.alpn_protocol()) == Some(b"h2");
        let connected = Connected::new();
        if http2 {
            connected.negotiated_h2()
        } else {
            connected
        }
    }
}

impl AsyncRead for Dialled {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if let Some(heard) = &this.heard
            && buf.filled().len() > before
        {
            heard.note();
        }
        read
    }
}

impl AsyncWrite for Dialled {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    #[inline]
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
