//! An HTTP/2 client for many calls at a time. One connection carries them all until it has its fill; then the next is
//! opened, so that no call waits behind thousands of others, and a single connection stays the common case.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::client::legacy::{self, Client, ResponseFuture};

use crate::{ClientOptions, Connector, client};

/// Most calls on one connection, those included that wait because the server allows fewer streams: the server's limit is a
/// wish to be respected, not one to be got round by further connections.
pub const CALLS_PER_CONNECTION: usize = 2048;

/// Most connections of one client. Calls beyond what they carry share the one with the fewest.
pub const MOST_CONNECTIONS: usize = 16;

/// A client of one HTTP/2 server. Clones share its connections; idle ones are closed after the time that the options give.
pub struct Multiplexed<B>(Arc<Inner<B>>);

struct Inner<B> {
    connector: Connector,
    options: ClientOptions,
    calls_per_connection: usize,
    /// In the order of their opening. A lane stays, its connection comes and goes.
    lanes: [OnceLock<Lane<B>>; MOST_CONNECTIONS],
}

/// One connection, and the calls on it.
struct Lane<B> {
    client: Client<Connector, B>,
    calls: Arc<AtomicUsize>,
}

impl<B> Multiplexed<B> {
    /// A client that connects with its first call.
    #[must_use]
    pub fn new(connector: Connector, options: ClientOptions) -> Self {
        Self::with_limit(connector, options, CALLS_PER_CONNECTION)
    }

    fn with_limit(
        connector: Connector,
        options: ClientOptions,
        calls_per_connection: usize,
    ) -> Self {
        Self(Arc::new(Inner {
            connector,
            options: ClientOptions {
                http2_only: true,
                ..options
            },
            calls_per_connection,
            lanes: [const { OnceLock::new() }; MOST_CONNECTIONS],
        }))
    }

    /// Calls under way: those that wait for their answer, and those whose answer is still being read.
    #[must_use]
    pub fn calls(&self) -> usize {
        let lanes = self.0.lanes.iter().filter_map(OnceLock::get);
        lanes.map(|lane| lane.calls.load(Ordering::Relaxed)).sum()
    }
}

impl<B> Multiplexed<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Sends a request; the place on the connection is held until the answer's body ends.
    pub fn request(&self, request: Request<B>) -> Answering {
        let (lane, place) = self.enter();
        Answering {
            answer: lane.client.request(request),
            place: Some(place),
        }
    }

    /// A place on the first connection that has one free, or else on the one with the fewest calls.
    fn enter(&self) -> (&Lane<B>, Place) {
        let mut fewest: Option<(usize, &Lane<B>, Place)> = None;
        for slot in &self.0.lanes {
            let lane = slot.get_or_init(|| self.0.open());
            let (before, place) = Place::take(&lane.calls);
            if before < self.0.calls_per_connection {
                return (lane, place);
            }
            if fewest.as_ref().is_none_or(|(least, ..)| before < *least) {
                fewest = Some((before, lane, place));
            }
        }
        let (_, lane, place) = fewest.expect("there is at least one lane");
        (lane, place)
    }
}

impl<B> Inner<B>
where
    B: Body + Send,
    B::Data: Send,
{
    fn open(&self) -> Lane<B> {
        Lane {
            client: client(self.connector.clone(), self.options.clone()),
            calls: Arc::default(),
        }
    }
}

impl<B> Clone for Multiplexed<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Generated gRPC clients take it as it is.
impl<B> tower::Service<Request<B>> for Multiplexed<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Answer>;
    type Error = legacy::Error;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), legacy::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Answering {
        self.request(request)
    }
}

/// A call's place on a connection, given back when it is dropped.
struct Place(Arc<AtomicUsize>);

impl Place {
    /// A place, and how many were taken before.
    fn take(calls: &Arc<AtomicUsize>) -> (usize, Self) {
        let before = calls.fetch_add(1, Ordering::Relaxed);
        (before, Self(Arc::clone(calls)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A call that waits for its answer.
pub struct Answering {
    answer: ResponseFuture,
    place: Option<Place>,
}

impl Future for Answering {
    type Output = Result<Response<Answer>, legacy::Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(context));
        let place = self.place.take();
        Poll::Ready(answer.map(|answer| answer.map(|body| Answer { body, place })))
    }
}

/// The body of an answer; it holds the call's place.
pub struct Answer {
    body: Incoming,
    place: Option<Place>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            self.place = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::convert::Infallible;
    use std::net::SocketAddr;
    use std::sync::Mutex;

    use http_body_util::{BodyExt, Empty, Full};
    use tokio::sync::Semaphore;
    use tokio::task::JoinSet;
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::{Listener, Peer, ServerOptions, serve};

    /// A server that holds every answer back until it is told, and knows the connections it was called on.
    struct Server {
        address: SocketAddr,
        gate: Arc<Semaphore>,
        arrived: Arc<Semaphore>,
        connections: Arc<Mutex<BTreeSet<Option<SocketAddr>>>>,
        shutdown: CancellationToken,
    }

    impl Server {
        fn start(max_concurrent_streams: u32) -> Self {
            let listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
            let server = Self {
                address: listener.local_addr().unwrap(),
                gate: Arc::new(Semaphore::new(0)),
                arrived: Arc::new(Semaphore::new(0)),
                connections: Arc::default(),
                shutdown: CancellationToken::new(),
            };
            let (gate, arrived) = (Arc::clone(&server.gate), Arc::clone(&server.arrived));
            let connections = Arc::clone(&server.connections);
            let service = tower::service_fn(move |request: Request<crate::RequestBody>| {
                let peer = request.extensions().get::<Peer>().unwrap();
                connections.lock().unwrap().insert(peer.address);
                arrived.add_permits(1);
                let gate = Arc::clone(&gate);
                async move {
                    drop(gate.acquire().await);
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"answer"))))
                }
            });
            let options = ServerOptions {
                max_concurrent_streams,
                ..ServerOptions::default()
            };
            let shutdown = server.shutdown.clone();
            TaskTracker::new().spawn(async move {
                serve(listener, options, service, shutdown).await;
            });
            server
        }

        /// Calls the server so many times at once.
        fn call(&self, client: &Multiplexed<Empty<Bytes>>, calls: usize) -> JoinSet<Bytes> {
            let uri = format!("http://{}/", self.address);
            let calls = (0..calls).map(|_| {
                let request = Request::builder().uri(&uri).body(Empty::new()).unwrap();
                let answering = client.request(request);
                async move {
                    let answer = answering.await.unwrap();
                    answer.into_body().collect().await.unwrap().to_bytes()
                }
            });
            calls.collect()
        }

        /// Waits until so many calls have reached the server.
        async fn arrived(&self, calls: u32) {
            drop(self.arrived.acquire_many(calls).await.unwrap());
        }

        fn connections(&self) -> usize {
            self.connections.lock().unwrap().len()
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            self.shutdown.cancel();
        }
    }

    fn client(calls_per_connection: usize) -> Multiplexed<Empty<Bytes>> {
        let options = ClientOptions::default();
        Multiplexed::with_limit(Connector::plain(), options, calls_per_connection)
    }

    #[tokio::test]
    async fn a_connection_is_filled_before_the_next_is_opened() {
        let (server, client) = (Server::start(1000), client(10));
        let calls = server.call(&client, 25);
        server.arrived(25).await;
        assert_eq!((client.calls(), server.connections()), (25, 3));
        server.gate.add_permits(1);
        let answers = calls.join_all().await;
        assert!(answers.iter().all(|answer| answer == "answer"));
        assert_eq!(client.calls(), 0);
        server.call(&client, 1).join_all().await;
        assert_eq!(server.connections(), 3, "what is free is used again");
    }

    #[tokio::test]
    async fn calls_wait_for_a_server_that_allows_few_at_a_time() {
        let (server, client) = (Server::start(2), client(CALLS_PER_CONNECTION));
        server.gate.add_permits(1);
        let answers = server.call(&client, 200).join_all().await;
        assert!(answers.iter().all(|answer| answer == "answer"));
        assert_eq!(server.connections(), 1);
    }

    #[tokio::test]
    async fn beyond_every_limit_calls_share() {
        let (server, client) = (Server::start(1000), client(1));
        let calls = server.call(&client, 2 * MOST_CONNECTIONS);
        server.arrived(2 * MOST_CONNECTIONS as u32).await;
        assert_eq!(server.connections(), MOST_CONNECTIONS);
        server.gate.add_permits(1);
        calls.join_all().await;
        assert_eq!(client.calls(), 0);
    }

    #[tokio::test]
    async fn a_call_that_is_given_up_gives_its_place_back() {
        let (server, client) = (Server::start(1000), client(1));
        let mut calls = server.call(&client, 1);
        assert_eq!(client.calls(), 1);
        calls.shutdown().await;
        assert_eq!(client.calls(), 0);
    }
}
