//! The logger: one line per event in logrus's text or JSON form (contract 10.9), because log shippers
//! and tests read Dapr's lines by that form.
//!
//! It is a bare subscriber without spans. Which events pass depends only on their target and level, so
//! tracing caches the answer at each call site and a disabled line costs next to nothing.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use parking_lot::Mutex;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::flags::LogOptions;

mod format;

use format::{Constants, Fields};

/// Installs the logger for the whole process.
pub(crate) fn install(options: &LogOptions, scope: String) -> anyhow::Result<()> {
    let logger = Logger::new(options, scope, output(options.file.as_deref())?)?;
    tracing::subscriber::set_global_default(logger).context("a logger is already installed")
}

fn output(file: Option<&Path>) -> anyhow::Result<Output> {
    let Some(path) = file else {
        return Ok(Output::Standard);
    };
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("log file {} cannot be opened", path.display()))?;
    Ok(Output::File(Mutex::new(file)))
}

enum Output {
    Standard,
    File(Mutex<File>),
    #[cfg(test)]
    Memory(std::sync::Arc<Mutex<Vec<u8>>>),
}

impl Output {
    /// Writes one whole line. A reader that has gone away is no reason to fail, so errors are dropped.
    fn write(&self, line: &str) {
        match self {
            Output::Standard => std::io::stdout()
                .lock()
                .write_all(line.as_bytes())
                .unwrap_or(()),
            Output::File(file) => file.lock().write_all(line.as_bytes()).unwrap_or(()),
            #[cfg(test)]
            Output::Memory(lines) => lines.lock().extend_from_slice(line.as_bytes()),
        }
    }
}

struct Logger {
    level: LevelFilter,
    json: bool,
    constants: Constants,
    output: Output,
}

impl Logger {
    fn new(options: &LogOptions, scope: String, output: Output) -> anyhow::Result<Self> {
        Ok(Logger {
            level: level(&options.level)?,
            json: options.json,
            constants: Constants {
                scope,
                app_id: options.app_id.clone().filter(|id| !id.is_empty()),
                instance: instance(),
                version: crate::version(),
            },
            output,
        })
    }

    fn admits(&self, metadata: &Metadata<'_>) -> bool {
        if metadata.is_span() {
            return false;
        }
        let level = *metadata.level();
        if own(metadata.target()) {
            return level <= self.level;
        }
        // Libraries chat: theirs is only wanted by someone who debugs, and then not their own debug lines.
        self.level >= LevelFilter::DEBUG && level <= Level::INFO
    }
}

impl Subscriber for Logger {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.admits(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.admits(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let target = event.metadata().target();
        if target.starts_with(SCOPES) {
            fields.default_scope(target);
        }
        let now = format::timestamp(jiff::Timestamp::now(), &jiff::tz::TimeZone::system());
        let level = level_name(*event.metadata().level());
        let line = if self.json {
            format::json(fields, &self.constants, &now, level)
        } else {
            format::text(fields, &self.constants, &now, level)
        };
        self.output.write(&line);
    }

    // Spans are not recorded: traces have a tracer of their own.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn level(name: &str) -> anyhow::Result<LevelFilter> {
    match name.to_ascii_lowercase().as_str() {
        "debug" => Ok(LevelFilter::DEBUG),
        "info" => Ok(LevelFilter::INFO),
        "warn" => Ok(LevelFilter::WARN),
        // The line that explains a failed start is an error with the field `level=fatal`.
        "error" | "fatal" => Ok(LevelFilter::ERROR),
        _ => Err(anyhow!("invalid value for --log-level: {name}")),
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        _ => "debug",
    }
}

/// Name of this machine or pod. The kernel is asked, not the environment, as Go does.
fn instance() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}

/// Whether a target is one of this product's: a scope, or a module of its own crates.
fn own(target: &str) -> bool {
    if target.starts_with(SCOPES) {
        return true;
    }
    let root = target.split("::").next().unwrap_or(target);
    root.starts_with("component") || OWN.contains(&root)
}

/// Targets that begin so are scopes themselves.
const SCOPES: &str = "dapr.";

/// Crates of this product, as they appear in module paths.
const OWN: &[&str] = &[
    "actors",
    "api",
    "app_channel",
    "bindings",
    "blocks",
    "cli",
    "configuration",
    "crds",
    "daemon",
    "daprd",
    "dashboard",
    "expressions",
    "injector",
    "invoke",
    "jobs",
    "operator",
    "peers",
    "placement",
    "placement_table",
    "proto",
    "pubsub",
    "resiliency",
    "scheduler",
    "security",
    "sentry",
    "settings",
    "telemetry",
    "tokens",
    "transport",
    "values",
    "workflow",
];

#[cfg(test)]
mod tests;
