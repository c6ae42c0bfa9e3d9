//! An HTTP app that answers as it is told and keeps what it was sent.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tokio::sync::{Mutex, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use transport::{Listener, RequestBody, ServerOptions};

use crate::soon;

/// A request that the app has got and not answered yet.
pub struct Event {
    pub path: String,
    pub headers: http::HeaderMap,
    pub body: Value,
    answer: tokio::sync::oneshot::Sender<(u16, String)>,
}

impl Event {
    pub fn answer(self, status: u16, body: &str) {
        self.answer.send((status, body.to_owned())).unwrap();
    }
}

pub struct App {
    pub port: u16,
    events: Mutex<mpsc::Receiver<Event>>,
}

impl App {
    pub fn start(subscriptions: &str, tasks: &TaskTracker, shutdown: CancellationToken) -> Self {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, receiver) = mpsc::channel(100);
        let subscriptions: Arc<str> = subscriptions.into();
        let service = tower::service_fn(move |request| {
            let (sender, subscriptions) = (sender.clone(), Arc::clone(&subscriptions));
            async move { Ok::<_, Infallible>(serve(request, &sender, &subscriptions).await) }
        });
        tasks.spawn(async move {
            let options = ServerOptions::default();
            transport::serve(listener, options, service, shutdown).await;
        });
        Self {
            port,
            events: Mutex::new(receiver),
        }
    }

    /// The next event.
    pub async fn event(&self) -> Event {
        soon(async { self.events.lock().await.recv().await.unwrap() }).await
    }
}

async fn serve(
    request: Request<RequestBody>,
    events: &mpsc::Sender<Event>,
    subscriptions: &str,
) -> Response<Full<Bytes>> {
    if request.uri().path() == "/dapr/subscribe" {
        return Response::new(Full::new(subscriptions.to_owned().into()));
    }
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let (answer, answered) = tokio::sync::oneshot::channel();
    let event = Event {
        path: parts.uri.path().to_owned(),
        headers: parts.headers,
        body: serde_json::from_slice(&body).unwrap(),
        answer,
    };
    events.send(event).await.unwrap();
    let (status, body) = answered.await.unwrap_or((500, String::new()));
    let response = Response::builder().status(status);
    response.body(Full::new(body.into())).unwrap()
}
