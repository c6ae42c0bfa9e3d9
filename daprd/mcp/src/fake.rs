//! An MCP server in memory, over both HTTP transports, and what a sidecar reaches it with.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use axum::{Router, body::Body as AxumBody, routing};
use bytes::Bytes;
use component::{
    Body, Lent, Result, Spawn, body,
    outgoing::{HttpClient, HttpClients, Identity, Tls, Unsent, X509Svid},
};
use crds::{McpServer, NameValuePair};
use futures::{StreamExt, channel::mpsc, future::BoxFuture};
use http::{HeaderMap, Request, Response, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::Values;

/// The server, and what it has seen.
#[derive(Clone, Default)]
pub struct Fake(Arc<State>);

#[derive(Default)]
struct State {
    tools: Mutex<Vec<Value>>,
    /// Headers of what came, and its method.
    seen: Mutex<VecDeque<(String, HeaderMap)>>,
    /// So many requests are refused.
    refuse: AtomicUsize,
    /// So many calls of tools are taken, and not answered.
    break_off: AtomicUsize,
    /// So many requests do not reach it.
    away: AtomicUsize,
    /// Sessions so far; the last one holds.
    session: AtomicU64,
    /// The stream of the older transport.
    stream: Mutex<Option<mpsc::UnboundedSender<Bytes>>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Fake {
    pub fn new(tools: &[&str]) -> Self {
        let fake = Self::default();
        let schema = json!({ "type": "object", "required": ["text"] });
        let tools = tools.iter();
        *fake.0.tools.lock() = tools
            .map(|name| json!({ "name": name, "inputSchema": schema, "_meta": { "kept": true } }))
            .collect();
        fake
    }

    /// Refuses so many requests from now on.
    pub fn refuse(&self, requests: usize) {
        self.0.refuse.store(requests, Ordering::SeqCst);
    }

    /// Breaks the connection off at so many calls of tools, after it has taken them.
    pub fn break_off(&self, calls: usize) {
        self.0.break_off.store(calls, Ordering::SeqCst);
    }

    /// So many requests do not reach it.
    pub fn away(&self, requests: usize) {
        self.0.away.store(requests, Ordering::SeqCst);
    }

    /// Forgets its session, and ends its stream.
    pub fn restart(&self) {
        self.0.session.fetch_add(1, Ordering::SeqCst);
        *self.0.stream.lock() = None;
    }

    /// The headers of all that came with a method.
    pub fn seen(&self, method: &str) -> Vec<HeaderMap> {
        let seen = self.0.seen.lock();
        let of = seen.iter().filter(|(seen, _)| seen == method);
        of.map(|(_, headers)| headers.clone()).collect()
    }

    /// What reaches it, and runs tasks.
    pub fn lent(&self) -> Lent {
        Lent {
            http: Arc::new(self.clone()),
            identity: Arc::new(self.clone()),
            ..Lent::default()
        }
    }

    /// A resource with an endpoint.
    pub fn resource(name: &str, endpoint: &Value) -> McpServer {
        let json = json!({
            "apiVersion": "dapr.io/v1alpha1", "kind": "MCPServer", "metadata": { "name": name },
            "spec": { "endpoint": endpoint },
        });
        serde_json::from_value(json).unwrap()
    }

    fn router(&self) -> Router {
        let (post, delete, get, message) = (self.clone(), self.clone(), self.clone(), self.clone());
        Router::new()
            .route(
                "/mcp",
                routing::post(move |headers: HeaderMap, body: Bytes| async move {
                    post.streamable(&headers, &body)
                })
                .delete(move |headers: HeaderMap| async move {
                    delete.saw("DELETE", headers);
                    StatusCode::OK
                }),
            )
            .route("/sse", routing::get(move || async move { get.stream() }))
            .route(
                "/messages",
                routing::post(move |headers: HeaderMap, body: Bytes| async move {
                    message.message(headers, &body)
                }),
            )
            .route(
                "/token",
                routing::post(
                    |headers: HeaderMap, body: String| async move { token(&headers, &body) },
                ),
            )
    }

    fn saw(&self, method: &str, headers: HeaderMap) {
        self.0.seen.lock().push_back((method.to_owned(), headers));
    }

    fn streamable(&self, headers: &HeaderMap, body: &[u8]) -> Response<AxumBody> {
        let plain = |status: StatusCode, text: &'static str| {
            let mut response = Response::new(AxumBody::from(text));
            *response.status_mut() = status;
            response
        };
        if one_less(&self.0.refuse) {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "not yet");
        }
        let message: Value = serde_json::from_slice(body).unwrap();
        let method = message["method"].as_str().unwrap_or("answer").to_owned();
        self.saw(&method, headers.clone());
        let session = self.0.session.load(Ordering::SeqCst).to_string();
        if method == "initialize" {
            let mut response = Response::new(AxumBody::from(self.answer(&message).to_string()));
            let headers = response.headers_mut();
            headers.insert("content-type", "application/json".parse().unwrap());
            headers.insert("mcp-session-id", session.parse().unwrap());
            return response;
        }
        if headers
            .get("mcp-session-id")
            .is_none_or(|it| it.as_bytes() != session.as_bytes())
        {
            return plain(StatusCode::NOT_FOUND, "no such session");
        }
        if message.get("id").is_none() || method == "answer" {
            return plain(StatusCode::ACCEPTED, "");
        }
        if method == "tools/call" && one_less(&self.0.break_off) {
            let mut response = Response::new(AxumBody::from(": hello\n\n"));
            let kind = "text/event-stream".parse().unwrap();
            response.headers_mut().insert("content-type", kind);
            return response;
        }
        // A server may ask something in between.
        let events = format!(
            ": hello\n\ndata: {{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"ping\"}}\n\nevent: message\ndata: {}\n\n",
            self.answer(&message)
        );
        let mut response = Response::new(AxumBody::from(events));
        let kind = "text/event-stream; charset=utf-8".parse().unwrap();
        response.headers_mut().insert("content-type", kind);
        response
    }

    fn stream(&self) -> Response<AxumBody> {
        let (sender, receiver) = mpsc::unbounded();
        let first = "event: endpoint\ndata: /messages?session=1\n\n";
        sender.unbounded_send(Bytes::from(first)).unwrap();
        *self.0.stream.lock() = Some(sender);
        Response::new(AxumBody::from_stream(receiver.map(Ok::<_, Infallible>)))
    }

    fn message(&self, headers: HeaderMap, body: &[u8]) -> StatusCode {
        let message: Value = serde_json::from_slice(body).unwrap();
        self.saw(message["method"].as_str().unwrap(), headers);
        if message.get("id").is_none() {
            return StatusCode::ACCEPTED;
        }
        if message["method"] == "tools/call" && one_less(&self.0.break_off) {
            *self.0.stream.lock() = None;
            return StatusCode::ACCEPTED;
        }
        let event = format!("event: message\ndata: {}\n\n", self.answer(&message));
        let stream = self.0.stream.lock().clone();
        match stream.map(|stream| stream.unbounded_send(Bytes::from(event))) {
            Some(Ok(())) => StatusCode::ACCEPTED,
            _ => StatusCode::GONE,
        }
    }

    fn answer(&self, message: &Value) -> Value {
        let id = &message["id"];
        let params = &message["params"];
        let result = match message["method"].as_str().unwrap() {
            "initialize" => json!({ "protocolVersion": params["protocolVersion"] }),
            // A page has one tool.
            "tools/list" => {
                let tools = self.0.tools.lock();
                let at = params["cursor"]
                    .as_str()
                    .map_or(0, |at| at.parse().unwrap());
                let page: Vec<&Value> = tools.iter().skip(at).take(1).collect();
                let next = (at + 1 < tools.len()).then(|| (at + 1).to_string());
                json!({ "tools": page, "nextCursor": next })
            }
            "tools/call" if params["name"] == "broken" => {
                let error = json!({ "code": -32000, "message": "it is broken" });
                return json!({ "jsonrpc": "2.0", "id": id, "error": error });
            }
            "tools/call" => json!({ "content": [params["arguments"]["text"]] }),
            other => panic!("{other}"),
        };
        json!({ "jsonrpc": "2.0", "id": id, "result": result })
    }
}

fn one_less(left: &AtomicUsize) -> bool {
    let less = |left: usize| left.checked_sub(1);
    let before = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
    before.is_ok()
}

/// Takes the credentials in the form only, as some servers do.
fn token(headers: &HeaderMap, body: &str) -> impl axum::response::IntoResponse + use<> {
    let right =
        "grant_type=client_credentials&scope=a+b&audience=mcp&client_id=me&client_secret=s%3Dt";
    let (status, answer) = match body == right && !headers.contains_key("authorization") {
        true => (StatusCode::OK, r#"{"access_token":"t1","expires_in":"60"}"#),
        false => (StatusCode::UNAUTHORIZED, r#"{"error":"invalid_client"}"#),
    };
    (status, [("content-type", "application/json")], answer)
}

#[async_trait]
impl HttpClient for Fake {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>> {
        if one_less(&self.0.away) {
            let error = component::Error::new(component::ErrorKind::Unavailable, "no answer");
            return Err(error.with_source(Unsent("nobody is there".to_owned())));
        }
        let answer = self.router().oneshot(request.map(AxumBody::new)).await;
        let answer = answer.unwrap_or_else(|never| match never {});
        Ok(answer.map(body::streamed))
    }
}

impl HttpClients for Fake {
    fn client(&self, _: &Tls) -> Result<Arc<dyn HttpClient>> {
        Ok(Arc::new(self.clone()))
    }
}

impl Identity for Fake {
    fn x509(&self) -> Result<X509Svid> {
        Err(component::Error::unsupported("certificates"))
    }

    fn jwt(&self, audience: &str) -> Result<String> {
        Ok(format!("jwt for {audience}"))
    }
}

impl Spawn for Fake {
    fn spawn(&self, _: &str, task: BoxFuture<'static, ()>) {
        self.0.tasks.lock().spawn(task);
    }
}

/// Secrets are called as their references say.
#[async_trait]
impl Values for Fake {
    async fn value(
        &self,
        pair: &NameValuePair,
        store: Option<&str>,
    ) -> std::result::Result<String, String> {
        match (&pair.secret_key_ref, store) {
            (Some(secret), Some("vault")) => Ok(secret.name.clone()),
            (Some(_), store) => Err(format!("no store {store:?}")),
            (None, _) => Ok(pair.text().into_owned()),
        }
    }
}
