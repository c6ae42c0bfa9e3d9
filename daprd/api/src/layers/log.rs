//! The API log: one line a call, when it is switched on (contract 10.9).

use std::{fmt, time::Duration};

use http::HeaderValue;

/// What the API log shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct ApiLog {
    pub enabled: bool,
    /// Show the operation's name instead of the URL.
    pub obfuscate_urls: bool,
    /// Leave health checks out.
    pub omit_health_checks: bool,
}

/// A call that has ended.
pub struct Line<'a> {
    /// `GET /v1.0/...`, or the gRPC method.
    pub method: fmt::Arguments<'a>,
    /// The operation's name, shown where URLs are not.
    pub name: &'a str,
    pub user_agent: Option<&'a HeaderValue>,
    /// HTTP status or gRPC code.
    pub code: u16,
    pub duration: Duration,
    pub health_check: bool,
}

impl ApiLog {
    /// Writes the line of an HTTP call.
    pub fn http(&self, line: &Line<'_>) {
        if let Some(method) = self.shown(line) {
            tracing::info!(
                target: "dapr.runtime.http-info",
                method,
                useragent = line.user_agent(),
                code = line.code,
                duration = line.duration.as_millis() as u64,
                "HTTP API Called"
            );
        }
    }

    /// Writes the line of a gRPC call.
    pub fn grpc(&self, line: &Line<'_>) {
        if let Some(method) = self.shown(line) {
            tracing::info!(
                target: "dapr.runtime.grpc.api-info",
                method,
                useragent = line.user_agent(),
                code = line.code,
                duration = line.duration.as_millis() as u64,
                "gRPC API Called"
            );
        }
    }

    fn shown(&self, line: &Line<'_>) -> Option<String> {
        let hidden = line.health_check && self.omit_health_checks;
        if !self.enabled || hidden {
            return None;
        }
        Some(if self.obfuscate_urls {
            line.name.to_owned()
        } else {
            line.method.to_string()
        })
    }
}

impl Line<'_> {
    fn user_agent(&self) -> &str {
        let text = self.user_agent.and_then(|value| value.to_str().ok());
        text.unwrap_or_default()
    }
}
