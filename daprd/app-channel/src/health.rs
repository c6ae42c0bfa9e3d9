//! The health of the app: a sync state machine, and the loop that probes.

use std::time::Duration;

use ::http::StatusCode;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use transport::Connector;

use crate::{AppChannel, DIAL_PAUSE, DIAL_TIMEOUT};

/// How the app's health is probed (contract 9.1).
#[derive(Clone, Debug)]
pub struct HealthOptions {
    /// Path of HTTP probes.
    pub path: String,
    pub interval: Duration,
    pub timeout: Duration,
    /// Failures in a row that make the app unhealthy.
    pub threshold: u32,
}

/// One success makes healthy, `threshold` failures in a row make unhealthy.
#[derive(Debug)]
struct State {
    threshold: u32,
    failures: u32,
    healthy: bool,
}

impl State {
    fn new(threshold: u32) -> Self {
        Self {
            threshold: threshold.max(1),
            failures: 0,
            healthy: false,
        }
    }

    /// The health after a probe.
    fn record(&mut self, success: bool) -> bool {
        if success {
            self.failures = 0;
            self.healthy = true;
        } else {
            self.failures = self.failures.saturating_add(1);
            if self.failures >= self.threshold {
                self.healthy = false;
            }
        }
        self.healthy
    }
}

/// Waits for the app, then keeps its health.
pub struct Probe {
    channel: AppChannel,
    options: Option<HealthOptions>,
}

impl Probe {
    pub(crate) fn new(channel: AppChannel, options: Option<HealthOptions>) -> Self {
        Self { channel, options }
    }

    /// Whether the app is asked for its health again and again, and not only waited for.
    pub fn is_lasting(&self) -> bool {
        self.options.is_some()
    }

    /// Waits until the app's port is open and cancels `found`, then probes until shutdown. Without probes the app is
    /// healthy from then on.
    pub async fn run(self, found: CancellationToken, shutdown: CancellationToken) {
        if !self.channel.is_configured() {
            found.cancel();
            return;
        }
        let waited = shutdown.run_until_cancelled(self.wait_for_port()).await;
        if waited.is_none() {
            return;
        }
        found.cancel();
        match &self.options {
            None => self.publish(true),
            Some(options) => {
                shutdown.run_until_cancelled(self.watch(options)).await;
            }
        }
    }

    async fn wait_for_port(&self) {
        let inner = &self.channel.0;
        let connector: Connector = inner
            .clients
            .connector
            .clone()
            .connect_timeout(DIAL_TIMEOUT);
        let mut told = false;
        while connector.connect(&inner.origin).await.is_err() {
            if !std::mem::replace(&mut told, true) {
                tracing::info!(
                    "application protocol: {:?}. waiting for application to listen on port {}",
                    inner.options.protocol,
                    inner.options.port.unwrap_or_default()
                );
            }
            tokio::time::sleep(DIAL_PAUSE).await;
        }
        tracing::info!(
            "application discovered on port {}",
            inner.options.port.unwrap_or_default()
        );
    }

    async fn watch(&self, options: &HealthOptions) {
        let mut state = State::new(options.threshold);
        let mut ticks = interval(options.interval.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let success = self.ask(options).await;
            let healthy = state.record(success);
            self.publish(healthy);
        }
    }

    /// One probe, counted and timed.
    async fn ask(&self, options: &HealthOptions) -> bool {
        let inner = &self.channel.0.options;
        let began = Instant::now();
        if self.channel.protocol().is_grpc() {
            let answer = timeout(options.timeout, self.channel.health_check()).await;
            let code = match answer {
                Ok(Ok(_)) => Code::Ok,
                Ok(Err(status)) => status.code(),
                Err(_) => Code::DeadlineExceeded,
            };
            let metrics = &inner.grpc_metrics;
            metrics.health_probe(code as i32, began.elapsed());
            return code == Code::Ok;
        }
        let answer = timeout(options.timeout, self.channel.probe(&options.path)).await;
        // An app that does not answer counts as one that fails.
        let status = answer.ok().flatten();
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let metrics = &inner.http_metrics;
        metrics.health_probe(status.as_u16(), began.elapsed());
        status.is_success()
    }

    fn publish(&self, healthy: bool) {
        let changed = self.channel.0.healthy.send_if_modified(|now| {
            let changed = *now != healthy;
            *now = healthy;
            changed
        });
        if changed && self.options.is_some() {
            tracing::info!(
                "App health probe: the app is {}",
                if healthy { "healthy" } else { "unhealthy" }
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_success_heals_and_a_row_of_failures_harms() {
        let mut state = State::new(2);
        assert!(!state.record(false));
        assert!(state.record(true));
        assert!(state.record(false));
        assert!(!state.record(false));
        assert!(state.record(true));
    }
}
