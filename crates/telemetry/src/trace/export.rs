//! Batches of finished spans on their way to the collectors. What a collector does not take in a few
//! attempts is dropped; nothing here can slow down a request.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::options::{SERVICE_NAME, TraceOptions};
use super::span::Record;
use crate::Error;

mod log;
mod otlp;
mod otlp_messages;
mod zipkin;

/// All exporters of a tracer and the queue in front of them.
pub struct ExportTask {
    queue: mpsc::Receiver<Record>,
    exporters: Vec<Exporter>,
}

struct Exporter {
    name: &'static str,
    target: Target,
    failing: bool,
}

enum Target {
    Log,
    Zipkin(zipkin::Zipkin),
    Otlp(otlp::Otlp),
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
enum Refused {
    /// Worth another attempt.
    #[error("{0}")]
    Later(String),
    /// Not worth one.
    #[error("{0}")]
    Never(String),
}

/// Attributes of everything that this process sends.
type Resource = Arc<[(String, String)]>;

impl ExportTask {
    pub(super) fn new(
        options: &TraceOptions,
        queue: mpsc::Receiver<Record>,
    ) -> Result<Self, Error> {
        let mut resource = vec![(SERVICE_NAME.to_owned(), options.service_name.clone())];
        resource.extend(options.resource.iter().cloned());
        let resource: Resource = resource.into();
        let mut exporters = Vec::new();
        let mut add = |name, target| {
            exporters.push(Exporter {
                name,
                target,
                failing: false,
            })
        };
        if options.stdout {
            add("stdout", Target::Log);
        }
        if let Some(endpoint) = options
            .zipkin
            .as_deref()
            .filter(|endpoint| !endpoint.is_empty())
        {
            add(
                "zipkin",
                Target::Zipkin(zipkin::Zipkin::new(endpoint, resource.clone())?),
            );
        }
        if let Some(otlp) = options
            .otlp
            .as_ref()
            .filter(|otlp| !otlp.endpoint.is_empty())
        {
            add("otlp", Target::Otlp(otlp::Otlp::new(otlp, resource)?));
        }
        Ok(ExportTask { queue, exporters })
    }

    /// Whether anyone wants spans.
    pub(super) fn exports(&self) -> bool {
        !self.exporters.is_empty()
    }

    /// Exports spans until shutdown, then once more what is left. Ends at once when nobody wants spans.
    pub async fn run(mut self, shutdown: CancellationToken) {
        if !self.exports() {
            return;
        }
        let mut tick = interval(DELAY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let full = batch.len() >= BATCH;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                _ = tick.tick() => self.send(&mut batch).await,
                count = self.queue.recv_many(&mut batch, BATCH), if !full => {
                    if count == 0 {
                        break;
                    }
                    if batch.len() >= BATCH {
                        self.send(&mut batch).await;
                    }
                }
            }
        }
        self.queue.close();
        let last = async {
            while self.queue.recv_many(&mut batch, BATCH).await > 0 {
                self.send(&mut batch).await;
            }
            self.send(&mut batch).await;
        };
        if timeout(LAST_FLUSH, last).await.is_err() {
            tracing::warn!(target: "dapr.runtime.trace", "spans were dropped: collectors are too slow at shutdown");
        }
    }

    async fn send(&mut self, batch: &mut Vec<Record>) {
        if batch.is_empty() {
            return;
        }
        for exporter in &mut self.exporters {
            exporter.send(batch).await;
        }
        batch.clear();
    }
}

impl Exporter {
    async fn send(&mut self, batch: &[Record]) {
        let give_up = Instant::now() + MAX_RETRYING;
        let mut delay = FIRST_RETRY;
        let result = loop {
            match self.target.send(batch).await {
                Err(Refused::Later(_)) if Instant::now() + delay < give_up => {
                    tokio::time::sleep(delay).await;
                    delay *= 2;
                }
                result => break result,
            }
        };
        match result {
            Ok(()) => self.failing = false,
            // One line per outage, not per batch.
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::warn!(target: "dapr.runtime.trace", "trace exporter {} failed, spans are dropped: {error}", self.name);
            }
            Err(_) => {}
        }
    }
}

impl Target {
    async fn send(&self, batch: &[Record]) -> Result<(), Refused> {
        match self {
            Target::Log => {
                log::send(batch);
                Ok(())
            }
            Target::Zipkin(zipkin) => zipkin.send(batch).await,
            Target::Otlp(otlp) => otlp.send(batch).await,
        }
    }
}

/// An HTTP client for a collector. Roots are only loaded where TLS is wanted: they cost memory, and an
/// image may have none.
fn client(
    exporter: &'static str,
    secure: bool,
    grpc: bool,
    limit: Duration,
) -> Result<reqwest::Client, Error> {
    let mut builder = reqwest::Client::builder()
        .timeout(limit)
        .tcp_nodelay(true)
        .no_proxy();
    if !secure {
        builder = builder.tls_certs_only([]);
    }
    if grpc {
        builder = builder.http2_prior_knowledge();
    }
    builder.build().map_err(|error| Error::Exporter {
        exporter,
        reason: error.to_string(),
    })
}

/// Whether an HTTP status asks for another attempt.
fn refused(status: http::StatusCode) -> Refused {
    let text = format!("status {status}");
    match status.as_u16() {
        429 | 502..=504 => Refused::Later(text),
        _ => Refused::Never(text),
    }
}

/// How long spans wait for company.
const DELAY: Duration = Duration::from_secs(1);

/// Spans sent at once.
const BATCH: usize = 512;

/// Time for what is left at shutdown.
const LAST_FLUSH: Duration = Duration::from_secs(3);

/// Time spent on one batch beyond its first attempt.
const MAX_RETRYING: Duration = Duration::from_secs(15);

const FIRST_RETRY: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
