//! The two tiny HTTP servers of every program: metrics, and health with the pages beside it.

use std::convert::Infallible;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use prometheus::{Encoder as _, TextEncoder};
use tokio_util::sync::CancellationToken;

use crate::address::listen_address;
use crate::flags::{HealthOptions, MetricsOptions};
use crate::health::Health;
use crate::tasks::Registries;

type Answer = Response<Full<Bytes>>;

/// Binds the metrics port and returns the server for it.
pub(crate) fn metrics(
    options: &MetricsOptions,
    registries: Registries,
    shutdown: CancellationToken,
) -> anyhow::Result<impl Future<Output = anyhow::Result<()>> + Send + use<>> {
    let listener = bind(&options.host, options.port, "metrics")?;
    let service = tower::service_fn(move |request: Request<transport::RequestBody>| {
        let registries = registries.clone();
        async move { Ok::<_, Infallible>(scrape(request.method(), &registries)) }
    });
    Ok(async move {
        transport::serve(listener, small(), service, shutdown).await;
        Ok(())
    })
}

/// Binds the health port and returns the server for it.
pub(crate) fn health(
    options: &HealthOptions,
    health: Health,
    shutdown: CancellationToken,
) -> anyhow::Result<impl Future<Output = anyhow::Result<()>> + Send + use<>> {
    let listener = bind(&options.host, options.port, "healthz")?;
    let service = tower::service_fn(move |request: Request<transport::RequestBody>| {
        let health = health.clone();
        async move { Ok::<_, Infallible>(healthz(request.uri().path(), &health).await) }
    });
    Ok(async move {
        transport::serve(listener, small(), service, shutdown).await;
        Ok(())
    })
}

fn bind(host: &str, port: u16, what: &str) -> anyhow::Result<transport::Listener> {
    let address = listen_address(host, port)?;
    let listener = transport::Listener::bind(address)
        .with_context(|| format!("{what} server cannot listen on {address}"))?;
    tracing::info!("{what} server is listening on {address}");
    Ok(listener)
}

fn small() -> transport::ServerOptions {
    transport::ServerOptions {
        max_connections: MAX_CONNECTIONS,
        drain: DRAIN,
        ..transport::ServerOptions::default()
    }
}

// Compat: Q-metrics-path, every path answers, since `/` and `/metrics` are both in use.
fn scrape(method: &Method, registries: &Registries) -> Answer {
    if method != Method::GET && method != Method::HEAD {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "");
    }
    let encoder = TextEncoder::new();
    let mut body = Vec::with_capacity(INITIAL_BODY);
    if let Err(error) = encoder.encode(&registries.gather(), &mut body) {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    }
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    answer.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    answer
}

async fn healthz(path: &str, health: &Health) -> Answer {
    if path == "/healthz" {
        if health.is_ready() {
            return plain(StatusCode::OK, "");
        }
        let text = format!("targets are not ready: {:?}", health.unready());
        tracing::debug!("{text}");
        return plain(StatusCode::SERVICE_UNAVAILABLE, text);
    }
    let Some(page) = health.find_page(path) else {
        return plain(StatusCode::NOT_FOUND, "404 page not found\n");
    };
    match page().await {
        Ok(json) => {
            let mut answer = Response::new(Full::new(json));
            let kind = header::HeaderValue::from_static("application/json");
            answer.headers_mut().insert(header::CONTENT_TYPE, kind);
            answer
        }
        Err(text) => plain(StatusCode::INTERNAL_SERVER_ERROR, text),
    }
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

/// Scrapers and probes are few; more than this is a mistake of theirs.
const MAX_CONNECTIONS: usize = 256;

/// These answers are short, so open requests get a short time at the end.
const DRAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// A usual page of metrics, to save regrowing.
const INITIAL_BODY: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    async fn text(answer: Answer) -> (StatusCode, String) {
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn health_lists_what_is_missing() {
        let health = Health::default();
        let target = health.target("cache");
        let (status, body) = text(healthz("/healthz", &health).await).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("cache"), "{body}");
        target.ready();
        assert_eq!(
            text(healthz("/healthz", &health).await).await.0,
            StatusCode::OK
        );
        assert_eq!(
            text(healthz("/other", &health).await).await.0,
            StatusCode::NOT_FOUND
        );
    }

    #[tokio::test]
    async fn pages() {
        let health = Health::default();
        health.page("/state", || {
            Box::pin(async { Ok(Bytes::from_static(b"{}")) })
        });
        health.page("/bad", || Box::pin(async { Err("no".to_owned()) }));
        assert_eq!(
            text(healthz("/state", &health).await).await,
            (StatusCode::OK, "{}".into())
        );
        let bad = text(healthz("/bad", &health).await).await;
        assert_eq!(bad, (StatusCode::INTERNAL_SERVER_ERROR, "no".into()));
    }

    #[tokio::test]
    async fn metrics_of_process_and_program() {
        let registries = Registries::new().unwrap();
        let counter = prometheus::IntCounter::new("dapr_x_total", "x").unwrap();
        registries
            .current()
            .register(Box::new(counter.clone()))
            .unwrap();
        counter.inc();
        let (status, body) = text(scrape(&Method::GET, &registries)).await;
        assert_eq!(status, StatusCode::OK);
        assert!(body.contains("dapr_x_total 1"), "{body}");
        assert!(body.contains("process_resident_memory_bytes"), "{body}");
        assert!(body.contains("dapr_runtime_panics_total 0"), "{body}");
        registries.renew();
        let (_, body) = text(scrape(&Method::GET, &registries)).await;
        assert!(!body.contains("dapr_x_total"), "{body}");
        assert_eq!(
            text(scrape(&Method::POST, &registries)).await.0,
            StatusCode::METHOD_NOT_ALLOWED
        );
    }
}
