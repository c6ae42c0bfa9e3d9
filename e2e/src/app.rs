//! A test app: routes a test programs, every call recorded, HTTP and the gRPC callbacks on one port.

mod callbacks;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{HeaderMap, Method};
use serde_json::Value;
use tokio::sync::watch;

use crate::serve::{Served, serve, serve_at};
use crate::{ports, wait};

pub use callbacks::Callbacks;

/// One call that reached the app.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Call {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("no JSON ({error}): {}", String::from_utf8_lossy(&self.body))
        })
    }

    /// A header as text, empty if absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("an ASCII header"))
    }
}

/// What the app answers.
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Answer {
    /// A status without body.
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// 200 with a JSON body.
    pub fn json(body: &Value) -> Self {
        Self::bytes(body.to_string()).header("content-type", "application/json")
    }

    /// 200 with any body.
    pub fn bytes(body: impl Into<Bytes>) -> Self {
        Self {
            status: 200,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Replaces the status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }
}

type Responder = Arc<dyn Fn(Call) -> BoxFuture<'static, Answer> + Send + Sync>;

#[derive(Default)]
struct Shared {
    routes: HashMap<String, Responder>,
    calls: Mutex<Vec<Call>>,
}

/// How the app behaves; unknown paths answer 404.
#[derive(Default)]
pub struct Builder {
    routes: HashMap<String, Responder>,
    callbacks: Option<Callbacks>,
    port: Option<u16>,
}

impl Builder {
    /// A fixed answer for a path, or for `METHOD /path` only.
    #[must_use]
    pub fn route(self, path: &str, answer: Answer) -> Self {
        self.respond(path, move |_| {
            let answer = answer.clone();
            async move { answer }
        })
    }

    /// An answer computed from the call, for a path, or for `METHOD /path` only.
    #[must_use]
    pub fn respond<F, Fut>(mut self, path: &str, responder: F) -> Self
    where
        F: Fn(Call) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        self.routes.insert(
            path.to_owned(),
            Arc::new(move |call| responder(call).boxed()),
        );
        self
    }

    /// What `GET /dapr/subscribe` answers.
    #[must_use]
    pub fn subscriptions(self, subscriptions: &Value) -> Self {
        self.route("GET /dapr/subscribe", Answer::json(subscriptions))
    }

    /// Serves the gRPC callbacks, too.
    #[must_use]
    pub fn callbacks(mut self, callbacks: Callbacks) -> Self {
        self.callbacks = Some(callbacks);
        self
    }

    /// Listens on a port the test chose, to appear only after its sidecar.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Answers health checks with 200 while `healthy` holds true, and else with 503.
    #[must_use]
    pub fn health(self, healthy: watch::Receiver<bool>) -> Self {
        self.respond("/healthz", move |_| {
            let status = if *healthy.borrow() { 200 } else { 503 };
            async move { Answer::status(status) }
        })
    }

    /// Starts listening.
    pub async fn start(self) -> App {
        let shared = Arc::new(Shared {
            routes: self.routes,
            calls: Mutex::default(),
        });
        let mut router = Router::new();
        if let Some(callbacks) = self.callbacks {
            router = callbacks.mount(router);
        }
        let router = router.fallback(answer).with_state(Arc::clone(&shared));
        let served = match self.port {
            Some(port) => serve_at(port, router).await,
            None => serve(router).await,
        };
        App { shared, served }
    }
}

/// A running app.
pub struct App {
    shared: Arc<Shared>,
    served: Served,
}

impl App {
    /// An app to give routes.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A port for [`Builder::port`].
    pub fn reserve_port() -> u16 {
        ports::reserve().release()
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.served.port()
    }

    /// The calls of a path until now, in order of arrival.
    pub fn calls(&self, path: &str) -> Vec<Call> {
        let calls = self.shared.calls.lock().expect("nobody panics with it");
        calls
            .iter()
            .filter(|call| call.path == path)
            .cloned()
            .collect()
    }

    /// Waits until a path was called `count` times.
    pub async fn called(&self, path: &str, count: usize) -> Vec<Call> {
        let what = format!("{count} calls of {path}");
        wait::until(&what, wait::DEADLINE, || async {
            let calls = self.calls(path);
            (calls.len() >= count).then_some(calls)
        })
        .await
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    // An upload that breaks off counts as an empty body; the test sees it by what was recorded.
    let body = axum::body::to_bytes(body, usize::MAX)
        .await
        .unwrap_or_default();
    let call = Call {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        body,
    };
    shared
        .calls
        .lock()
        .expect("nobody panics with it")
        .push(call.clone());
    let exact = format!("{} {}", call.method, call.path);
    let responder = shared
        .routes
        .get(&exact)
        .or_else(|| shared.routes.get(&call.path))
        .cloned();
    let answer = match responder {
        Some(responder) => responder(call).await,
        None => Answer::status(404),
    };
    let mut response = Response::builder().status(answer.status);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response
        .body(answer.body.into())
        .expect("tests answer valid headers")
}

#[cfg(test)]
mod tests {
    use proto::common::v1::InvokeRequest;
    use proto::runtime::v1::app_callback_client::AppCallbackClient;
    use serde_json::json;

    use super::*;
    use crate::http::Client;
    use crate::mesh;

    #[tokio::test]
    async fn one_port_for_http_and_grpc() {
        let callbacks = Callbacks::default();
        let app = App::builder()
            .route("/a", Answer::json(&json!({"n": 1})))
            .route("POST /a", Answer::status(204).header("x", "y"))
            .callbacks(callbacks.clone())
            .start()
            .await;
        for client in
            [Client::new, Client::h2c].map(|new| new(format!("http://127.0.0.1:{}", app.port())))
        {
            assert_eq!(
                client.get("/a?q=1").await.expect_status(200).json(),
                json!({"n": 1})
            );
            assert_eq!(
                client
                    .post("/a", &json!(2))
                    .await
                    .expect_status(204)
                    .header("x"),
                "y"
            );
            client.get("/unknown").await.expect_status(404);
        }
        let calls = app.called("/a", 4).await;
        assert_eq!(
            (calls[0].query.as_str(), calls[1].json()),
            ("q=1", json!(2))
        );

        let mut grpc = AppCallbackClient::new(mesh::plain(app.port()));
        let request = InvokeRequest {
            method: "m".into(),
            ..Default::default()
        };
        let reply = grpc.on_invoke(request).await.expect("served beside HTTP");
        assert_eq!(
            reply.metadata().get("x-app").expect("set by the app"),
            "called"
        );
        assert_eq!(callbacks.invocations().len(), 1);
    }
}
