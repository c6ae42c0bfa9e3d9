//! The sidecar's HTTP API, as far as the sample uses it: an address on localhost and plain JSON.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_REPLY: usize = 1 << 20;

/// The sidecar of this pod.
pub struct Sidecar {
    client: Client<HttpConnector, Full<Bytes>>,
    base: String,
}

impl Sidecar {
    pub fn new() -> Self {
        let port = std::env::var("DAPR_HTTP_PORT").unwrap_or_else(|_| "3500".into());
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            base: format!("http://127.0.0.1:{port}/v1.0"),
        }
    }

    /// Waits for the sidecar, which starts when the app does and takes a moment longer.
    pub async fn ready(&self) {
        let mut looks = tokio::time::interval(Duration::from_millis(100));
        while self
            .call(Method::GET, "healthz/outbound", None)
            .await
            .is_err()
        {
            looks.tick().await;
        }
    }

    /// The value of a key, `Null` if there is none.
    pub async fn get_state(&self, store: &str, key: &str) -> Result<Value> {
        self.call(Method::GET, &format!("state/{store}/{key}"), None)
            .await
    }

    pub async fn save_state(&self, store: &str, key: &str, value: Value) -> Result<()> {
        let body = json!([{ "key": key, "value": value }]);
        self.call(Method::POST, &format!("state/{store}"), Some(body))
            .await
            .map(drop)
    }

    pub async fn invoke(&self, app: &str, method: &str, body: Value) -> Result<Value> {
        self.call(
            Method::POST,
            &format!("invoke/{app}/method/{method}"),
            Some(body),
        )
        .await
    }

    pub async fn publish(&self, pubsub: &str, topic: &str, event: Value) -> Result<()> {
        self.call(
            Method::POST,
            &format!("publish/{pubsub}/{topic}"),
            Some(event),
        )
        .await
        .map(drop)
    }

    /// Calls a method of an actor, wherever it is.
    pub async fn call_actor(&self, kind: &str, id: &str, method: &str, body: Value) -> Result<()> {
        let path = format!("actors/{kind}/{id}/method/{method}");
        self.call(Method::PUT, &path, Some(body)).await.map(drop)
    }

    /// The value of a key of an actor of this program, `Null` if there is none.
    pub async fn actor_state(&self, kind: &str, id: &str, key: &str) -> Result<Value> {
        let path = format!("actors/{kind}/{id}/state/{key}");
        self.call(Method::GET, &path, None).await
    }

    pub async fn save_actor_state(
        &self,
        kind: &str,
        id: &str,
        key: &str,
        value: Value,
    ) -> Result<()> {
        let change = json!([{ "operation": "upsert", "request": { "key": key, "value": value } }]);
        self.call(
            Method::POST,
            &format!("actors/{kind}/{id}/state"),
            Some(change),
        )
        .await
        .map(drop)
    }

    /// Sets a reminder of an actor of this program.
    pub async fn remind(&self, kind: &str, id: &str, name: &str, reminder: Value) -> Result<()> {
        let path = format!("actors/{kind}/{id}/reminders/{name}");
        self.call(Method::POST, &path, Some(reminder))
            .await
            .map(drop)
    }

    /// Starts a workflow of this program, under an id of the caller's.
    pub async fn start_workflow(&self, name: &str, id: &str, input: Value) -> Result<()> {
        let path = format!("workflows/dapr/{name}/start?instanceID={id}");
        self.call(Method::POST, &path, Some(input)).await.map(drop)
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/{path}", self.base))
            .header("content-type", "application/json")
            .body(Full::from(body))?;
        let exchange = async {
            let reply = self.client.request(request).await?;
            let status = reply.status();
            let body = Limited::new(reply.into_body(), MAX_REPLY).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
            ensure!(
                status.is_success(),
                "{status}: {}",
                String::from_utf8_lossy(&body)
            );
            if body.is_empty() {
                Ok(Value::Null)
            } else {
                Ok(serde_json::from_slice(&body)?)
            }
        };
        tokio::time::timeout(TIMEOUT, exchange)
            .await
            .context("no answer in time")?
    }
}
