//! The accept loop: limits, TLS handshakes in their own tasks, and a drain with a deadline.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::connection::{Activity, Dispatch, Quiet, Service, Verdict, Watched};
use crate::{KeepAlive, Listener, Peer, PeerGate, PeerIdentity, Serve, Stream};

/// How a listener is served. `Default` suits a public HTTP and gRPC port.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Serve TLS; a client certificate, if the configuration asks for one, becomes the request's `Peer::identity`.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Client certificates name workloads, and one that does not name exactly one is refused. Where the TLS configuration
    /// alone says who may connect, no identity is read.
    pub identify: bool,
    /// Largest request head in bytes (HTTP/1 buffer, HTTP/2 header list); 4 KiB are added for HTTP/1's own use.
    pub max_header_bytes: usize,
    /// A request head must be complete this long after its first byte; also the limit of a TLS handshake.
    pub header_timeout: Duration,
    /// Speak HTTP/1.1.
    pub http1: bool,
    /// Speak HTTP/2, with prior knowledge on plain sockets.
    pub http2: bool,
    /// Pings and the idle limit; none leaves quiet connections open.
    pub keep_alive: Option<KeepAlive>,
    /// Connections at a time; further ones wait in the kernel's backlog.
    pub max_connections: usize,
    /// Connections at a time from one address, for ports that anybody may reach; further ones are closed at once.
    pub peers: Option<PeerGate>,
    /// Requests at a time on one HTTP/2 connection.
    pub max_concurrent_streams: u32,
    /// HTTP/2 flow-control window of a stream in bytes; a connection gets four times as much.
    pub stream_window: u32,
    /// After shutdown, requests under way get this long.
    pub drain: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            tls: None,
            identify: true,
            max_header_bytes: 64 << 10,
            header_timeout: Duration::from_secs(10),
            http1: true,
            http2: true,
            keep_alive: Some(KeepAlive::default()),
            max_connections: 16_384,
            peers: None,
            max_concurrent_streams: 10_000,
            stream_window: STREAM_WINDOW,
            drain: Duration::from_secs(5),
        }
    }
}

/// HTTP/2 window of one stream: large enough that a 1 MiB body needs no round trip.
pub(crate) const STREAM_WINDOW: u32 = 1 << 20;
/// Connection windows are this many stream windows.
pub(crate) const WINDOWS_PER_CONNECTION: u32 = 4;
/// hyper panics below this HTTP/1 buffer size.
const MIN_BUFFER: usize = 8192;
/// Room in the HTTP/1 buffer besides the head.
const BUFFER_MARGIN: usize = 4096;

/// The HTTP/1 buffer that holds a head of `header_bytes`.
pub(crate) fn buffer_size(header_bytes: usize) -> usize {
    MIN_BUFFER.max(header_bytes.saturating_add(BUFFER_MARGIN))
}

/// Accepts connections and serves them until `shutdown`, then stops listening, lets requests under way finish
/// (GOAWAY on HTTP/2) for at most `options.drain`, and closes what is left. A failing connection ends alone.
pub async fn serve(
    listener: Listener,
    options: ServerOptions,
    service: impl Serve,
    shutdown: CancellationToken,
) {
    accept_all(listener, options, Service::new(service), shutdown).await;
}

async fn accept_all(
    listener: Listener,
    options: ServerOptions,
    service: Service,
    shutdown: CancellationToken,
) {
    let streams = TaskTracker::new();
    let slots = Arc::new(Semaphore::new(
        options.max_connections.min(Semaphore::MAX_PERMITS),
    ));
    let (drain, peers) = (options.drain, options.peers.clone());
    let server = Arc::new(Server {
        http: builder(&options, streams.clone()),
        tls: options.tls.clone().map(TlsAcceptor::from),
        identify: options.identify,
        quiet: Quiet {
            header: options.header_timeout,
            idle: options.keep_alive.and_then(|k| k.idle),
        },
        shutdown: shutdown.clone(),
    });
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &slots) => {
                let (stream, address, slot) = accepted;
                let place = peers.as_ref().map(|gate| gate.try_enter(address.map(|it| it.ip()), 1));
                if matches!(place, Some(None)) {
                    debug!(?address, "one address has all the connections that it may have");
                    continue;
                }
                let (server, service) = (server.clone(), service.clone());
                connections.spawn(async move {
                    server.connection(stream, address, service).await;
                    drop((slot, place));
                });
            }
            Some(ended) = connections.join_next() => report(ended),
        }
    }
    drop(listener);
    let deadline = Instant::now() + drain;
    while let Ok(Some(ended)) = timeout_at(deadline, connections.join_next()).await {
        report(ended);
    }
    connections.shutdown().await;
    streams.close();
    let _ = timeout_at(deadline, streams.wait()).await;
}

async fn accept(
    listener: &Listener,
    slots: &Arc<Semaphore>,
) -> (Stream, Option<SocketAddr>, OwnedSemaphorePermit) {
    let slot = slots
        .clone()
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    let (stream, address) = listener.accept().await;
    (stream, address, slot)
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection ended in a panic");
    }
}

fn builder(options: &ServerOptions, streams: TaskTracker) -> auto::Builder<Streams> {
    let mut http = auto::Builder::new(Streams(streams));
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(buffer_size(options.max_header_bytes));
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.max_concurrent_streams)
        .initial_stream_window_size(options.stream_window)
        .initial_connection_window_size(
            options
                .stream_window
                .saturating_mul(WINDOWS_PER_CONNECTION)
                .min(MAX_WINDOW),
        )
        .max_header_list_size(u32::try_from(options.max_header_bytes).unwrap_or(u32::MAX));
    if let Some(keep_alive) = options.keep_alive {
        http.http2()
            .keep_alive_interval(keep_alive.interval)
            .keep_alive_timeout(keep_alive.timeout);
    }
    match (options.http1, options.http2) {
        (true, false) => http.http1_only(),
        (false, true) => http.http2_only(),
        _ => http,
    }
}

/// The largest window HTTP/2 knows.
pub(crate) const MAX_WINDOW: u32 = (1 << 31) - 1;

/// Runs the requests of HTTP/2 connections; each ends with its connection at the latest.
#[derive(Clone, Debug)]
struct Streams(TaskTracker);

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        drop(self.0.spawn(stream));
    }
}

/// Reads for nothing what a client still sends after its answer, so that the answer is not lost by a reset; until the client
/// closes, is quiet, or has had enough time or bytes.
async fn linger(mut stream: Stream) {
    // The client learns that nothing follows the answer.
    let _ = stream.shutdown().await;
    let deadline = Instant::now() + LINGER_TIME;
    let mut scratch = vec![0; LINGER_BUFFER];
    let mut read = 0;
    while read < LINGER_BYTES {
        let quiet = deadline.min(Instant::now() + LINGER_QUIET);
        match timeout_at(quiet, stream.read(&mut scratch)).await {
            Ok(Ok(length)) if length > 0 => read += length,
            _ => return,
        }
    }
}

/// After an early answer, a client that goes on sending is read for this long,
const LINGER_TIME: Duration = Duration::from_secs(10);
/// one that sends nothing for this long,
const LINGER_QUIET: Duration = Duration::from_secs(2);
/// and either for no more than this many bytes,
const LINGER_BYTES: usize = 64 << 20;
/// of which so many are read at once.
const LINGER_BUFFER: usize = 16 << 10;

/// What all connections of one listener share.
struct Server {
    http: auto::Builder<Streams>,
    tls: Option<TlsAcceptor>,
    identify: bool,
    quiet: Quiet,
    shutdown: CancellationToken,
}

impl Server {
    /// Serves a connection to its end. Where a request was answered before the client had sent it whole, the end waits until
    /// the client has seen the answer.
    async fn connection(&self, stream: Stream, address: Option<SocketAddr>, service: Service) {
        // A token of its own: polling the shared one takes a lock that all connections would fight over.
        let shutdown = self.shutdown.child_token();
        let Some((stream, identity)) = self.handshake(stream, address, &shutdown).await else {
            return;
        };
        let activity = Arc::new(Activity::new());
        let dispatch = Dispatch {
            service,
            peer: Peer { address, identity },
            activity: activity.clone(),
        };
        let (watched, returned) = Watched::new(stream, activity.clone());
        self.requests(watched, dispatch, &activity, &shutdown).await;
        if activity.unread.load(Ordering::Relaxed)
            && let Ok(stream) = returned.await
        {
            linger(stream).await;
        }
    }

    /// Serves the requests of a connection.
    async fn requests(
        &self,
        stream: Watched,
        dispatch: Dispatch,
        activity: &Activity,
        shutdown: &CancellationToken,
    ) {
        let address = dispatch.peer.address;
        let mut connection = pin!(self.http.serve_connection(TokioIo::new(stream), dispatch));
        let mut watchdog = pin!(sleep(self.quiet.header));
        let mut draining = false;
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        debug!(error = error.as_ref(), ?address, "connection ended");
                    }
                    return;
                }
                () = shutdown.cancelled(), if !draining => {
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = watchdog.as_mut() => match activity.verdict(self.quiet, activity.now()) {
                    Verdict::Wait(pause) => watchdog.set(sleep(pause)),
                    Verdict::Drain if !draining => {
                        draining = true;
                        connection.as_mut().graceful_shutdown();
                        watchdog.set(sleep(self.quiet.header));
                    }
                    Verdict::Drain | Verdict::Cut => return,
                },
            }
        }
    }

    async fn handshake(
        &self,
        stream: Stream,
        address: Option<SocketAddr>,
        shutdown: &CancellationToken,
    ) -> Option<(Stream, Option<PeerIdentity>)> {
        let Some(acceptor) = &self.tls else {
            return Some((stream, None));
        };
        let handshake = timeout(self.quiet.header, acceptor.accept(stream));
        let stream = tokio::select! {
            () = shutdown.cancelled() => return None,
            done = handshake => match done {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    debug!(%error, ?address, "tls handshake failed");
                    return None;
                }
                Err(_) => {
                    debug!(?address, "tls handshake timed out");
                    return None;
                }
            },
        };
        let chain = stream.get_ref().1.peer_certificates();
        let identity = match chain.filter(|_| self.identify) {
            None | Some([]) => None,
            Some(chain) => match PeerIdentity::from_chain(chain) {
                Ok(identity) => Some(identity),
                Err(error) => {
                    debug!(%error, ?address, "peer refused");
                    return None;
                }
            },
        };
        Some((Stream::Tls(Box::new(stream.into())), identity))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lingering_has_an_end() {
        let pair = || tokio::net::UnixStream::pair().unwrap();
        let (ours, _silent) = pair();
        let began = Instant::now();
        linger(Stream::Unix(ours)).await;
        assert_eq!(began.elapsed(), LINGER_QUIET);

        let (ours, mut slow) = pair();
        let began = Instant::now();
        let trickle = async {
            loop {
                sleep(LINGER_QUIET / 2).await;
                let _ = slow.write_all(b"x").await;
            }
        };
        tokio::select! {
            () = linger(Stream::Unix(ours)) => {}
            () = trickle => {}
        }
        assert_eq!(began.elapsed(), LINGER_TIME);

        let (ours, closed) = pair();
        drop(closed);
        let began = Instant::now();
        linger(Stream::Unix(ours)).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
