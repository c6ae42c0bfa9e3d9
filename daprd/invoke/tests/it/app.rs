//! An app, HTTP or gRPC, that does what the path says and keeps what became of each request's body.

use std::{
    convert::Infallible,
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use component::{Body, BoxError, body};
use futures::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::{Mutex, Notify, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use transport::RequestBody;
use transport::{Listener, ServerOptions};

use crate::soon;

/// What an app saw of one request: its bytes, or that it broke off.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    Whole(Bytes),
    Broken,
}

pub struct App {
    pub port: u16,
    seen: Mutex<mpsc::Receiver<Seen>>,
    shared: Arc<Shared>,
}

struct Shared {
    seen: mpsc::Sender<Seen>,
    requests: AtomicUsize,
    release: Notify,
}

impl App {
    pub fn start(tasks: &TaskTracker, shutdown: CancellationToken) -> Self {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, receiver) = mpsc::channel(100);
        let shared = Arc::new(Shared {
            seen: sender,
            requests: AtomicUsize::new(0),
            release: Notify::new(),
        });
        let of_service = Arc::clone(&shared);
        let service = tower::service_fn(move |request| {
            let shared = Arc::clone(&of_service);
            async move { Ok::<_, Infallible>(serve(request, &shared).await) }
        });
        tasks.spawn(async move {
            transport::serve(listener, ServerOptions::default(), service, shutdown).await;
        });
        Self {
            port,
            seen: Mutex::new(receiver),
            shared,
        }
    }

    /// What became of the next request.
    pub async fn seen(&self) -> Seen {
        soon(async { self.seen.lock().await.recv().await.unwrap() }).await
    }

    /// Requests that arrived.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Lets one request of `slow` go on.
    pub fn release(&self) {
        self.shared.release.notify_one();
    }
}

async fn serve(request: Request<RequestBody>, shared: &Shared) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let name = path.rsplit('/').next().unwrap_or_default();
    if name == "healthz" {
        return Response::new(body::empty());
    }
    if name == "HealthCheck" {
        return grpc(&[Ok(Bytes::from_static(&[0; 5]))], Some(0));
    }
    let number = shared.requests.fetch_add(1, Ordering::SeqCst) + 1;
    let is_grpc = request.headers().contains_key("te");
    let collected = request.into_body().collect().await;
    let read = collected.map(http_body_util::Collected::to_bytes).ok();
    let data = read.clone().unwrap_or_default();
    let seen = read.map_or(Seen::Broken, Seen::Whole);
    shared.seen.send(seen).await.unwrap();
    match name {
        "hang" | "slow" => shared.release.notified().await,
        "hang-once" if number == 1 => shared.release.notified().await,
        _ => {}
    }
    let broken = [Ok(Bytes::from_static(b"\0\0\0\0\x02ok")), Err(())];
    match (name, is_grpc) {
        ("break-at-once", true) => grpc(&broken[1..], None),
        ("break", true) => grpc(&broken, None),
        ("break-at-once", false) => Response::new(pieces(&broken[1..], None)),
        ("break", false) => Response::new(pieces(&broken, None)),
        ("fail-once", true) if number == 1 => grpc(&[], Some(14)),
        ("fail-once", false) if number == 1 => failed(503),
        ("missing", false) => failed(404),
        ("large", false) => Response::new(body::full(vec![0; crate::MAX_MESSAGE + 1])),
        (_, true) => grpc(&[Ok(data)], Some(0)),
        (_, false) => Response::new(body::full(data)),
    }
}

fn failed(status: u16) -> Response<Body> {
    let response = Response::builder().status(status);
    response.body(body::full("failed")).unwrap()
}

fn grpc(frames: &[Result<Bytes, ()>], status: Option<u8>) -> Response<Body> {
    let trailers = status.map(|status| {
        HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            HeaderValue::from(u16::from(status)),
        )])
    });
    let response = Response::builder().header("content-type", "application/grpc");
    response.body(pieces(frames, trailers)).unwrap()
}

/// Pieces that arrive one by one: what follows one is not sent with it.
fn pieces(frames: &[Result<Bytes, ()>], trailers: Option<HeaderMap>) -> Body {
    let data: Vec<_> = frames
        .iter()
        .map(|frame| match frame {
            Ok(data) => Ok(Frame::data(data.clone())),
            Err(()) => Err(BoxError::from("the app breaks off")),
        })
        .collect();
    let frames = data
        .into_iter()
        .chain(trailers.map(|it| Ok(Frame::trailers(it))));
    let spaced = stream::iter(frames).then(|frame| async {
        tokio::task::yield_now().await;
        frame
    });
    body::streamed(StreamBody::new(spaced))
}
